/** An agent that works for a user: it reads a ticket, leaves a note, and may not close it. */
import { createAgent, privateKeyJwt } from '@errand/agent'
import { ISSUER, key, userToken } from '../here.ts'

const API = process.env['TOOL_URL'] ?? 'http://127.0.0.1:4471'

const agent = createAgent({
  issuer: ISSUER,
  evidence: privateKeyJwt({ clientId: 'research', key: key('agents/research.jwk') }),
})
const task = await agent.task({
  subjectToken: () => userToken('alice', ['support']),
  purpose: 'Find out why ticket 7 was charged twice',
  environment: 'development',
  dataClassification: 'internal',
  deadlineSeconds: 300,
})

// `fetch` gets a token for the tool, keeps it, renews it, and proves possession of its key with each request.
const read = await task.fetch('tickets', `${API}/tickets/7`)
console.log(read.status, await read.text())

const note = await task.fetch('tickets', `${API}/tickets/7/comments`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ text: 'Refund is on its way' }),
})
console.log(note.status, await note.text())

// The tool knows the operation, but this agent's ceiling does not have it: the tool itself refuses.
const close = await task.fetch('tickets', `${API}/tickets/7/close`, { method: 'POST' })
console.log(close.status, await close.text())

await task.complete() // its tokens stop working now, not when they expire
