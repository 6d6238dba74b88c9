// Checks of the JavaScript client: how they are named, run and told. The twin of ../harness.py.
import { readFileSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const home = process.argv[2]
const dist = `${home}/node_modules/e2b/dist`

export const version = JSON.parse(readFileSync(`${home}/node_modules/e2b/package.json`)).version
// The ES module of the oldest release cannot build templates, wherever they go: it calls require, which is not there.
export const e2b = version.startsWith('2.21.')
  ? createRequire(import.meta.url)(`${dist}/index.js`)
  : await import(pathToFileURL(`${dist}/index.mjs`).href)
export const { Sandbox } = e2b

const CHECK_LIMIT_MS = 40_000

export class Absent extends Error {}

export const checks = []

/** Register a check of the methods in `covers` ("files.read"), which may take `limitMs`. */
export function check(covers, name, body, limitMs = CHECK_LIMIT_MS) {
  checks.push({ covers, name, body, limitMs, later: false })
}

/** Register a call that must be refused as not there yet, with a reason. */
export function later(covers, name, body) {
  checks.push({ covers, name, body, limitMs: CHECK_LIMIT_MS, later: true })
}

export const run = {
  sb: undefined,
  made: [],
  /** A sandbox of the check's own; it is killed when the runner ends. */
  async create(options = {}, template = undefined) {
    const all = { timeoutMs: 120_000, ...options }
    const sandbox = template ? await Sandbox.create(template, all) : await Sandbox.create(all)
    run.made.push(sandbox)
    return sandbox
  },
  /** A new empty folder in the shared sandbox. */
  async folder() {
    const path = `/home/user/${randomUUID().slice(0, 8)}`
    await run.sb.files.makeDir(path)
    return path
  },
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export function assert(truth, ...said) {
  if (!truth) throw new Error('assertion: ' + said.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join(' '))
}

export function equal(found, wanted) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (a !== b) throw new Error(`assertion: ${a} instead of ${b}`)
}

/** The first true value of `probe`, asked ten times a second. */
export async function until(probe, limitMs = 10_000) {
  const deadline = Date.now() + limitMs
  for (;;) {
    const value = await probe()
    if (value) return value
    assert(Date.now() < deadline, `nothing came within ${limitMs} ms`)
    await pause(100)
  }
}

/** Do `call()`, which must throw a `kind` with every part of `said` in its message. */
export async function raises(kind, call, ...said) {
  let answer
  try {
    answer = await call()
  } catch (error) {
    const wanted = typeof kind === 'string' ? e2b[kind] : kind
    assert(error instanceof wanted, `threw ${error?.constructor?.name}: ${error?.message}, not ${wanted.name}`)
    for (const part of said) assert(error.message.includes(part), `says ${error.message}, without ${part}`)
    return error
  }
  throw new Error(`assertion: answered ${JSON.stringify(answer)} instead of throwing ${kind.name ?? kind}`)
}

/** The reason, when `error` is the client's form of a 501 that says why. */
function refusedForNow(error) {
  const found = /^501: (.{15,})$/s.exec(error?.message ?? '')
  return found?.[1]
}

export async function attempt(one, open) {
  const methods = one.covers.filter((name) => open.has(name))
  const began = performance.now()
  let status = 'ok'
  let reason = ''
  let timer
  try {
    if (methods.length === 0) throw new Absent(`this release has none of ${one.covers.join(', ')}`)
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it took more than ${one.limitMs} ms`)), one.limitMs)
    })
    await Promise.race([one.body(), limit])
    if (one.later) [status, reason] = ['fail', 'it is answered now: this needs a check of what it does']
  } catch (error) {
    const why = one.later && refusedForNow(error)
    if (error instanceof Absent) [status, reason] = ['absent', error.message]
    else if (why) [status, reason] = ['later', why]
    else {
      const where = /runners\/js\/(?!harness)(\w+\.mjs:\d+)/.exec(error?.stack ?? '')?.[1] ?? ''
      ;[status, reason] = ['fail', `${error?.constructor?.name}: ${error?.message}`.slice(0, 600) + (where && ` (${where})`)]
    }
  } finally {
    clearTimeout(timer)
  }
  return { check: one.name, methods, status, reason, ms: Math.round(performance.now() - began) }
}

export const tell = (line) => process.stdout.write(JSON.stringify(line) + '\n')

/** What the declarations call public, as "files.read": class bodies of index.d.ts, with what they inherit. */
export function publicMethods() {
  const text = readFileSync(`${dist}/index.d.ts`, 'utf8')
  const classes = new Map()
  for (const found of text.matchAll(/^declare class (\w+)(?:<[^>]*>)?(?: extends (\w+))?[^{]*\{\n([\s\S]*?)^\}/gm)) {
    const names = [...found[3].matchAll(/^ {2,4}(static )?(\w+)(?:<[^(]*>)?\(/gm)].map((match) => match[2])
    classes.set(found[1], { parent: found[2], names: names.filter((name) => name !== 'constructor') })
  }
  const all = (name) => {
    const one = classes.get(name)
    return one ? [...one.names, ...(one.parent ? all(one.parent) : [])] : []
  }
  const rows = {
    Sandbox: 'Sandbox', commands: 'Commands', CommandHandle: 'CommandHandle', pty: 'Pty', files: 'Filesystem',
    WatchHandle: 'WatchHandle', git: 'Git', SandboxPaginator: 'SandboxPaginator',
    SnapshotPaginator: 'SnapshotPaginator', SecretPaginator: 'SecretPaginator', Volume: 'Volume', Secret: 'Secret',
  }
  const open = new Set()
  for (const [row, name] of Object.entries(rows)) for (const method of all(name)) open.add(`${row}.${method}`)
  // Of templates, what is called on the class is a row; what builds one is the client's own work and is one row.
  const onClass = [...text.matchAll(/^ {2,4}static (\w+)(?:<[^(]*>)?\(/gm)].map((match) => match[1])
  for (const name of Object.getOwnPropertyNames(e2b.Template)) {
    if (typeof e2b.Template[name] === 'function' && onClass.includes(name)) open.add(`Template.${name}`)
  }
  open.add('TemplateBuilder')
  if (e2b.E2B) open.add('E2B')
  return open
}
