/** A tool API in a process of its own: argv names the service, its key file and the staleness bound; prints its port. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createVerifier, nodeMiddleware } from '@errand/verifier'

const [issuer = '', keyFile = '', staleness = '2'] = process.argv.slice(2)
const verifier = createVerifier({
  issuer,
  audience: 'https://tickets.example.com/',
  tool: 'tickets',
  key: JSON.parse(readFileSync(keyFile, 'utf8')),
  acceptDevelopmentTokens: true,
  stalenessSeconds: { read: Number(staleness) },
  routes: [{ method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' }],
})
await verifier.ready()
const guard = nodeMiddleware(verifier)
const server = createServer((request, response) => {
  guard(request, response, () => response.end('served'))
})
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port))
