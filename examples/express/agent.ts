/** An agent that works by itself, on a schedule, without a user: policy allows the nightly triage to read. */
import { createAgent, ErrandError, privateKeyJwt } from '@errand/agent'
import { ISSUER, key } from '../here.ts'

const API = process.env['TOOL_URL'] ?? 'http://127.0.0.1:4472'

const agent = createAgent({
  issuer: ISSUER,
  evidence: privateKeyJwt({ clientId: 'triage', key: key('agents/triage.jwk') }),
})
const task = await agent.task({
  autonomous: true,
  purpose: 'Look through new tickets',
  environment: 'development',
  dataClassification: 'internal',
  deadlineSeconds: 300,
  budget: { maxExchanges: 5 },
})

const found = await task.fetch('tickets', `${API}/tickets?limit=5`)
console.log(found.status, await found.text())
const read = await task.fetch('tickets', `${API}/tickets/7`)
console.log(read.status, await read.text())

// Asking for more than one has is refused whole, and says what is missing and why.
try {
  await task.token({ tool: 'tickets', scope: 'tickets:add_comment' })
} catch (error) {
  if (!(error instanceof ErrandError)) throw error
  console.log(error.reason, error.missing)
}
await task.complete()

// A stranger is told where tokens come from (RFC 9728), and nothing else.
const stranger = await fetch(`${API}/tickets`)
console.log(stranger.status, stranger.headers.get('www-authenticate')?.split(' ')[1])
