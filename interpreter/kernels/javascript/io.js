'use strict';
// The kernel's connection: sockets, the order of executions, and interrupts. Runs beside the code, never in its way.

const inspector = require('node:inspector');
const { parentPort, workerData } = require('node:worker_threads');
const { Publisher, Reply, Router } = require('zeromq');

const { transform } = require('./transform.js');
const { Wire } = require('./wire.js');

const { connection, language } = workerData;
const PONG_MS = 100;
const GIVE_UP_MS = 8000;

const wire = new Wire(connection.key);
const at = (port) =>
  connection.transport === 'ipc' ? `ipc://${connection.ip}-${port}` : `${connection.transport}://${connection.ip}:${port}`;

const shell = new Router({ linger: 500 });
const control = new Router({ linger: 500 });
const stdin = new Router({ linger: 0 });
const iopub = new Publisher({ sendHighWaterMark: 0, linger: 500 });
const heartbeat = new Reply({ linger: 0 });

let count = 0;
let current = null;
let last = null;
let pongs = 0;
let pings = 0;

// One send at a time: the socket refuses a second one meanwhile.
function queueOf(socket) {
  let tail = Promise.resolve();
  return (frames) => {
    tail = tail.then(() => socket.send(frames)).catch(() => {});
    return tail;
  };
}
const broadcast = queueOf(iopub);
const answerShell = queueOf(shell);
const answerControl = queueOf(control);

const publish = (kind, content, to) => broadcast(wire.frames(kind, content, to, [kind]));
const status = (state, to) => publish('status', { execution_state: state }, to);

function info() {
  return {
    status: 'ok',
    protocol_version: '5.4',
    implementation: 'atoll-javascript',
    implementation_version: '0.1.0',
    banner: `Node ${process.version}`,
    help_links: [],
    language_info: {
      name: language,
      version: process.versions.node,
      mimetype: language === 'typescript' ? 'text/typescript' : 'text/javascript',
      file_extension: language === 'typescript' ? '.ts' : '.js',
    },
  };
}

async function execute(message) {
  const { code, silent } = message.content;
  if (!silent) {
    count += 1;
    publish('execute_input', { code, execution_count: count }, message);
  }
  let ended;
  const end = new Promise((resolve) => { ended = resolve; });
  current = { id: message.header.msg_id, message, silent, end: ended };
  last = message;
  let outcome;
  try {
    const { keep, envs } = message.metadata.atoll ?? {};
    parentPort.postMessage({ kind: 'run', id: current.id, code: transform(code, language), keep, envs });
    outcome = await end;
  } catch (error) {
    outcome = { error: { ename: error.name, evalue: error.message, traceback: [`${error.name}: ${error.message}`] } };
  }
  current = null;
  if (outcome.error) {
    publish('error', outcome.error, message);
    return { status: 'error', execution_count: count, ...outcome.error };
  }
  if (outcome.data && !silent) {
    publish('execute_result', { execution_count: count, data: outcome.data, metadata: {} }, message);
  }
  return { status: 'ok', execution_count: count, user_expressions: {}, payload: [] };
}

// --- interrupts ------------------------------------------------------------------------------------------------------

function answers(milliseconds) {
  const number = ++pings;
  parentPort.postMessage({ kind: 'ping', number });
  return new Promise((resolve) => {
    const began = Date.now();
    const look = () => {
      if (pongs >= number) resolve(true);
      else if (Date.now() - began > milliseconds) resolve(false);
      else setTimeout(look, 5);
    };
    look();
  });
}

function terminate() {
  return new Promise((resolve) => {
    const session = new inspector.Session();
    const done = () => { session.disconnect(); resolve(); };
    session.connectToMainThread();
    session.post('Runtime.terminateExecution', done);
    setTimeout(resolve, 200);
  });
}

async function interrupt() {
  const stopped = current;
  try {
    // What the code started and waits for ends as it does at a Ctrl-C.
    process.kill(-process.pid, 'SIGINT');
  } catch { /* it is not the leader of a group */ }
  if (!stopped) return;
  const until = Date.now() + GIVE_UP_MS;
  // Code that only waits gives way at once. Code that is busy is ended where it is; its variables stay.
  while (!(await answers(PONG_MS))) {
    if (Date.now() > until) process.kill(process.pid, 'SIGKILL');
    await terminate();
  }
  stopped.end({ error: { ename: 'KeyboardInterrupt', evalue: '', traceback: ['KeyboardInterrupt'] } });
}

// --- the other thread ------------------------------------------------------------------------------------------------

parentPort.on('message', (message) => {
  const to = current ? current.message : last;
  if (message.kind === 'pong') pongs = Math.max(pongs, message.number);
  else if (message.kind === 'stream') {
    if (!current || !current.silent) publish('stream', { name: message.name, text: message.text }, to);
  } else if (message.kind === 'display') {
    publish('display_data', { data: message.data, metadata: {}, transient: {} }, to);
  } else if (message.kind === 'done' && current && current.id === message.id) current.end(message);
});

async function handle(message, answer) {
  status('busy', message);
  const reply = (kind, content) => answer(wire.frames(kind, content, message, message.identities));
  switch (message.header.msg_type) {
    case 'kernel_info_request':
      reply('kernel_info_reply', info());
      break;
    case 'execute_request':
      reply('execute_reply', await execute(message));
      break;
    case 'interrupt_request':
      await interrupt();
      reply('interrupt_reply', { status: 'ok' });
      break;
    case 'shutdown_request':
      await reply('shutdown_reply', { status: 'ok', restart: message.content.restart });
      parentPort.postMessage({ kind: 'exit' });
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 500);
      break;
    case 'is_complete_request':
      reply('is_complete_reply', { status: 'unknown' });
      break;
    case 'comm_info_request':
      reply('comm_info_reply', { status: 'ok', comms: {} });
      break;
    case 'history_request':
      reply('history_reply', { status: 'ok', history: [] });
      break;
    default:
      break;
  }
  status('idle', message);
}

async function serve(socket, answer) {
  for await (const frames of socket) {
    const message = wire.parse(frames);
    if (message) await handle(message, answer);
  }
}

async function main() {
  await shell.bind(at(connection.shell_port));
  await control.bind(at(connection.control_port));
  await stdin.bind(at(connection.stdin_port));
  await iopub.bind(at(connection.iopub_port));
  await heartbeat.bind(at(connection.hb_port));
  status('starting', null);
  await Promise.all([
    serve(shell, answerShell),
    serve(control, answerControl),
    (async () => {
      for await (const frames of heartbeat) await heartbeat.send(frames);
    })(),
  ]);
}

main();
