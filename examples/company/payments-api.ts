/** The company's payment system: plain `node:http` behind `@errand/verifier`. */
import { createServer } from 'node:http'
import { createVerifier, type NodeRequest, nodeMiddleware } from '@errand/verifier'
import { readSettings, urlsOf } from './settings.ts'
import { toolKey } from './tool-key.ts'

const settings = readSettings()

const payments = new Map([
  ['pay_1001', { payment_id: 'pay_1001', order: '4711', amount_cents: 4990, at: '2026-11-20T09:14:03Z' }],
  ['pay_1002', { payment_id: 'pay_1002', order: '4711', amount_cents: 4990, at: '2026-11-20T09:14:04Z' }],
  ['pay_2001', { payment_id: 'pay_2001', order: '5040', amount_cents: 129_900, at: '2026-11-20T11:40:57Z' }],
])

const verifier = createVerifier({
  issuer: urlsOf(settings).errand,
  audience: 'https://payments.example.com/',
  tool: 'payments',
  key: await toolKey(settings, 'payments'),
  routes: [
    { method: 'GET', path: '/payments/:payment_id', operation: 'read_payment' },
    { method: 'POST', path: '/payments/:payment_id/refunds', operation: 'refund' },
  ],
  budgeted: { refund: { cost: 1 } },
  acceptDevelopmentTokens: true,
  onProblem: (problem) => console.error(problem),
})
const guard = nodeMiddleware(verifier)

await verifier.ready()
createServer((request: NodeRequest, response) => {
  const answer = (status: number, body: object): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  if (request.url === '/health') return answer(200, { status: 'ok' })
  guard(request, response, (error) => {
    const { caller } = request
    if (error || !caller) {
      console.error(error)
      return answer(500, { error: 'server_error' })
    }
    const payment = payments.get(String(caller.arguments?.['payment_id']))
    if (!payment) return answer(404, { error: 'not_found' })
    if (caller.operation === 'read_payment') return answer(200, payment)
    return answer(201, { refund_of: payment.payment_id, by: caller.agent, for: caller.subject })
  })
}).listen(settings.ports.payments, '127.0.0.1')
