// Pausing and resuming, by hand, at the end of a sandbox's time, and by a request; snapshots and forks.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { Absent, assert, check, equal, raises, run, Sandbox, until, version } from './harness.mjs'

const NOBODY = 'iaaaaaaaaaaaaaaaaaaaa'
const BOOT_ID = 'cat /proc/sys/kernel/random/boot_id'

const said = async (sb, command) => (await sb.commands.run(command)).stdout.trim()
const stateOf = async (sb) => (await Sandbox.getInfo(sb.sandboxId)).state

/** A sandbox with a file on disk, one in memory and a program that runs: with its pid and the id of its boot. */
async function withTraces(options = {}) {
  const sb = await run.create(options)
  await sb.files.write('/home/user/kept', 'on disk')
  await sb.commands.run('echo in memory > /dev/shm/kept')
  const program = await sb.commands.run('sleep 1000', { background: true, timeoutMs: 0 })
  program.wait().catch(() => undefined)
  return [sb, program.pid, await said(sb, BOOT_ID)]
}

async function expectAllThere(sb, pid, bootId) {
  equal(await sb.files.read('/home/user/kept'), 'on disk')
  equal(await said(sb, 'cat /dev/shm/kept'), 'in memory')
  assert((await sb.commands.list()).some((one) => one.pid === pid), 'the program is gone')
  equal(await said(sb, BOOT_ID), bootId)
}

async function expectRebooted(sb, pid, bootId) {
  equal(await sb.files.read('/home/user/kept'), 'on disk')
  equal(await said(sb, 'ls /dev/shm'), '')
  equal(await said(sb, 'pgrep -x sleep || true'), '')
  assert((await said(sb, BOOT_ID)) !== bootId, 'it has the same boot_id')
}

/** Waits until the service has paused `sb`. A busy machine is late with it: nothing here is said of when. */
const pausedByItself = (sb) => until(async () => (await stateOf(sb)) === 'paused', 20_000)

/** Old releases do not know of pauses that keep files only. */
function needFilesOnly() {
  if (version.startsWith('2.21.')) throw new Absent('this release cannot keep files only')
}

check(['Sandbox.pause', 'Sandbox.connect', 'Sandbox.isRunning', 'Sandbox.getInfo'], 'pause_and_connect', async () => {
  const [sb, pid, bootId] = await withTraces()
  equal(await sb.pause(), true)
  equal([await sb.isRunning(), await stateOf(sb)], [false, 'paused'])
  equal(await sb.pause(), false)
  const other = await Sandbox.connect(sb.sandboxId, { timeoutMs: 90_000 })
  equal(other.sandboxId, sb.sandboxId)
  await expectAllThere(other, pid, bootId)
  equal(await stateOf(sb), 'running')
  await sb.pause()
  await sb.connect()
  await expectAllThere(sb, pid, bootId)
  await sb.kill()
})

check(['Sandbox.pause', 'Sandbox.list', 'Sandbox.kill', 'Sandbox.getMetrics'], 'a_paused_one_from_outside', async () => {
  const metadata = { mark: randomUUID() }
  const [sb, running] = [await run.create({ metadata }), await run.create({ metadata })]
  equal(await Sandbox.pause(sb.sandboxId), true)
  const listed = async (state) =>
    (await Sandbox.list({ query: { metadata, ...(state && { state }) } }).nextItems()).map((one) => one.sandboxId)
  equal(await listed(['paused']), [sb.sandboxId])
  equal(await listed(['running']), [running.sandboxId])
  equal(await listed(['running', 'paused']), [running.sandboxId, sb.sandboxId])
  equal(await listed(), [running.sandboxId, sb.sandboxId])
  await Sandbox.getMetrics(sb.sandboxId)
  await raises('NotFoundError', () => Sandbox.setTimeout(sb.sandboxId, 60_000))
  await Sandbox.kill(sb.sandboxId)
  equal(await listed(), [running.sandboxId])
  await raises('NotFoundError', () => Sandbox.connect(sb.sandboxId))
  await running.kill()
})

check(['Sandbox.betaPause'], 'pause_in_its_former_spelling', async () => {
  const sb = await run.create()
  equal(await sb.betaPause(), true)
  equal(await stateOf(sb), 'paused')
  await sb.kill()
})

check(['Sandbox.pause', 'Sandbox.connect'], 'pause_with_files_only', async () => {
  needFilesOnly()
  const [sb, pid, bootId] = await withTraces()
  equal(await sb.pause({ keepMemory: false }), true)
  await sb.connect()
  await expectRebooted(sb, pid, bootId)
  await sb.kill()
})

check(['Sandbox.connect'], 'connect_by_reboot', async () => {
  if (!String(Sandbox.connectSandbox).includes('onResume')) throw new Absent('this release has no onResume')
  const [sb, pid, bootId] = await withTraces()
  await sb.pause()
  await sb.connect({ onResume: 'reboot' })
  await expectRebooted(sb, pid, bootId)
  await sb.kill()
})

check(['Sandbox.create', 'Sandbox.connect'], 'paused_at_the_end_of_its_time', async () => {
  const [sb, pid, bootId] = await withTraces({ lifecycle: { onTimeout: 'pause' } })
  await sb.setTimeout(1_000)
  await pausedByItself(sb)
  equal(await sb.isRunning(), false)
  // Nothing wakes it but a connect.
  await raises('SandboxError', () => sb.commands.run('true'))
  const info = await sb.getInfo()
  equal(info.state, 'paused')
  if (info.lifecycle) equal(info.lifecycle, { onTimeout: 'pause', autoResume: false })
  await sb.connect({ timeoutMs: 60_000 })
  await expectAllThere(sb, pid, bootId)
  await sb.kill()
})

check(['Sandbox.create', 'Sandbox.connect'], 'paused_with_files_only_at_the_end_of_its_time', async () => {
  needFilesOnly()
  const onTimeout = { action: 'pause', keepMemory: false }
  const [sb, pid, bootId] = await withTraces({ lifecycle: { onTimeout } })
  await sb.setTimeout(1_000)
  await pausedByItself(sb)
  await sb.connect({ timeoutMs: 60_000 })
  await expectRebooted(sb, pid, bootId)
  await sb.kill()
})

check(['Sandbox.betaCreate'], 'paused_at_the_end_of_its_time_in_its_former_spelling', async () => {
  const sb = await Sandbox.betaCreate({ timeoutMs: 3_000, autoPause: true })
  run.made.push(sb)
  await pausedByItself(sb)
  await sb.kill()
})

check(['Sandbox.create', 'commands.run'], 'woken_by_a_command', async () => {
  const [sb, pid, bootId] = await withTraces({ lifecycle: { onTimeout: 'pause', autoResume: true } })
  await sb.pause()
  equal(await stateOf(sb), 'paused')
  equal(await said(sb, 'echo awake'), 'awake')
  equal(await stateOf(sb), 'running')
  await expectAllThere(sb, pid, bootId)
  await sb.kill()
})

/** What a port of a sandbox answers: the status and the body. */
function fetchPort(host, path) {
  return new Promise((resolve, reject) => {
    const request = http.get(new URL(path, process.env.E2B_SANDBOX_URL), { headers: { host } }, (answer) => {
      let body = ''
      answer.on('data', (part) => (body += part))
      answer.on('end', () => resolve([answer.statusCode, body]))
    })
    request.on('error', reject)
  })
}

check(['Sandbox.create', 'Sandbox.getHost'], 'woken_by_a_request_to_a_port', async () => {
  const sb = await run.create({ lifecycle: { onTimeout: 'pause', autoResume: true } })
  await sb.files.write('/tmp/www/hello.txt', 'served')
  const server = await sb.commands.run('cd /tmp/www && exec python3 -m http.server 8124', { background: true, timeoutMs: 0 })
  server.wait().catch(() => undefined)
  const host = sb.getHost(8124)
  await until(async () => (await fetchPort(host, '/hello.txt'))[0] === 200)
  await sb.pause()
  equal(await stateOf(sb), 'paused')
  equal(await fetchPort(host, '/hello.txt'), [200, 'served'])
  equal(await stateOf(sb), 'running')
  await sb.kill()
})

async function allIds(paginator) {
  const found = []
  while (paginator.hasNext) found.push(...(await paginator.nextItems()).map((one) => one.snapshotId))
  return found
}

const KEEP = ['Sandbox.createSnapshot', 'Sandbox.listSnapshots', 'Sandbox.deleteSnapshot', 'SnapshotPaginator.nextItems']

check([...KEEP, 'Sandbox.create'], 'keep_and_start_from_it', async () => {
  const [sb, pid, bootId] = await withTraces()
  const { snapshotId } = await sb.createSnapshot()
  await expectAllThere(sb, pid, bootId)
  await sb.kill()
  assert((await allIds(Sandbox.listSnapshots())).includes(snapshotId), 'it went with the sandbox')
  const made = await run.create({}, snapshotId)
  assert(made.sandboxId !== sb.sandboxId, 'it has the same id')
  await expectAllThere(made, pid, bootId)
  await made.kill()
  equal([await Sandbox.deleteSnapshot(snapshotId), await Sandbox.deleteSnapshot(snapshotId)], [true, false])
  await raises('SandboxError', () => run.create({}, snapshotId))
})

check(KEEP, 'keep_under_a_name', async () => {
  const name = `suite-${randomUUID().slice(0, 12)}`
  const sb = await run.create()
  const first = await sb.createSnapshot({ name })
  assert(first.snapshotId.includes(name) && first.names.every((one) => one.includes(name)), first)
  const second = await Sandbox.createSnapshot(sb.sandboxId, { name })
  equal(second.snapshotId, first.snapshotId)
  await (await run.create({}, name)).kill()
  const ids = await allIds(sb.listSnapshots())
  equal(ids.length, 2)
  for (const id of ids) equal(await Sandbox.deleteSnapshot(id), true)
  equal(await allIds(sb.listSnapshots()), [])
  await sb.kill()
})

check(['Sandbox.listSnapshots', 'SnapshotPaginator.nextItems'], 'list_snapshots_by_pages', async () => {
  const sb = await run.create()
  const made = []
  for (let number = 0; number < 3; number++) made.push((await sb.createSnapshot()).snapshotId)
  const pages = Sandbox.listSnapshots({ sandboxId: sb.sandboxId, limit: 2 })
  equal((await pages.nextItems()).map((one) => one.snapshotId), [made[2], made[1]])
  assert(pages.hasNext && pages.nextToken)
  equal((await pages.nextItems()).map((one) => one.snapshotId), [made[0]])
  assert(!pages.hasNext)
  for (const id of made) await Sandbox.deleteSnapshot(id)
  await sb.kill()
})

check(['Sandbox.createSnapshot', 'Sandbox.deleteSnapshot'], 'snapshots_that_cannot_be', async () => {
  await raises('NotFoundError', () => Sandbox.createSnapshot(NOBODY))
  equal(await Sandbox.deleteSnapshot('no-such-snapshot'), false)
})

check(['Sandbox.fork'], 'fork_what_runs', async () => {
  const [sb, pid, bootId] = await withTraces()
  const forks = [...(await sb.fork({ timeoutMs: 60_000, count: 2 })), ...(await Sandbox.fork(sb.sandboxId, { timeoutMs: 60_000 }))]
  run.made.push(...forks)
  equal(new Set([sb, ...forks].map((one) => one.sandboxId)).size, 4)
  for (const one of forks) {
    await expectAllThere(one, pid, bootId)
    await one.files.write('/home/user/kept', one.sandboxId)
  }
  await expectAllThere(sb, pid, bootId)
  for (const one of forks) {
    equal(await one.files.read('/home/user/kept'), one.sandboxId)
    equal(await said(one, 'echo $E2B_SANDBOX_ID'), one.sandboxId)
    await one.kill()
  }
  await sb.kill()
})

check(['Sandbox.fork'], 'forks_that_cannot_be', async () => {
  await raises('NotFoundError', () => Sandbox.fork(NOBODY))
  await raises('SandboxError', () => run.sb.fork({ count: 21 }), 'count', '20')
  const sb = await run.create()
  await sb.pause()
  await raises('SandboxError', () => sb.fork(), '409')
  await sb.kill()
})
