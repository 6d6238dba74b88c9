// The git helpers, with a bare repository inside the sandbox in place of a server.
import { assert, check, equal, raises, run } from './harness.mjs'

async function repository() {
  const path = `${await run.folder()}/repo`
  const { git } = run.sb
  await git.init(path, { initialBranch: 'main' })
  await git.configureUser('Suite', 'suite@example.com', { scope: 'local', path })
  await run.sb.files.write(`${path}/README`, 'first\n')
  await git.add(path)
  await git.commit(path, 'first')
  return [git, path]
}

check(['git.init', 'git.add', 'git.commit', 'git.status', 'git.configureUser'], 'commit_and_status', async () => {
  const [git, path] = await repository()
  const clean = await git.status(path)
  equal([clean.currentBranch, clean.fileStatus], ['main', []])
  await run.sb.files.write(`${path}/README`, 'changed\n')
  await run.sb.files.write(`${path}/new`, '')
  const status = (await git.status(path)).fileStatus.map((one) => `${one.status} ${one.name}`).sort()
  equal(status, ['modified README', 'untracked new'])
})

check(['git.branches', 'git.createBranch', 'git.checkoutBranch', 'git.deleteBranch'], 'branches', async () => {
  const [git, path] = await repository()
  await git.createBranch(path, 'side')
  const found = await git.branches(path)
  equal([[...found.branches].sort(), found.currentBranch], [['main', 'side'], 'side'])
  await git.checkoutBranch(path, 'main')
  await git.deleteBranch(path, 'side', { force: true })
  equal((await git.branches(path)).branches, ['main'])
})

check(['git.reset', 'git.restore'], 'reset_and_restore', async () => {
  const [git, path] = await repository()
  await run.sb.files.write(`${path}/README`, 'changed\n')
  await git.add(path)
  await git.restore(path, { paths: ['README'], staged: true })
  await git.restore(path, { paths: ['README'] })
  equal((await git.status(path)).fileStatus, [])
  await git.commit(path, 'second', { allowEmpty: true })
  await git.reset(path, { mode: 'hard', target: 'HEAD~1' })
  equal((await run.sb.commands.run('git rev-list --count HEAD', { cwd: path })).stdout, '1\n')
})

check(['git.remoteAdd', 'git.remoteGet', 'git.push', 'git.clone', 'git.pull'], 'remotes', async () => {
  const [git, path] = await repository()
  const bare = `${path}-server`
  await git.init(bare, { bare: true, initialBranch: 'main' })
  await git.remoteAdd(path, 'origin', bare)
  equal([await git.remoteGet(path, 'origin'), (await git.remoteGet(path, 'nowhere')) ?? null], [bare, null])
  await git.push(path, { remote: 'origin', branch: 'main' })
  await git.clone(bare, { path: `${path}-copy`, branch: 'main' })
  await run.sb.files.write(`${path}/README`, 'pushed\n')
  await git.add(path)
  await git.commit(path, 'pushed')
  await git.push(path)
  await git.pull(`${path}-copy`)
  equal(await run.sb.files.read(`${path}-copy/README`), 'pushed\n')
  await raises('GitUpstreamError', async () => git.pull((await repository())[1]))
})

check(['git.setConfig', 'git.getConfig'], 'configuration', async () => {
  const [git, path] = await repository()
  await git.setConfig('suite.key', 'a value', { scope: 'local', path })
  equal(await git.getConfig('suite.key', { scope: 'local', path }), 'a value')
  assert(!(await git.getConfig('suite.none', { scope: 'local', path })))
})

check(['git.dangerouslyAuthenticate'], 'stored_credentials', async () => {
  await run.sb.git.dangerouslyAuthenticate({ username: 'someone', password: 'pass-word', host: 'git.example.com' })
  const asked = "printf 'protocol=https\\nhost=git.example.com\\n\\n' | git credential fill"
  assert((await run.sb.commands.run(asked)).stdout.includes('password=pass-word'))
})
