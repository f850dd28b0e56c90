/** A ticket API in Hono that only serves agents with a task token for it. */
import { serve } from '@hono/node-server'
import { createVerifier, honoMiddleware, type VerifiedCall } from '@errand/verifier'
import { Hono } from 'hono'
import { ISSUER, key } from '../here.ts'

const verifier = createVerifier({
  issuer: ISSUER,
  // Who we are to Errand: config/tools/tickets.yaml. An audience is a name; it need not be where we are reached.
  audience: 'https://tickets.example.com/',
  tool: 'tickets',
  key: JSON.parse(key('tools/tickets.jwk')),
  acceptDevelopmentTokens: true, // `npm start` runs in development mode; never in production
  // Which operation a request is. What matches no route is refused.
  routes: [
    { method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' },
    { method: 'POST', path: '/tickets/:ticket_id/comments', operation: 'add_comment' },
    { method: 'POST', path: '/tickets/:ticket_id/close', operation: 'close_ticket' },
  ],
})

const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
app.use(honoMiddleware(verifier))

app.get('/tickets/:ticket_id', (c) => {
  // Who calls, for whom, with which arguments: all of it verified. Use these arguments and no other reading of the request.
  const { subject, clientId, arguments: args } = c.get('caller')
  return c.json({ ticket: args?.['ticket_id'], text: 'Charged twice', read_by: clientId, for: subject })
})
app.post('/tickets/:ticket_id/comments', (c) => c.json({ added: c.get('caller').arguments?.['text'] }, 201))
app.post('/tickets/:ticket_id/close', (c) => c.json({ closed: true }))

const port = Number(process.env['PORT'] ?? 4471)
await verifier.ready() // it has the keys, and knows of every revocation
serve({ fetch: app.fetch, hostname: '127.0.0.1', port }, () => console.log(`tickets: listening on port ${port}`))
