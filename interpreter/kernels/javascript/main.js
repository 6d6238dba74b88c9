'use strict';
// The main thread of the kernel: it runs the code, and nothing else. The other thread (io.js) speaks with the server,
// so that it can answer, pass output on and interrupt while code is busy here.

const fs = require('node:fs');
const inspector = require('node:inspector');
const Module = require('node:module');
const path = require('node:path');
const util = require('node:util');
const { pathToFileURL } = require('node:url');
const { Worker } = require('node:worker_threads');

const [language, connectionFile] = process.argv.slice(2);
const GLOBAL_MODULES = ['/usr/local/lib/', '/usr/share/nodejs/'];
const HERE = __dirname + path.sep;

const io = new Worker(path.join(__dirname, 'io.js'), {
  workerData: { language, connection: JSON.parse(fs.readFileSync(connectionFile, 'utf8')) },
});
io.on('error', (error) => {
  process.report = undefined;
  fs.writeSync(2, `the kernel's connection failed: ${error.stack}\n`);
  process.exit(1);
});
const post = io.postMessage.bind(io);

// Each run's values are reached through the inspector, whose REPL mode knows top-level await and lets names be declared
// again, as a notebook needs. It is this very thread's own: nothing listens on a port.
const session = new inspector.Session();
session.connect();
let held;

function evaluate(code, done) {
  const options = { expression: code, replMode: true, awaitPromise: true, objectGroup: 'cell' };
  session.post('Runtime.evaluate', options, (error, told) => {
    try {
      if (error) done(error);
      else if (told.exceptionDetails) done(undefined, undefined, { value: valueOf(told.exceptionDetails.exception) });
      else done(undefined, valueOf(told.result));
    } finally {
      session.post('Runtime.releaseObjectGroup', { objectGroup: 'cell' });
    }
  });
}

function valueOf(remote) {
  if (remote.objectId === undefined) {
    if (remote.unserializableValue === undefined) return remote.value;
    const text = remote.unserializableValue;
    return text.endsWith('n') ? BigInt(text.slice(0, -1)) : Number(text);
  }
  const take = 'function () { globalThis[Symbol.for("atoll.kernel")].take(this); }';
  session.post('Runtime.callFunctionOn', { objectId: remote.objectId, functionDeclaration: take });
  const value = held;
  held = undefined;
  return value;
}

function hidden(name, value) {
  Object.defineProperty(globalThis, Symbol.for(name), { value, enumerable: false });
}

hidden('atoll.kernel', { take: (value) => { held = value; } });

// Variables of one run: what was there before it, to be put back after it.
let before = [];
let running;

function set(envs) {
  restore();
  before = Object.keys(envs).map((name) => [name, process.env[name]]);
  Object.assign(process.env, envs);
}

function restore() {
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  before = [];
}

// --- modules: looked for where the code runs, not where the kernel lies ----------------------------------------------

const parents = () => [process.cwd() + '/', ...GLOBAL_MODULES].map((place) => path.join(place, '[cell]'));

function requireFromHere(name) {
  let first;
  for (const parent of parents()) {
    const require = Module.createRequire(parent);
    try {
      return require(require.resolve(name));
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND' || !String(error.message).includes(`'${name}'`)) throw error;
      first ??= error;
    }
  }
  throw first;
}
requireFromHere.resolve = (name, options) => Module.createRequire(parents()[0]).resolve(name, options);
requireFromHere.cache = require.cache;

let resolver;
async function importFromHere(specifier, options) {
  let name = String(specifier).replace(/^npm:/, '').replace(/^((?:@[^/@]+\/)?[^/@]+)@[^/]+/, '$1');
  if (Module.isBuiltin(name) || /^(data|file|node):/.test(name)) return import(name);
  resolver ??= await import('import-meta-resolve');
  let first;
  for (const parent of parents()) {
    try {
      return await import(resolver.resolve(name, pathToFileURL(parent).href), options);
    } catch (error) {
      if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
      first ??= error;
    }
  }
  throw first;
}
hidden('atoll.import', importFromHere);
hidden('atoll.meta', { get url() { return pathToFileURL(parents()[0]).href; }, get dirname() { return process.cwd(); } });

const given = {
  require: requireFromHere,
  module: { exports: {} },
  exports: {},
  display,
};
for (const [name, value] of Object.entries(given)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
Object.defineProperty(globalThis, '__dirname', { get: () => process.cwd(), configurable: true });
Object.defineProperty(globalThis, '__filename', { get: () => parents()[0], configurable: true });
process.argv = [process.argv[0], ''];

// --- what is shown ---------------------------------------------------------------------------------------------------

const METHODS = [
  ['_toHtml', 'text/html'],
  ['_toSvg', 'image/svg+xml'],
  ['_toPng', 'image/png'],
  ['_toJpeg', 'image/jpeg'],
  ['_toMarkdown', 'text/markdown'],
  ['_toLatex', 'text/latex'],
];

function bundleOf(value) {
  if (value !== null && typeof value === 'object') {
    const whole = value[Symbol.for('Jupyter.display')] ?? value._toMime;
    if (typeof whole === 'function') return { 'text/plain': util.inspect(value), ...whole.call(value) };
    const bundle = { 'text/plain': util.inspect(value) };
    for (const [method, mime] of METHODS) {
      if (typeof value[method] === 'function') bundle[mime] = String(value[method]());
    }
    return bundle;
  }
  return { 'text/plain': util.inspect(value) };
}

function shown(value) {
  // Through text, so that what is posted is plain data whatever the code made of its objects.
  return JSON.parse(JSON.stringify(bundleOf(value)));
}

function display(value) {
  post({ kind: 'display', data: shown(value) });
}
display.html = (text) => post({ kind: 'display', data: { 'text/html': String(text), 'text/plain': String(text) } });
display.markdown = (text) => post({ kind: 'display', data: { 'text/markdown': String(text), 'text/plain': String(text) } });

function failure(thrown) {
  if (util.types.isNativeError(thrown) || (thrown && typeof thrown === 'object' && 'stack' in thrown)) {
    const lines = String(thrown.stack ?? '').split('\n');
    const own = lines.findIndex((line) => /^\s+at .*(node:inspector|node:internal)/.test(line) || line.includes(HERE));
    return {
      ename: String(thrown.name ?? 'Error'),
      evalue: String(thrown.message ?? ''),
      traceback: own < 0 ? lines : lines.slice(0, own),
    };
  }
  const text = util.inspect(thrown);
  return { ename: 'Error', evalue: text, traceback: [`Uncaught ${text}`] };
}

for (const name of ['stdout', 'stderr']) {
  process[name].write = (chunk, encoding, done) => {
    const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
    post({ kind: 'stream', name, text });
    const callback = typeof encoding === 'function' ? encoding : done;
    if (callback) process.nextTick(callback);
    return true;
  };
}

// What fails after its cell has ended does not end the kernel.
const late = (thrown) => post({ kind: 'stream', name: 'stderr', text: `Uncaught ${failure(thrown).traceback.join('\n')}\n` });
process.on('uncaughtException', late);
process.on('unhandledRejection', late);
// An interrupt is sent to the whole group, for the sake of what the code started; here the other thread sees to it.
process.on('SIGINT', () => {});

// --- runs ------------------------------------------------------------------------------------------------------------

function run({ id, code, keep, envs }) {
  // One that was interrupted while it waited may have left its own.
  running = id;
  restore();
  Object.assign(process.env, keep);
  set(envs ?? {});
  evaluate(code, (error, value, thrown) => {
    if (error) return end(id, { error: { ename: 'Error', evalue: error.message, traceback: [] } });
    if (thrown) return end(id, { error: failure(thrown.value) });
    if (util.types.isPromise(value)) return value.then((v) => finish(id, v), (e) => end(id, { error: failure(e) }));
    finish(id, value);
  });
}

function finish(id, value) {
  try {
    end(id, { data: value === undefined ? undefined : shown(value) });
  } catch (error) {
    end(id, { error: failure(error) });
  }
}

function end(id, outcome) {
  if (running === id) restore();
  post({ kind: 'done', id, ...outcome });
}

io.on('message', (message) => {
  if (message.kind === 'ping') post({ kind: 'pong', number: message.number });
  else if (message.kind === 'run') run(message);
  else if (message.kind === 'exit') process.exit(0);
});
