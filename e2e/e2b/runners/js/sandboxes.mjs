// Sandboxes: making, finding, describing, ending; networks, errors, lives that end.
import { randomUUID } from 'node:crypto'
import http from 'node:http'
import { Absent, assert, check, e2b, equal, pause, raises, run, Sandbox, until } from './harness.mjs'

const UNKNOWN = 'iaaaaaaaaaaaaaaaaaaaa'

check(['Sandbox.create', 'Sandbox.getInfo', 'Sandbox.kill'], 'create_describe_and_kill', async () => {
  const metadata = { mark: randomUUID(), odd: 'a%20b=c&d é' }
  const sb = await run.create({ metadata, timeoutMs: 90_000 })
  const info = await sb.getInfo()
  equal([info.sandboxId, info.metadata, info.state], [sb.sandboxId, metadata, 'running'])
  assert(info.templateId && info.cpuCount >= 1 && info.memoryMB >= 128, info)
  const life = info.endAt - info.startedAt
  assert(life > 80_000 && life < 95_000, `lives ${life} ms`)
  equal((await Sandbox.getInfo(sb.sandboxId)).sandboxId, sb.sandboxId)
  // Old releases do not say whether there was something to kill.
  const killed = [await sb.kill(), await sb.kill()]
  equal(killed[0] === undefined ? [true, false] : killed, [true, false])
})

check(['Sandbox.getFullInfo'], 'describe_by_its_former_name', async () => {
  equal((await Sandbox.getFullInfo(run.sb.sandboxId)).sandboxId, run.sb.sandboxId)
})

check(['Sandbox.create'], 'create_with_everything', async () => {
  const options = { envs: { A: '1', E2B_SANDBOX_ID: 'spoofed' }, secure: true, allowInternetAccess: false }
  const sb = await run.create(options, 'base')
  equal((await sb.commands.run('echo $A-$E2B_SANDBOX-$E2B_SANDBOX_ID')).stdout, `1-true-${sb.sandboxId}\n`)
  if (e2b.E2B) equal((await sb.getInfo()).allowInternetAccess, false)
  await sb.kill()
})

check(['Sandbox.betaCreate'], 'create_in_its_former_spelling', async () => {
  const sb = await Sandbox.betaCreate({ timeoutMs: 60_000 })
  run.made.push(sb)
  assert(await sb.isRunning())
})

check(['Sandbox.kill'], 'kill_by_id', async () => {
  const sb = await run.create()
  equal([await Sandbox.kill(sb.sandboxId), await Sandbox.kill(sb.sandboxId), await sb.isRunning()], [true, false, false])
})

check(['Sandbox.connect', 'Sandbox.isRunning'], 'connect_from_elsewhere', async () => {
  await run.sb.files.write('/tmp/connect', 'seen')
  const other = await Sandbox.connect(run.sb.sandboxId)
  equal([other.sandboxId, await other.files.read('/tmp/connect'), await other.isRunning()], [run.sb.sandboxId, 'seen', true])
})

check(['Sandbox.connect', 'Sandbox.setTimeout'], 'connect_only_lengthens', async () => {
  const sb = await run.create({ timeoutMs: 100_000 })
  const first = (await sb.getInfo()).endAt
  await sb.connect({ timeoutMs: 20_000 })
  equal((await sb.getInfo()).endAt, first)
  await sb.connect({ timeoutMs: 500_000 })
  assert((await sb.getInfo()).endAt - first > 350_000)
  await sb.setTimeout(30_000)
  const left = (await sb.getInfo()).endAt - Date.now()
  assert(left > 20_000 && left < 32_000, `${left} ms left after setTimeout(30_000)`)
  await Sandbox.setTimeout(sb.sandboxId, 200_000)
  assert((await sb.getInfo()).endAt - Date.now() > 150_000)
  await sb.kill()
})

check(['Sandbox.list', 'SandboxPaginator.nextItems'], 'list_by_metadata_and_pages', async () => {
  const mark = `m ${randomUUID()} é&=`
  const made = []
  for (let n = 0; n < 3; n++) made.push(await run.create({ metadata: { mark, n: `${n}` } }))
  const paginator = Sandbox.list({ query: { metadata: { mark } }, limit: 2 })
  assert(paginator.hasNext)
  equal((await paginator.nextItems()).map((one) => one.sandboxId), [made[2].sandboxId, made[1].sandboxId])
  assert(paginator.hasNext && paginator.nextToken)
  const last = await paginator.nextItems()
  equal([last.map((one) => one.metadata), paginator.hasNext], [[{ mark, n: '0' }], false])
  equal(await Sandbox.list({ query: { metadata: { mark }, state: ['paused'] } }).nextItems(), [])
  for (const sb of made) await sb.kill()
})

check(['Sandbox.getMetrics'], 'metrics', async () => {
  const one = (await until(async () => { const all = await run.sb.getMetrics(); return all.length && all }, 15_000)).at(-1)
  assert(one.cpuCount >= 1 && one.cpuUsedPct >= 0 && one.memUsed > 0 && one.memUsed <= one.memTotal, one)
  assert(one.diskUsed > 0 && one.diskUsed <= one.diskTotal, one)
  assert((await Sandbox.getMetrics(run.sb.sandboxId)).length > 0)
})

function fetchFrom(host, headers = {}, path = '/') {
  return new Promise((resolve, reject) => {
    const request = http.get(process.env.E2B_SANDBOX_URL + path, { headers: { host, ...headers } }, async (answer) => {
      const chunks = []
      for await (const chunk of answer) chunks.push(chunk)
      resolve([answer.statusCode, Buffer.concat(chunks).toString()])
    })
    request.on('error', reject)
  })
}

check(['Sandbox.getHost'], 'host_of_a_port', async () => {
  const host = run.sb.getHost(8123)
  assert(host.startsWith(`8123-${run.sb.sandboxId}.`), host)
  await run.sb.files.write('/tmp/www/hello.txt', 'served')
  const server = await run.sb.commands.run('cd /tmp/www && exec python3 -m http.server 8123', { background: true })
  await until(async () => (await fetchFrom(host, {}, '/hello.txt'))[0] === 200)
  equal(await fetchFrom(host, {}, '/hello.txt'), [200, 'served'])
  await server.kill()
})

check(['Sandbox.getMcpUrl', 'Sandbox.getMcpToken'], 'mcp_address', async () => {
  equal(run.sb.getMcpUrl(), `https://${run.sb.getHost(50005)}/mcp`)
  await raises('SandboxError', () => run.sb.getMcpToken())
})

check(['Sandbox.create'], 'traffic_that_needs_a_token', async () => {
  const sb = await run.create({ network: { allowPublicTraffic: false } })
  const host = sb.getHost(8200)
  assert(sb.trafficAccessToken)
  equal((await fetchFrom(host))[0], 403)
  equal((await fetchFrom(host, { 'e2b-traffic-access-token': 'wrong' }))[0], 403)
  const [status, body] = await fetchFrom(host, { 'e2b-traffic-access-token': sb.trafficAccessToken })
  assert(status === 502 && body.includes('port is not open'), body)
  await sb.kill()
})

check(['Sandbox.updateNetwork'], 'another_policy_while_it_runs', async () => {
  const sb = await run.create()
  await sb.updateNetwork({ denyOut: ['10.99.0.0/16'] })
  equal((await sb.getInfo()).network.denyOut, ['10.99.0.0/16'])
  await Sandbox.updateNetwork(sb.sandboxId, { allowOut: ['10.98.0.1'] })
  assert(!(await sb.getInfo()).network.denyOut?.length, 'the second update did not replace the first')
  await sb.kill()
})

check(['Sandbox.create'], 'policies_that_make_no_sense', async () => {
  await raises('SandboxError', () => run.create({ network: { denyOut: ['nonsense'] } }), 'invalid denied CIDR nonsense')
  const network = { allowOut: ['example.com'] }
  await raises('SandboxError', () => run.create({ network }), "you must include 'ALL_TRAFFIC' in deny out")
})

check(['Sandbox.create', 'Sandbox.getInfo'], 'a_wrong_key', async () => {
  const apiKey = 'e2b_' + '0'.repeat(40)
  await raises('AuthenticationError', () => run.create({ apiKey }))
  await raises('AuthenticationError', () => Sandbox.getInfo(run.sb.sandboxId, { apiKey }))
})

check(['Sandbox.getInfo', 'Sandbox.kill', 'Sandbox.connect'], 'a_sandbox_of_another_project', async () => {
  const apiKey = process.env.E2B_OTHER_KEY
  await raises('NotFoundError', () => Sandbox.getInfo(run.sb.sandboxId, { apiKey }))
  await raises('NotFoundError', () => Sandbox.connect(run.sb.sandboxId, { apiKey }))
  equal(await Sandbox.kill(run.sb.sandboxId, { apiKey }), false)
  assert(await run.sb.isRunning())
})

check(['Sandbox.getInfo', 'Sandbox.kill', 'Sandbox.connect', 'Sandbox.setTimeout'], 'a_sandbox_that_is_not_there', async () => {
  await raises('NotFoundError', () => Sandbox.getInfo(UNKNOWN))
  await raises('NotFoundError', () => Sandbox.connect(UNKNOWN))
  await raises('NotFoundError', () => Sandbox.setTimeout(UNKNOWN, 60_000))
  equal(await Sandbox.kill(UNKNOWN), false)
  await raises('SandboxError', () => run.create({}, 'no-such-template'), 'no-such-template')
})

check(['Sandbox.create', 'Sandbox.isRunning', 'CommandHandle.wait'], 'three_seconds_to_live', async () => {
  const sb = await run.create({ timeoutMs: 3_000 })
  const began = Date.now()
  const handle = await sb.commands.run('sleep 60', { background: true })
  const wait = handle.wait().catch((error) => error)
  await pause(5_000 - (Date.now() - began))
  equal(await sb.isRunning(), false)
  assert(!(await Sandbox.list().nextItems()).some((one) => one.sandboxId === sb.sandboxId), 'it is still listed')
  const error = await wait
  assert(error instanceof e2b.SandboxError, `${error?.constructor?.name}: ${error?.message}`)
  if (e2b.E2B) assert(error.message.includes('killed or reached its end of life'), error.message)
})

check(['commands.run'], 'killed_under_a_command', async () => {
  const sb = await run.create()
  const wait = sb.commands.run('sleep 60').catch((error) => error)
  await pause(700)
  await sb.kill()
  const error = await wait
  assert(error instanceof e2b.SandboxError, `${error?.constructor?.name}: ${error?.message}`)
  if (e2b.E2B) assert(error.message.includes('killed or reached its end of life'), error.message)
})

check(['E2B'], 'a_bound_client', async () => {
  const client = new e2b.E2B({ apiKey: process.env.E2B_API_KEY })
  equal((await client.Sandbox.getInfo(run.sb.sandboxId)).sandboxId, run.sb.sandboxId)
  const wrong = new e2b.E2B({ apiKey: 'e2b_' + '0'.repeat(40) })
  await raises('AuthenticationError', () => wrong.Sandbox.getInfo(run.sb.sandboxId))
})

check(['Sandbox.create'], 'a_create_given_up', async () => {
  if (!e2b.E2B) throw new Absent('this release takes no signal')
  const mark = randomUUID()
  const ids = async () => (await Sandbox.list({ query: { metadata: { mark } } }).nextItems()).map((one) => one.sandboxId)
  for (const ms of [0, 20, 100]) {
    const stop = new AbortController()
    const wait = Sandbox.create({ metadata: { mark }, timeoutMs: 20_000, signal: stop.signal }).catch(() => undefined)
    await pause(ms)
    stop.abort()
    const sb = await wait
    if (sb) run.made.push(sb)
  }
  await pause(1_000)
  for (const id of await ids()) assert(await Sandbox.kill(id), 'it is listed and cannot be killed')
  equal(await ids(), [])
})
