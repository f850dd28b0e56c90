/**
 * Verification at the tool's side, in a process of its own: our verifier (the built one) at first sight and seen
 * before, plain jose, and the bare cryptography of each. Prints CPU microseconds per operation, round by round.
 */
import { createHash, createPublicKey, type JsonWebKey, type KeyObject, randomBytes, verify } from 'node:crypto'
import type * as verifierSdk from '@errand/verifier'
import { EmbeddedJWK, importJWK, calculateJwkThumbprint, jwtVerify } from 'jose'
import { revocation } from '../test/verifier-follow/fake-log.ts'
import {
  AUDIENCE,
  createFakeService,
  ISSUER,
  type KeyPair,
  keyPair,
  proof,
} from '../test/verifier-follow/fake-service.ts'
import { cpuOf, interleave } from './spread.ts'

const [rounds = 7, each = 1500] = process.argv.slice(2, 4).map(Number)
// dist/ alone is measured.
const built: string = new URL('../sdk/verifier/dist/index.js', import.meta.url).href
const { createVerifier } = (await import(built)) as typeof verifierSdk

const began = performance.now()
const clock = {
  get now() {
    return Math.floor(Date.now() / 1000)
  },
  get local() {
    return performance.now()
  },
  get service() {
    return performance.now() - began + 77_000
  },
  pass() {},
}
const service = createFakeService(clock)
// What is looked up must not be empty: revocations of three shapes are live.
for (let number = 0; number < 100; number++) {
  await service.log.add(revocation({ jti: randomBytes(20).toString('base64url') }, { expiresAt: clock.now + 3600 }))
  await service.log.add(revocation({ task: `task_${number}` }, { expiresAt: clock.now + 3600 }))
  await service.log.add(
    revocation({ agent: 'spiffe://company.example/agents/other', aud: `https://${number}.example/` }),
  )
}
const publicKey = service.jwks().keys[0]!
const bareKey = createPublicKey({ key: publicKey as JsonWebKey, format: 'jwk' })
const joseKey = await importJWK(publicKey, 'ES256')

const options = { issuer: ISSUER, audience: AUDIENCE, tool: 'tickets', key: service.toolKey, fetch: service.fetch }
const bound = createVerifier(options)
const bearer = createVerifier({ ...options, acceptBearer: true })
await Promise.all([bound.ready(), bearer.ready()])

const CLAIMS = {
  scope: 'tickets:add_comment tickets:read_ticket tickets:search_tickets',
  authorization_details: [
    { type: 'tool', tool: 'tickets', effect: 'read', operations: ['read_ticket', 'search_tickets'] },
    { type: 'tool', tool: 'tickets', effect: 'reversible_write', operations: ['add_comment'] },
  ],
  att: { kind: 'jwt_svid', tier: 'platform' },
} as const
const call = { operation: 'read_ticket', arguments: { ticket_id: '7' } }
const url = `${AUDIENCE}tickets/7`
const bearerToken = () => service.token({ ...CLAIMS, cnf: undefined as never, exp: clock.now + 60 } as never)
const boundToken = (key: KeyPair) => service.token({ ...CLAIMS, cnf: { jkt: key.jkt } } as never)
const requestOf = (token: string, key: KeyPair) => ({
  method: 'GET',
  url,
  headers: {
    host: ['tickets.example.com'],
    accept: ['application/json'],
    'user-agent': ['agent/1.0'],
    authorization: [`DPoP ${token}`],
    dpop: [proof(token, { url, key, now: clock.now })],
  },
})

/** What the signature of a token covers, and the signature, taken apart beforehand. */
const bareOf = (token: string) => {
  const end = token.lastIndexOf('.')
  return { data: Buffer.from(token.slice(0, end)), signature: Buffer.from(token.slice(end + 1), 'base64url') }
}
const isGood = ({ data, signature }: ReturnType<typeof bareOf>, key: KeyObject) => {
  if (!verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature)) throw new Error('a bad signature')
}
const list = async <T>(make: () => T | Promise<T>): Promise<T[]> => {
  const made: T[] = []
  for (let number = 0; number < each; number++) made.push(await make())
  return made
}

async function joseDpop(token: string, header: string, known?: Awaited<ReturnType<typeof importJWK>>): Promise<void> {
  const { payload } = await jwtVerify(token, joseKey, { issuer: ISSUER, audience: AUDIENCE, typ: 'at+jwt' })
  const rules = { typ: 'dpop+jwt', algorithms: ['ES256'], maxTokenAge: 60 }
  const made = known ? await jwtVerify(header, known, rules) : await jwtVerify(header, EmbeddedJWK, rules)
  const jkt = known ? (payload['cnf'] as { jkt: string }).jkt : await calculateJwkThumbprint(made.protectedHeader.jwk!)
  const ath = createHash('sha256').update(token).digest('base64url')
  if (jkt !== (payload['cnf'] as { jkt: string }).jkt || made.payload['ath'] !== ath || made.payload['htu'] !== url)
    throw new Error('a bad proof')
}

const known = keyPair()
const knownToken = await boundToken(known)
const knownJose = await importJWK({ ...known.jwk }, 'ES256')

const MANY = 20
const contenders = {
  async 'bare verification'() {
    const tokens = (await list(bearerToken)).map(bareOf)
    return cpuOf(each, () => {
      for (const token of tokens) isGood(token, bareKey)
    })
  },
  async 'bare key import'() {
    const keys = await list(() => keyPair().jwk)
    return cpuOf(each, () => {
      for (const key of keys) createPublicKey({ key: { ...key } as JsonWebKey, format: 'jwk' })
    })
  },
  async 'token, first sight'() {
    const tokens = await list(bearerToken)
    return cpuOf(each, async () => {
      for (const token of tokens) await bearer.authenticateToken(token)
    })
  },
  async 'token, seen before'() {
    const token = await bearerToken()
    await bearer.authenticateToken(token)
    // Each time another string, as it comes from a socket.
    const texts = await list(() => Buffer.from(token).toString('latin1'))
    // A few milliseconds of work would be lost among what else a process does.
    return cpuOf(each * MANY, async () => {
      for (let time = 0; time < MANY; time++) for (const text of texts) await bearer.authenticateToken(text)
    })
  },
  async 'token, plain jose'() {
    const tokens = await list(bearerToken)
    return cpuOf(each, async () => {
      for (const token of tokens) await jwtVerify(token, joseKey, { issuer: ISSUER, audience: AUDIENCE, typ: 'at+jwt' })
    })
  },
  async 'DPoP request, first sight'() {
    const requests = await list(async () => {
      const key = keyPair()
      return requestOf(await boundToken(key), key)
    })
    return cpuOf(each, async () => {
      for (const request of requests) await bound.verify(request, call)
    })
  },
  async 'DPoP request, seen before'() {
    const requests = await list(() => requestOf(knownToken, known))
    return cpuOf(each, async () => {
      for (const request of requests) await bound.verify(request, call)
    })
  },
  async 'DPoP request, first sight, plain jose'() {
    const requests = await list(async () => {
      const key = keyPair()
      const token = await boundToken(key)
      return { token, header: proof(token, { url, key, now: clock.now }) }
    })
    return cpuOf(each, async () => {
      for (const { token, header } of requests) await joseDpop(token, header)
    })
  },
  async 'DPoP request, key known, plain jose'() {
    const headers = await list(() => proof(knownToken, { url, key: known, now: clock.now }))
    return cpuOf(each, async () => {
      for (const header of headers) await joseDpop(knownToken, header, knownJose)
    })
  },
}

await interleave(2, contenders) // for the compiler
const values = await interleave(rounds, contenders)
const result = {
  values,
  /** For verifiers in other languages. */
  sample: { token: await boundToken(known), jwk: publicKey, issuer: ISSUER, audience: AUDIENCE },
}
export type Verified = typeof result
console.log(JSON.stringify(result))
bound.close()
bearer.close()
service.close()
process.exit(0)
