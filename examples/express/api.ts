/** A ticket API in Express that only serves agents with a task token for it. */
import { createVerifier, nodeMiddleware, type NodeRequest } from '@errand/verifier'
import express from 'express'
import { ISSUER, key } from '../here.ts'

const verifier = createVerifier({
  issuer: ISSUER,
  audience: 'https://tickets.example.com/',
  tool: 'tickets',
  key: JSON.parse(key('tools/tickets.jwk')),
  acceptDevelopmentTokens: true, // `npm start` runs in development mode; never in production
  routes: [
    // Arguments of the query that are numbers are judged as numbers.
    { method: 'GET', path: '/tickets', operation: 'search_tickets', types: { limit: 'integer' } },
    { method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' },
  ],
})

const app = express()
app.get('/health', (_request, response) => void response.json({ status: 'ok' })) // before the guard: for everybody
app.use(nodeMiddleware(verifier)) // from here on every request has a verified caller

const callerOf = (request: NodeRequest) => request.caller!
app.get('/tickets', (request, response) => {
  response.json({ found: [7], limit: callerOf(request).arguments?.['limit'], for: callerOf(request).subject })
})
app.get('/tickets/:ticket_id', (request, response) => {
  response.json({ ticket: callerOf(request).arguments?.['ticket_id'], task: callerOf(request).task.depth })
})

const port = Number(process.env['PORT'] ?? 4472)
await verifier.ready()
app.listen(port, '127.0.0.1', () => console.log(`tickets: listening on port ${port}`))
