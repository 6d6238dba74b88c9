// What the pages of E2B's documentation for templates show, page by page, in examples of our own. The twin of
// ../examples.py, with the same steps where it has them, so that what one client has built the other takes from the cache.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { assert, check, e2b, equal, raises, run } from './harness.mjs'
import { answer, BUILD_LIMIT_MS, files, name, template, WHEEL } from './templates.mjs'

const { Template, defaultBuildLogger, waitForFile, waitForProcess, waitForTimeout, waitForURL } = e2b
const PORT = 4010
const SMALL = { cpuCount: 1, memoryMB: 512 }

const build = async (what, made, options = {}) => {
  const said = []
  const info = await Template.build(made, name(what), { ...SMALL, onBuildLogs: (line) => said.push(line), ...options })
  return { info, said, lines: said.map((line) => line.message) }
}
const told = async (what, script) => answer(await run.create({}, what), script)
const tried = (covers, called, body) => check(covers, called, body, BUILD_LIMIT_MS)

tried(['Template.build'], 'quickstart', async () => {
  const made = template().fromBaseImage().setEnvs({ SHOP: "green grocer's" })
    .setStartCmd('echo "$SHOP" > /tmp/opened', waitForTimeout(1_000))
  // The name as older pages give it, and the logger that prints.
  const info = await Template.build(made, { alias: name('quick'), ...SMALL, onBuildLogs: defaultBuildLogger() })
  equal([info.alias, typeof info.templateId, typeof info.buildId], [name('quick'), 'string', 'string'])
  equal(await told(name('quick'), 'cat /tmp/opened; echo "$SHOP"'), ["green grocer's", "green grocer's"])
})

tried(['TemplateBuilder', 'Template.build'], 'defining_a_template', async () => {
  const made = template()
    .fromBaseImage()
    .copy(WHEEL, '/opt/')
    .copy('module', '/opt/module')
    .setWorkdir('/srv/till')
    .copy(['hello.txt', 'run.sh'], '/srv/till/last-of-both')
    .runCmd(['git init --quiet -b trunk /tmp/books', 'cd /tmp/books', 'git config user.email a@example.org'])
    .runCmd('cd /tmp/books; for n in 1 2; do git -c user.name=a commit --quiet --allow-empty -m $n; done')
    .gitClone('file:///tmp/books')
    .gitClone('file:///tmp/books', '/srv/till/shallow', { branch: 'trunk', depth: 1 })
    .pipInstall(`/opt/${WHEEL}`, { g: false })
    .npmInstall('/opt/module')
    .runCmd('whoami > by-root.txt && chmod 640 by-root.txt', { user: 'root' })
    .setUser('1000:1000')
    .runCmd('id -u > by-number.txt')
  await build('defined', made)
  const sandbox = await run.create({}, name('defined'))
  equal(await answer(sandbox, "pwd; id -u; cat last-of-both by-number.txt; stat -c '%a %U' by-root.txt"),
    ['/srv/till', '1000', '#!/bin/sh', 'echo ran', '1000', '640 root'])
  equal(await answer(sandbox, 'for at in books shallow; do git -C $at log --format=%s; done'), ['2', '1', '2'])
})

tried(['Template.build'], 'user_and_workdir', async () => {
  const script = 'id -un; pwd'
  const made = template().fromBaseImage().runCmd(`(${script}) > /tmp/first`).setUser('cashier').runCmd(`(${script}) > second`)
  await build('user', made)
  equal(await told(name('user'), `${script}; cat /tmp/first second`),
    ['cashier', '/home/cashier', 'user', '/home/user', 'cashier', '/home/cashier'])
})

tried(['TemplateBuilder', 'Template.build'], 'start_and_ready_commands', async () => {
  const ready = [waitForProcess('python3'), waitForURL(`http://localhost:${PORT}`)]
  const made = template().fromBaseImage()
    .setStartCmd(`sleep 1; exec python3 -m http.server ${PORT}`, ready.map((one) => one.getCmd()).join(' && '))
  await build('started', made)
  equal(await told(name('started'), `curl -so /dev/null -w '%{http_code}\\n' localhost:${PORT}`), ['200'])
  const { lines } = await build('only-ready', template().fromBaseImage().runCmd('touch ~/stocked').setReadyCmd(waitForFile('/home/user/stocked')))
  assert(lines.some((line) => line.includes('waiting until')), lines)
})

tried(['TemplateBuilder', 'Template.build'], 'caching', async () => {
  const stamp = (where) => `head -c 9 /dev/urandom | base64 > ${where}`
  const stamps = async (what, options) => {
    await build(what, template().fromBaseImage().runCmd(stamp(`before-${name('x')}`)).skipCache().runCmd(stamp('after')), options)
    return told(name(what), 'cat before-* after')
  }
  const small = await stamps('variant-small')
  const large = await stamps('variant-large', { memoryMB: 768 })
  assert(small[0] === large[0] && small[1] !== large[1], small, large)
  const { lines } = await build('copied', template().fromBaseImage().copy('notes/a.txt', '/tmp/a.txt', { forceUpload: true }))
  assert(lines.some((line) => line.includes('Uploaded')), lines)
})

tried(['Template.build'], 'logging', async () => {
  const { said } = await build('logged', template().fromBaseImage().skipCache().runCmd('echo sold; echo out of stock >&2'))
  assert(said[0] instanceof e2b.LogEntryStart && said.at(-1) instanceof e2b.LogEntryEnd, said)
  const sold = said.find((line) => line.message === 'sold')
  assert(sold.level === 'info' && sold.timestamp instanceof Date && sold.toString().includes('sold'), sold)
  assert(said.some((line) => line.message === 'out of stock'), said)
})

check(['Template.build'], 'error_handling', async () => {
  const apiKey = 'e2b_' + '0'.repeat(40)
  const made = template().fromBaseImage()
  await raises('AuthenticationError', () => Template.build(made, name('never'), { apiKey }))
  await raises('AuthenticationError', () => Template.buildInBackground(made, name('never'), { apiKey }))
  equal(await Template.exists(name('never')), false)
})

tried(['Template.assignTags'], 'tags_and_versioning', async () => {
  const release = async (number, ...asked) => {
    const made = template().fromBaseImage().runCmd(`echo ${number} > ~/version`)
    return (await Template.build(made, asked[0], { ...SMALL, ...asked[1] })).buildId
  }
  const stall = name('stall')
  const first = await release(1, `${stall}:v1.0.0`)
  await release(2, stall, { tags: ['v2.0.0', 'latest'] })
  await release(3, stall)
  await Template.assignTags(`${stall}:v1.0.0`, 'production')
  for (const [asked, version] of Object.entries({ 'v1.0.0': '1', latest: '2', default: '3', production: '1', [first]: '1' })) {
    equal([asked, ...(await told(`${stall}:${asked}`, 'cat version'))], [asked, version])
  }
  equal(await told(stall, 'cat version'), ['3'])
  for (const [source, version] of [['latest', '2'], ['v1.0.0', '1']]) {
    await Template.assignTags(`${stall}:${source}`, 'production')
    equal(await told(`${stall}:production`, 'cat version'), [version])
  }
})

tried(['Template.build'], 'migrating_a_dockerfile', async () => {
  const text = readFileSync(join(files(), 'clerk.Dockerfile'), 'utf8')
  await build('clerk', template().fromDockerfile(text).setStartCmd('echo $SHELVES > opened', waitForTimeout(1_000)))
  equal(await told(name('clerk'), 'id -un; pwd; echo $SHELVES $TILLS; cat by main.py opened'),
    ['clerk', '/srv/clerk', '2 3', 'root', "print('main')", '2'])
})
