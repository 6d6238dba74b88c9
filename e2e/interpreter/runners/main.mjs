// What E2B documents of its JavaScript client: `node main.mjs <where it is installed>`.
import assert from 'node:assert/strict'
import { pathToFileURL } from 'node:url'

const home = process.argv[2]
const { Sandbox } = await import(pathToFileURL(`${home}/node_modules/@e2b/code-interpreter/dist/index.mjs`).href)

const examples = {
  async run_code(sbx) {
    await sbx.runCode('x = 1')
    assert.equal((await sbx.runCode('x += 1; x')).text, '2')
  },

  async streaming(sbx) {
    const seen = []
    const execution = await sbx.runCode('print("a")\nimport sys\nprint("b", file=sys.stderr)\n"c"', {
      onStdout: (message) => seen.push(message.line.trim()),
      onStderr: (message) => seen.push(message.line.trim()),
      onResult: (result) => seen.push(result.text),
    })
    assert.deepEqual(seen, ['a', 'b', 'c'])
    assert.equal(execution.logs.stdout.join(''), 'a\n')
  },

  async errors_are_values(sbx) {
    const told = []
    const execution = await sbx.runCode('1 / 0', { onError: (error) => told.push(error.name) })
    assert.equal(execution.error.name, 'ZeroDivisionError')
    assert.deepEqual(told, ['ZeroDivisionError'])
  },

  async contexts(sbx) {
    const context = await sbx.createCodeContext({ language: 'javascript', cwd: '/tmp' })
    assert.equal((await sbx.runCode('const y = 3; process.cwd()', { context })).text, '/tmp')
    assert.equal((await sbx.runCode('y', { context })).text, '3')
    assert.ok((await sbx.listCodeContexts()).some((one) => one.id === context.id))
    await sbx.restartCodeContext(context)
    assert.equal((await sbx.runCode('y', { context })).error.name, 'ReferenceError')
    await sbx.removeCodeContext(context)
    assert.ok(!(await sbx.listCodeContexts()).some((one) => one.id === context.id))
  },

  async languages(sbx) {
    assert.equal((await sbx.runCode('const a = 20; a + 1', { language: 'js' })).text, '21')
    assert.equal((await sbx.runCode('const b: number = 4; b * 2', { language: 'ts' })).text, '8')
    assert.equal((await sbx.runCode('echo hi', { language: 'bash' })).logs.stdout.join(''), 'hi\n')
  },

  async environment_variables(sbx) {
    const read = 'import os; os.getenv("ONCE")'
    assert.equal((await sbx.runCode(read, { envs: { ONCE: '1' } })).text, '1')
    assert.equal((await sbx.runCode('os.getenv("FOREVER")')).text, 'yes')
  },

  async timeout_interrupts(sbx) {
    await sbx.runCode('kept = 7')
    await assert.rejects(sbx.runCode('import time; time.sleep(60)', { timeoutMs: 1000 }))
    assert.equal((await sbx.runCode('kept')).text, '7')
  },

  async charts(sbx) {
    const { results } = await sbx.runCode(`
import matplotlib.pyplot as plt
plt.plot([1, 2], [3, 4], label='l'); plt.title('T'); plt.xlabel('x (s)'); plt.show()`)
    assert.equal(results.length, 1)
    assert.ok(results[0].png)
    assert.equal(results[0].chart.type, 'line')
    assert.equal(results[0].chart.x_unit, 's')
    assert.deepEqual(results[0].chart.elements[0].points, [[1, 3], [2, 4]])
  },

  async data_frames(sbx) {
    const { results } = await sbx.runCode('import pandas as pd; pd.DataFrame({"a": [1, 2]})')
    assert.deepEqual(results[0].data, { a: [1, 2] })
    assert.ok(results[0].html.includes('<table'))
  },
}

const tell = (example, began, reason) =>
  console.log(JSON.stringify({ example, reason, ms: Math.round(performance.now() - began) }))

let began = performance.now()
const sbx = await Sandbox.create({ envs: { FOREVER: 'yes' }, timeoutMs: 120_000 })
tell('create', began, '')
try {
  for (const [name, body] of Object.entries(examples)) {
    began = performance.now()
    let reason = ''
    try {
      await body(sbx)
    } catch (error) {
      reason = String(error.stack).slice(0, 1500) || 'it threw nothing'
    }
    tell(name, began, reason)
  }
} finally {
  await sbx.kill()
}
