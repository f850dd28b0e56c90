/** A workload token whose cluster is asked about it, over HTTP, with an API server of our own. */
import { KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { signingKey } from '../attest/house.ts'
import { issue, NOW, pemOf } from '../attest/pki.ts'
import { CLUSTER, serviceAccountToken } from '../attest/vouched.ts'
import { decode, type House, ISSUER, newKeyPair, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }
const cluster = signingKey('cluster-1')
const proofKey = newKeyPair()

let house: House
let server: Server
let asked: { readonly authorization: string | undefined; readonly spec: Record<string, unknown> }[]
let status: Record<string, unknown> | undefined
const GOOD = {
  authenticated: true,
  audiences: [ISSUER],
  user: { username: 'system:serviceaccount:agents:research' },
}

beforeAll(async () => {
  asked = []
  const hour = Date.now() / 1000 + 3600
  const ca = await issue({ name: 'CN=cluster', ca: true, notAfter: hour })
  const leaf = await issue({
    name: 'CN=api',
    issuer: ca,
    notAfter: hour,
    names: [{ type: 'ip', value: '127.0.0.1' }],
  })
  const key = String(KeyObject.from(leaf.keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))
  server = createServer({ cert: pemOf(leaf), key }, (incoming, response) => {
    let body = ''
    incoming.on('data', (chunk) => {
      body += String(chunk)
    })
    incoming.on('end', () => {
      asked.push({ authorization: incoming.headers.authorization, spec: JSON.parse(body).spec })
      if (status === undefined) response.writeHead(500).end()
      else response.writeHead(201).end(JSON.stringify({ kind: 'TokenReview', status }))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  house = await openHouse({
    startAt: NOW,
    config: {
      'agents/research.yaml': (text) =>
        text.replace(
          'evidence: [private_key_jwt]\n',
          `evidence: [private_key_jwt, workload_oidc]
workload: [{ issuer: cluster, claims: { kubernetes.io: { namespace: agents, serviceaccount: { name: research } } } }]
`,
        ),
      'issuers/cluster.yaml': `kind: workload_oidc
name: cluster
issuer: ${CLUSTER}
jwks_file: cluster/jwks.json
algorithms: [ES256]
token_review:
  api_server: https://127.0.0.1:${(server.address() as AddressInfo).port}
  ca_file: cluster/ca.crt
  token_file: cluster/token
  cache_seconds: 5
`,
      '../keys/cluster/jwks.json': JSON.stringify({ keys: [cluster.jwk] }),
      '../keys/cluster/ca.crt': pemOf(ca),
      '../keys/cluster/token': 'reviewer\n',
    },
  })
})
afterAll(async () => {
  await house.close()
  server.close()
})

it('is asked once in a while, and no longer accepted when its cluster disowns it or cannot be asked', async () => {
  const token = await serviceAccountToken(cluster, { aud: ISSUER })
  const ask = async () =>
    (await house.agent('research')).exchange({ proofKey, form: { ...TICKETS, client_assertion: token } })
  status = GOOD
  const first = await ask()
  expect(first.status, first.text).toBe(200)
  expect(decode(String(first.body['access_token'])).payload['att']).toMatchObject({ kind: 'workload_oidc' })
  expect((await ask()).status).toBe(200)
  expect(asked).toEqual([{ authorization: 'Bearer reviewer', spec: { token, audiences: [ISSUER] } }])

  // The pod is gone; and then it is another audience that the server would take it for.
  for (const disowned of [{ authenticated: false }, { ...GOOD, audiences: ['https://kubernetes.default.svc'] }]) {
    house.advance(5)
    status = disowned
    await refusedWithoutTrace(
      house,
      ask,
      { status: 401, error: 'invalid_client', reason: 'evidence_revoked', stranger: true },
      async () => {
        house.advance(5)
        status = GOOD
        return ask()
      },
    )
  }

  house.advance(5)
  status = undefined
  const away = await ask()
  expect([away.status, away.body['error'], away.headers.get('retry-after')]).toEqual([
    503,
    'temporarily_unavailable',
    '2',
  ])
  expect(away.text).not.toContain('127.0.0.1')
  expect(house.lines.join('')).toContain('attestation_unavailable')
  expect(house.lines.join('')).not.toContain('reviewer')
  expect(house.lines.join('')).not.toContain(token)
  status = GOOD
  expect((await ask()).status).toBe(503)
  house.advance(2)
  expect((await ask()).status).toBe(200)
})
