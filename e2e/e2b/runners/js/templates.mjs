// Templates: built with every helper, in the background, with a start command; their logs, tags and faults. The twin of
// ../templates.py, which builds the same steps, so that what one client has built the other takes from the cache.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { assert, check, e2b, equal, raises, run, until } from './harness.mjs'

const { Template, waitForPort } = e2b
export const BUILD_LIMIT_MS = 150_000
const mark = randomUUID().slice(0, 8)
export const name = (what) => `suite-js-${what}-${mark}`
export const WHEEL = 'tiny-1.0-py3-none-any.whl'

let laidOut
/** The directory that files are copied from. */
export function files() {
  if (!laidOut) {
    laidOut = mkdtempSync(join(tmpdir(), 'e2b-templates-js-'))
    process.on('exit', () => rmSync(laidOut, { recursive: true, force: true }))
    const kitchen = join(dirname(fileURLToPath(import.meta.url)), '..', 'kitchen.py')
    execFileSync('python3', [kitchen, laidOut])
  }
  return laidOut
}

export const template = () => Template({ fileContextPath: files() })

const everything = () =>
  template()
    .fromBaseImage()
    .setEnvs({ STAGE: 'build', PLACE: '${HOME}/of-$STAGE' })
    .copy('app', '/opt/app')
    .copy('notes/*.txt', 'notes')
    .copy(['hello.txt', 'run.sh'], '/opt/bin/', { user: 'root', mode: 0o755 })
    .copyItems([{ src: 'hello.txt', dest: '/opt/renamed.txt', user: 'root:root', mode: 0o640 }])
    .copy('hello-link', '/opt/bin/hello-link', { user: 'root' })
    .copy(WHEEL, '/opt/')
    .copy('module', '/opt/module')
    .setWorkdir('/opt/work')
    .runCmd(['echo $STAGE > stage.txt', 'id -un > who.txt', 'pwd > where.txt'])
    .runCmd('id -un > by-root.txt', { user: 'root' })
    .makeDir(['one', 'two'], { mode: 0o750 })
    .makeSymlink('stage.txt', 'stage.link')
    .rename('who.txt', 'renamed-who.txt')
    .remove(['where.txt', 'one'], { recursive: true, force: true })
    .pipInstall(`/opt/${WHEEL}`)
    .npmInstall('/opt/module', { g: true })

/** Build it under `name(what)`; its log. */
async function built(what, made, options = {}) {
  const said = []
  const onBuildLogs = (line) => said.push(line.message)
  await Template.build(made, name(what), { cpuCount: 1, memoryMB: 512, ...options, onBuildLogs })
  return said
}

export const answer = async (sandbox, script) => (await sandbox.commands.run(script)).stdout.split('\n').slice(0, -1)

check(['Template.build', 'TemplateBuilder'], 'build_with_every_helper', async () => {
  const said = await built('all', everything())
  assert(said.some((line) => line.includes('[builder 14/18] RUN ln -s')), said)
  const sandbox = await run.create({}, name('all'))
  equal(await answer(sandbox, 'pwd; id -un; cat stage.link renamed-who.txt by-root.txt'), ['/opt/work', 'user', 'build', 'user', 'root'])
  equal(await answer(sandbox, "cd /opt; stat -c '%n %a %U:%G' work/two bin/* renamed.txt app/main.py"), [
    'work/two 750 user:user', 'bin/hello-link 777 root:root', 'bin/hello.txt 755 root:root', 'bin/run.sh 755 root:root',
    'renamed.txt 640 root:root', 'app/main.py 644 user:user',
  ])
  equal(await answer(sandbox, 'cd /opt/app; find . -type f | sort; ls ~/notes'), ['./data/one.txt', './main.py', 'a.txt', 'b.txt'])
  equal(await answer(sandbox, "python3 -c 'import tiny; print(tiny.SIZE)'"), ['tiny'])
  equal((await sandbox.getInfo()).name, name('all'))
}, BUILD_LIMIT_MS)

check(['Template.build'], 'build_again_from_the_cache', async () => {
  const said = await built('all', everything())
  assert(said.some((line) => line.includes('CACHED [builder 14/18] RUN ln -s')), said)
}, BUILD_LIMIT_MS)

check(['Template.build'], 'start_command_is_live', async () => {
  const made = template().fromTemplate(name('all')).setStartCmd('echo $STAGE > served && python3 -m http.server 8765', waitForPort(8765))
  await built('serving', made)
  const sandbox = await run.create({}, name('serving'))
  equal(await answer(sandbox, 'curl -s localhost:8765/served; pgrep -c -f http.server'), ['build', '1'])
}, BUILD_LIMIT_MS)

check(['Template.build'], 'build_from_a_dockerfile', async () => {
  await built('docker', template().fromDockerfile(readFileSync(join(files(), 'suite.Dockerfile'), 'utf8')))
  const sandbox = await run.create({}, name('docker'))
  equal(await answer(sandbox, 'cat says.txt listed.txt; id -un; pwd'), ['hello-from-dockerfile', 'a.txt', 'b.txt', 'c.md', 'user', '/srv/docker'])
}, BUILD_LIMIT_MS)

check(['Template.build'], 'a_failing_step', async () => {
  const said = []
  const failing = template().fromBaseImage().runCmd('echo said before; exit 7')
  const build = () => Template.build(failing, name('failing'), { onBuildLogs: (line) => said.push(line.message) })
  const error = await raises('BuildError', build, 'exit code 7', 'said before')
  assert(said.some((line) => line.includes('said before')), said)
  assert(error.stack.includes('templates.mjs'), error.stack)
}, BUILD_LIMIT_MS)

check(['Template.buildInBackground', 'Template.getBuildStatus'], 'build_in_background', async () => {
  const slow = template().fromBaseImage().copy('hello.txt', 'hello.txt', { forceUpload: true }).runCmd('sleep 1; seq 1 150')
  const info = await Template.buildInBackground(slow, `${name('slow')}:v1`, { tags: ['v2'], cpuCount: 1, memoryMB: 512 })
  equal([...info.tags].sort(), ['v1', 'v2'])
  equal((await Template.getBuildStatus(info, { logsOffset: 0 })).status, 'building')
  const status = await until(async () => {
    const found = await Template.getBuildStatus(info, { logsOffset: 0 })
    return found.status === 'building' ? undefined : found
  }, 60_000)
  equal([status.status, status.logEntries.length], ['ready', 100])
  const lines = status.logEntries.map((entry) => entry.message)
  for (;;) {
    const page = await Template.getBuildStatus(info, { logsOffset: lines.length })
    if (page.logEntries.length === 0) break
    lines.push(...page.logEntries.map((entry) => entry.message))
  }
  const later = await Template.getBuildStatus(info, { logsOffset: 90 })
  equal(later.logEntries.slice(0, 10).map((entry) => entry.message), lines.slice(90, 100))
}, BUILD_LIMIT_MS)

check(['Template.getBuildStatus'], 'the_status_of_a_failed_build', async () => {
  const info = await Template.buildInBackground(template().fromBaseImage().setWorkdir('/tmp').runCmd('echo said before; exit 9'), name('failed'))
  const status = await until(async () => {
    const found = await Template.getBuildStatus(info)
    return found.status === 'error' ? found : undefined
  }, 30_000)
  equal([status.reason.step, status.reason.message.includes('exit code 9')], ['2', true])
  await raises('BuildError', () => Template.getBuildStatus({ ...info, buildId: randomUUID() }), '404')
}, BUILD_LIMIT_MS)

check(['Template.assignTags', 'Template.removeTags', 'Template.getTags'], 'tags', async () => {
  const mine = name('slow')
  const assigned = await Template.assignTags(`${mine}:v1`, ['stable', 'Latest'])
  equal([...assigned.tags].sort(), ['latest', 'stable'])
  const listed = await Template.getTags(mine)
  equal(listed.map((tag) => tag.tag).sort(), ['latest', 'stable', 'v1', 'v2'])
  assert(listed.every((tag) => tag.buildId === assigned.buildId && tag.createdAt instanceof Date), listed)
  const sandbox = await run.create({}, `${mine}:stable`)
  equal(await answer(sandbox, 'cat hello.txt'), ['hello'])
  await Template.removeTags(mine, ['latest', 'stable'])
  await Template.removeTags(mine, 'v2')
  equal((await Template.getTags(mine)).map((tag) => tag.tag), ['v1'])
  await raises('TemplateError', () => Template.removeTags(mine, 'stable'), 'stable')
  await raises('TemplateError', () => Template.assignTags(':v1', 'x'), '400')
})

check(['Template.exists', 'Template.aliasExists'], 'template_exists', async () => {
  const found = [await Template.exists('base'), await Template.exists(name('all')), await Template.exists('no-such-template'), await Template.aliasExists('base')]
  equal(found, [true, true, false, true])
})

check(['Template.build'], 'builds_that_are_refused', async () => {
  await raises('BuildError', () => Template.build(template().fromTemplate('no-such-template'), name('refused')), 'no-such-template')
  await raises('BuildError', () => Template.build(template().fromBaseImage().setUser('; exit 1'), name('refused')), 'is not a user')
  await raises('BuildError', () => Template.build(template().fromBaseImage(), 'a b'), '400')
})

check(['TemplateBuilder', 'Template.toJSON', 'Template.toDockerfile'], 'what_a_builder_writes', async () => {
  const made = Template().fromPythonImage('3.12').setEnvs({ A: '1' }).runCmd('true').setWorkdir('/app').aptInstall('vim')
  assert((await Template.toJSON(made)).includes('"python:3.12"'))
  assert((await Template.toDockerfile(made)).includes('FROM python:3.12'))
})
