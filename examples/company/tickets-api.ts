/** The company's ticket system, a Hono application behind `@errand/verifier`. It keeps a careless access log. */
import { appendFileSync } from 'node:fs'
import { createVerifier, honoMiddleware, type VerifiedCall } from '@errand/verifier'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { fileIn, readSettings, urlsOf } from './settings.ts'
import { toolKey } from './tool-key.ts'

const settings = readSettings()

const tickets = new Map([
  [
    '4711',
    {
      ticket_id: '4711',
      subject: 'Charged twice for one order',
      customer: 'Dormouse Teas',
      payments: ['pay_1001', 'pay_1002'],
      comments: [] as { by: string; for: string; text: string }[],
    },
  ],
])

const verifier = createVerifier({
  issuer: urlsOf(settings).errand,
  audience: 'https://tickets.example.com/',
  tool: 'tickets',
  key: await toolKey(settings, 'tickets'),
  routes: [
    { method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' },
    { method: 'POST', path: '/tickets/:ticket_id/comments', operation: 'add_comment' },
  ],
  // The demo's service runs in development mode, and its tokens say so.
  acceptDevelopmentTokens: true,
  onProblem: (problem) => console.error(problem),
})

const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
app.get('/health', (c) => c.json({ status: 'ok' }))
app.use(async (c, next) => {
  // Never do this: whoever reads the log reads credentials. The thief of the demo does.
  const headers = { authorization: c.req.header('authorization'), dpop: c.req.header('dpop') }
  appendFileSync(
    fileIn(settings, 'tickets-access.log'),
    `${JSON.stringify({ method: c.req.method, url: c.req.url, headers })}\n`,
  )
  await next()
})
app.use(honoMiddleware(verifier))

app.get('/tickets/:ticket_id', (c) => {
  const ticket = tickets.get(c.req.param('ticket_id'))
  return ticket ? c.json(ticket) : c.json({ error: 'not_found' }, 404)
})
app.post('/tickets/:ticket_id/comments', (c) => {
  const caller = c.get('caller')
  const ticket = tickets.get(String(caller.arguments?.['ticket_id']))
  if (!ticket) return c.json({ error: 'not_found' }, 404)
  const comment = { by: caller.agent, for: caller.subject, text: String(caller.arguments?.['text'] ?? '') }
  ticket.comments.push(comment)
  return c.json(comment, 201)
})

await verifier.ready()
serve({ fetch: app.fetch, port: settings.ports.tickets, hostname: '127.0.0.1' })
