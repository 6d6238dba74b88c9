// node main.mjs <home of the installed client>: try every public method of the JavaScript client against the server
// that E2B_API_URL and E2B_SANDBOX_URL name, and print a JSON line for the client and for each check.
import { attempt, checks, publicMethods, run, Sandbox, tell, version } from './harness.mjs'
import './sandboxes.mjs'
import './pauses.mjs'
import './commands.mjs'
import './files.mjs'
import './gits.mjs'
import './templates.mjs'
import './examples.mjs'
import './later.mjs'

const open = publicMethods()
tell({ client: version, flavour: 'js', public: [...open].sort() })
const only = new Set((process.env.E2B_COMPAT_ONLY ?? '').split(',').filter(Boolean))
try {
  run.sb = await run.create({ timeoutMs: 600_000, metadata: { suite: 'compat-js' }, envs: { GREETING: 'sandbox' } })
  for (const one of checks) if (only.size === 0 || only.has(one.name)) tell(await attempt(one, open))
} finally {
  await Promise.all(run.made.map((sandbox) => Sandbox.kill(sandbox.sandboxId)))
}
process.exit(0)
