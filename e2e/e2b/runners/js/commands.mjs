// Commands and pseudo-terminals.
import { assert, check, e2b, equal, pause, raises, run, until } from './harness.mjs'

const commands = () => run.sb.commands

check(['commands.run'], 'run_and_its_result', async () => {
  const done = await commands().run('echo out; echo err >&2; printf "é漢"')
  equal([done.stdout, done.stderr, done.exitCode], ['out\né漢', 'err\n', 0])
  assert((await commands().run('seq 1 200000')).stdout.endsWith('\n200000\n'))
  equal((await commands().run('cat; echo end')).stdout, 'end\n')
})

check(['commands.run'], 'run_that_fails', async () => {
  const error = await raises('CommandExitError', () => commands().run('echo o; echo e >&2; exit 7'))
  equal([error.exitCode, error.stdout, error.stderr], [7, 'o\n', 'e\n'])
})

check(['commands.run'], 'run_as_whom_and_where', async () => {
  equal((await commands().run('whoami; pwd')).stdout, 'user\n/home/user\n')
  equal((await commands().run('whoami; pwd', { user: 'root', cwd: '/tmp' })).stdout, 'root\n/tmp\n')
  equal((await commands().run('echo $GREETING-$MINE', { envs: { MINE: 'a b' } })).stdout, 'sandbox-a b\n')
  equal((await commands().run('echo $GREETING', { envs: { GREETING: 'request' } })).stdout, 'request\n')
  await raises('InvalidArgumentError', () => commands().run('true', { cwd: '/no/such' }), '/no/such')
  await raises('AuthenticationError', () => commands().run('true', { user: 'nobody-here' }), 'nobody-here')
})

check(['commands.run'], 'output_comes_while_it_runs', async () => {
  const seen = []
  const began = Date.now()
  await commands().run('echo first; sleep 1; echo last', { onStdout: (text) => seen.push([Date.now() - began, text]) })
  equal(seen.map(([, text]) => text), ['first\n', 'last\n'])
  assert(seen[1][0] - seen[0][0] > 700, 'it was held back', seen)
})

check(['commands.run'], 'run_that_takes_too_long', async () => {
  const began = Date.now()
  await raises('TimeoutError', () => commands().run('exec sleep 61', { timeoutMs: 1_000 }))
  assert(Date.now() - began < 5_000)
})

check(['commands.list', 'commands.kill'], 'list_and_kill', async () => {
  const handle = await commands().run('exec sleep 62', { background: true, envs: { TAGGED: 'yes' }, cwd: '/tmp' })
  const mine = (await commands().list()).find((one) => one.pid === handle.pid)
  assert(mine && mine.args.join(' ').includes('sleep 62') && mine.cwd === '/tmp' && mine.envs.TAGGED === 'yes', mine)
  equal(await commands().kill(handle.pid), true)
  await until(async () => !(await commands().kill(handle.pid)))
  await raises('CommandExitError', () => handle.wait())
})

check(['commands.run', 'CommandHandle.wait', 'CommandHandle.kill'], 'in_the_background', async () => {
  const handle = await commands().run('sleep 0.2; echo done', { background: true })
  const done = await handle.wait()
  equal([done.stdout, done.exitCode, handle.stdout, handle.exitCode], ['done\n', 0, 'done\n', 0])
  const endless = await commands().run('exec sleep 63', { background: true })
  equal(await endless.kill(), true)
  await raises('CommandExitError', () => endless.wait())
})

check(['commands.sendStdin', 'commands.closeStdin'], 'input_of_a_command', async () => {
  const handle = await commands().run('read line; echo got:$line; exec cat', { background: true, stdin: true })
  await commands().sendStdin(handle.pid, 'héllo\n')
  await commands().sendStdin(handle.pid, 'more')
  if (commands().closeStdin) {
    await commands().closeStdin(handle.pid)
    equal((await handle.wait()).stdout, 'got:héllo\nmore')
  } else {
    await until(() => handle.stdout.includes('got:héllo'))
    await handle.kill()
  }
})

check(['CommandHandle.sendStdin', 'CommandHandle.closeStdin'], 'input_through_the_handle', async () => {
  const handle = await commands().run('exec cat', { background: true, stdin: true })
  await handle.sendStdin('one ')
  await handle.sendStdin(new TextEncoder().encode('two'))
  await handle.closeStdin()
  equal((await handle.wait()).stdout, 'one two')
})

check(['commands.connect', 'CommandHandle.disconnect'], 'leave_and_come_back', async () => {
  const command = 'for n in 1 2 3 4 5; do echo tick $n; sleep 0.3; done; exit 3'
  const handle = await commands().run(command, { background: true })
  await handle.disconnect()
  const again = await commands().connect(handle.pid)
  const error = await raises('CommandExitError', () => again.wait())
  assert(error.exitCode === 3 && error.stdout.includes('tick 5'), error.stdout)
  await raises('NotFoundError', async () => (await commands().connect(999_999)).wait())
})

check(['commands.run'], 'many_commands_at_once', async () => {
  const all = await Promise.all([...Array(20).keys()].map((n) => commands().run(`echo ${n}`)))
  equal(all.map((one) => one.stdout), [...Array(20).keys()].map((n) => `${n}\n`))
})

check(['commands.run'], 'a_command_given_up', async () => {
  if (!e2b.E2B) return
  const stop = new AbortController()
  const wait = commands().run('echo $$ > /tmp/given-up-js; exec sleep 20', { signal: stop.signal }).catch((error) => error)
  await until(() => run.sb.files.exists('/tmp/given-up-js'))
  stop.abort()
  assert((await wait) instanceof Error)
  equal((await commands().run('echo well')).stdout, 'well\n')
})

function open(seen, options = {}) {
  return run.sb.pty.create({ cols: 80, rows: 24, onData: (data) => seen.push(Buffer.from(data)), ...options })
}
const type = (handle, text) => run.sb.pty.sendInput(handle.pid, new TextEncoder().encode(text))

check(['pty.create', 'pty.sendInput', 'pty.resize'], 'a_terminal', async () => {
  const seen = []
  const handle = await open(seen, { cwd: '/tmp', envs: { MINE: 'terminal' } })
  await type(handle, 'echo $((20+3)):$MINE:$TERM:$LANG; pwd; stty size\n')
  await until(() => Buffer.concat(seen).toString().includes('24 80'))
  await run.sb.pty.resize(handle.pid, { cols: 117, rows: 33 })
  await type(handle, 'stty size; exit\n')
  await handle.wait()
  const shown = Buffer.concat(seen).toString()
  for (const part of ['23:terminal:xterm-256color:C.UTF-8', '/tmp\r\n', '33 117']) assert(shown.includes(part), part, shown)
})

check(['pty.connect'], 'back_to_a_terminal', async () => {
  const handle = await open([])
  await handle.disconnect()
  const seen = []
  const again = await run.sb.pty.connect(handle.pid, { onData: (data) => seen.push(Buffer.from(data)) })
  await type(handle, 'echo back:$((40+2)); exit\n')
  await again.wait()
  assert(Buffer.concat(seen).toString().includes('back:42'))
})

check(['pty.kill'], 'kill_a_terminal', async () => {
  const handle = await open([])
  const wait = handle.wait().catch((error) => error)
  equal(await run.sb.pty.kill(handle.pid), true)
  // A signal finds a process until its end was noticed.
  await until(async () => !(await run.sb.pty.kill(handle.pid)))
  assert((await wait) instanceof Error)
  await pause(0)
})
