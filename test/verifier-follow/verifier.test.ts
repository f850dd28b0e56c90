import 'reflect-metadata'
import { type X509Certificate as NodeCertificate, webcrypto, X509Certificate } from 'node:crypto'
import { X509CertificateGenerator } from '@peculiar/x509'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type RefusalCode, VerificationError } from '@errand/verifier/errors.ts'
import { certificateThumbprint } from '@errand/verifier/request.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Verifier, VerifierOptions } from '@errand/verifier/verifier.ts'
import { revocation } from './fake-log.ts'
import { AGENT, AUDIENCE, type Clock, type FakeService, keyPair, proof, request } from './fake-service.ts'
import { type MemorySite, openSite } from './site.ts'

let site: MemorySite
let clock: Clock
let service: FakeService

const verifier = (options: Partial<VerifierOptions> = {}): Verifier => site.verifier(options)
const offline = (options: Partial<VerifierOptions> = {}): Verifier => site.offline(options)

beforeEach(() => {
  site = openSite()
  ;({ clock, service } = site)
  // Frames come when a test fetches them: what the stream adds is told in follower.test.ts.
  service.intercept = (path) => (path === '/revocations/stream' ? new Response(null, { status: 503 }) : undefined)
})
afterEach(() => site.close())

const read = { operation: 'ticket.read', arguments: { id: '7' } }

async function refusal(promise: Promise<unknown>): Promise<VerificationError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(VerificationError)
  return error as VerificationError
}
async function refused(promise: Promise<unknown>, status: number, error: string, code: RefusalCode) {
  const it = await refusal(promise)
  expect({ status: it.status, error: it.error, code: it.code }).toEqual({ status, error, code })
  if (status === 401 || status === 403) expect(it.wwwAuthenticate).toMatch(/^DPoP .*resource_metadata="https:/)
  if (status === 503) expect(it.retryAfterSeconds).toBeGreaterThan(0)
  return it
}

describe('a good request', () => {
  test('gives who calls, for whom, for which task and what it may do', async () => {
    const it = verifier()
    const token = await service.token()
    const caller = await it.verify(request(token, { now: clock.now }), read)
    expect(caller).toMatchObject({
      subject: 'company|alice',
      agent: AGENT,
      clientId: 'research',
      task: { id: 'task_AAAAAAAAAAAAAAAAAAAAAA', depth: 1 },
      chain: [AGENT],
      scope: ['tickets:ticket.read', 'tickets:ticket.update'],
      operation: 'ticket.read',
      effect: 'read',
      arguments: { id: '7' },
      expiresAt: clock.now + 300,
    })
    expect(caller.grants).toHaveLength(2)
    expect(caller.claims.jti).toMatch(/^[A-Za-z0-9_-]{27}$/)
  })

  test('puts each step into what the tool gives for spans, a refused one too, and tells it nothing else', async () => {
    const steps: unknown[][] = []
    const it = verifier({
      trace: async (...[step, run, ...more]) => {
        try {
          return await run()
        } finally {
          steps.push([step, ...more])
        }
      },
    })
    await it.verify(request(await service.token(), { now: clock.now }), read)
    expect(steps).toEqual([['errand.authenticate'], ['errand.authorize']])
    await expect(it.verify(request('x.y.z', { now: clock.now }), read)).rejects.toThrow(VerificationError)
    expect(steps).toHaveLength(3)
  })

  test('is taken from a Fetch Request as well, and no caller can change what the next one sees', async () => {
    const it = verifier()
    const token = await service.token()
    const plain = request(token, { now: clock.now })
    const caller = await it.verify(new Request(plain.url, { method: plain.method, headers: plain.headers }), read)
    expect(() => Object.assign(caller.claims, { sub: 'mallory' })).toThrow(TypeError)
    expect(() => (caller.chain as string[]).push('x')).toThrow(TypeError)
  })

  test('shows the chain of a delegated token, the caller first', async () => {
    const it = verifier()
    const parent = {
      jti: 'p',
      task: 'task_p',
      aud: 'https://crm.example/',
      client_id: 'triage',
      kid: 'token-1',
      pol: 'p',
      rev: '0.0',
    }
    const token = await service.token({
      act: { sub: AGENT, act: { sub: 'spiffe://company.example/agents/triage' } },
      hops: [parent],
    })
    const caller = await it.verify(request(token, { now: clock.now }), read)
    expect(caller.chain).toEqual([AGENT, 'spiffe://company.example/agents/triage'])
  })

  test('for a root autonomous token the subject is the agent', async () => {
    const token = await service.token({ act: undefined as never, sub: AGENT })
    const caller = await verifier().verify(request(token, { now: clock.now }), read)
    expect(caller).toMatchObject({ agent: AGENT, subject: AGENT, chain: [AGENT] })
  })

  test('costs one fetch of keys for many tokens', async () => {
    const it = verifier()
    for (let index = 0; index < 5; index++) await it.verify(request(await service.token(), { now: clock.now }), read)
    expect(service.asked.filter((path) => path === '/.well-known/jwks.json')).toHaveLength(1)
  })
})

describe('the Authorization header', () => {
  test('A18 anything but one header of one token by DPoP or Bearer is refused', async () => {
    const it = verifier()
    const token = await service.token()
    const good = request(token, { now: clock.now })
    const headers: Record<string, string | string[]>[] = [
      { authorization: `Basic ${token}` },
      { authorization: `bearer\t${token}` },
      { authorization: `DPoP  ${token}` },
      { authorization: `DPoP ${token} x` },
      { authorization: token },
      { authorization: '' },
      { authorization: `DPoP ${token}, DPoP ${token}` },
      { authorization: [`DPoP ${token}`, `DPoP ${token}`] },
      { authorization: `DPoP ${token}`, Authorization: `DPoP ${token}` },
    ]
    for (const header of headers)
      await refused(
        it.verify({ ...good, headers: { dpop: good.headers.dpop, ...header } }, read),
        401,
        'invalid_token',
        'bad_auth_scheme',
      )
    const twice = new Headers(good.headers)
    twice.append('authorization', `DPoP ${token}`)
    await refused(it.verify({ ...good, headers: twice }, read), 401, 'invalid_token', 'bad_auth_scheme')
    await refused(
      it.verify({ ...good, url: `${good.url}?access_token=${token}` }, read),
      401,
      'invalid_token',
      'bad_auth_scheme',
    )
    await it.verify(good, read)
  })

  test('a request without a token is told where to get one, and not that its token is bad', async () => {
    const error = await refused(
      verifier().verify({ method: 'GET', url: AUDIENCE, headers: {} }, read),
      401,
      'invalid_token',
      'token_required',
    )
    expect(error.wwwAuthenticate).toBe(
      'DPoP resource_metadata="https://tickets.example.com/.well-known/oauth-protected-resource", algs="ES256 EdDSA"',
    )
  })

  test.each(['hvs.CAESIJ1', 's.abcdef', 'apr_AAAAAAAAAAAAAAAAAAAAAA', 'deferral_code_1', 'a.b.c.d'])(
    'C6 %s is no token of ours',
    async (text) => {
      const it = verifier({ acceptBearer: true })
      await refused(
        it.verify({ method: 'GET', url: AUDIENCE, headers: { authorization: `Bearer ${text}` } }, read),
        401,
        'invalid_token',
        'not_a_token',
      )
    },
  )
})

describe('the token', () => {
  test('C2 typ counts without its case and with application/, and nothing else is an access token', async () => {
    const it = verifier()
    for (const typ of ['AT+JWT', 'application/at+jwt'])
      await it.verify(request(await service.token({}, { typ }), { now: clock.now }), read)
    for (const typ of ['at+jwt;x=1', 'errand-handover+jwt', 'dpop+jwt', 'errand-frame+jwt', ['at+jwt'], undefined])
      await refused(
        it.verify(request(await service.token({}, { typ }), { now: clock.now }), read),
        401,
        'invalid_token',
        'wrong_typ',
      )
  })

  test('C7 a token for another tool is refused, and an operation that is not granted is named', async () => {
    const it = verifier()
    const other = await service.token({ aud: 'https://crm.example.com/' })
    await refused(it.verify(request(other, { now: clock.now }), read), 401, 'invalid_token', 'wrong_audience')
    const error = await refused(
      it.verify(request(await service.token(), { now: clock.now }), { operation: 'ticket.delete', arguments: {} }),
      403,
      'insufficient_scope',
      'insufficient_scope',
    )
    expect(error.message).toBe('operation ticket.delete is not granted')
    expect(error.wwwAuthenticate).toContain('error="insufficient_scope"')
    expect(error.wwwAuthenticate).toContain('scope="tickets:ticket.delete"')
  })

  test('B1 B2 a key counts by kid and for its purpose only', async () => {
    const it = verifier()
    const cases: [Record<string, unknown>, RefusalCode][] = [
      [{ kid: 'feed-1' }, 'key_scope'],
      [{ kid: '../../x' }, 'unknown_kid'],
      [{ kid: '__proto__' }, 'unknown_kid'],
      [{ kid: 7 }, 'unknown_kid'],
      [{ jku: 'https://evil.example/' }, 'header_forbidden'],
      [{ crit: ['x'] }, 'crit_unsupported'],
    ]
    for (const [header, code] of cases)
      await refused(
        it.verify(request(await service.token({}, header), { now: clock.now }), read),
        401,
        'invalid_token',
        code,
      )
    const forged = await service.token({}, {}, keyPair().privateKey)
    await refused(it.verify(request(forged, { now: clock.now }), read), 401, 'invalid_token', 'bad_signature')
  })

  test('FI-7 expiry is looked at on each use, and by the larger of two clocks', async () => {
    let back = 0
    const it = verifier({ now: () => clock.now - back })
    const token = await service.token()
    await it.verify(request(token, { now: clock.now }), read)
    clock.pass(60)
    await it.verify(request(token, { now: clock.now }), read)
    clock.pass(230)
    await it.verify(request(token, { now: clock.now }), read)
    clock.pass(10)
    back = 200 // ours is set back; the service's goes on
    await refused(it.verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'expired')
  })

  test('FI-7 a service whose clock was ahead is believed again when it has been put right', async () => {
    let ahead = 0
    const it = verifier({ now: () => clock.now - ahead })
    const token = await service.token()
    const rightTime = clock.now
    clock.now += 3600
    ahead = 3600
    await it.ready()
    await refused(it.verify(request(token, { now: rightTime }), read), 401, 'invalid_token', 'expired')
    clock.now -= 3600
    ahead = 0
    clock.pass(6)
    await it.verify(request(token, { now: clock.now }), read)
  })

  test('FI-7 E1 a clock that jumps ahead and comes back forgets no proof', async () => {
    const it = verifier()
    const token = await service.token()
    const used = request(token, { now: clock.now })
    await it.verify(used, read)
    clock.now += 3600
    await it.verify(request(await service.token(), { now: clock.now }), read)
    clock.now -= 3600
    clock.local += 6_000
    await refused(it.verify(used, read), 401, 'invalid_dpop_proof', 'proof_replayed')
  })

  test('a key that has left the JWKS verifies nothing any more, remembered or not', async () => {
    const it = verifier()
    const token = await service.token()
    await it.verify(request(token, { now: clock.now }), read)
    const { keys } = service.jwks()
    service.jwks = () => ({ keys: keys.filter(({ kid }) => kid !== 'token-1') })
    clock.pass(299)
    clock.local += 2_000
    await refused(it.verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'unknown_kid')
  })

  test('development tokens are refused where the verifier does not say otherwise', async () => {
    const token = await service.token({ dev: true })
    await refused(verifier().verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'bad_claim')
    await verifier({ acceptDevelopmentTokens: true }).verify(request(token, { now: clock.now }), read)
  })

  test('A13 a token that is too long is refused before it is read', async () => {
    const long = `${'a'.repeat(8_000)}.${'a'.repeat(8_380)}.aaa`
    await refused(verifier().verify(request(long, { now: clock.now }), read), 413, 'invalid_request', 'token_too_large')
  })
})

describe('its binding', () => {
  test('E6 a token bound to a DPoP key is worth nothing as Bearer', async () => {
    const it = verifier({ acceptBearer: true })
    const token = await service.token()
    const { url, method } = request(token, { now: clock.now })
    await refused(
      it.verify({ url, method, headers: { authorization: `Bearer ${token}` } }, read),
      401,
      'invalid_token',
      'binding_downgrade',
    )
  })

  test('E1 E3 E4 E8 the proof is one, fresh, for this request and this token, by this key', async () => {
    const it = verifier()
    const token = await service.token()
    const good = request(token, { now: clock.now })
    const withProof = (dpop: string) => it.verify({ ...good, headers: { ...good.headers, dpop } }, read)
    await it.verify(good, read)
    await refused(it.verify(good, read), 401, 'invalid_dpop_proof', 'proof_replayed')
    await refused(
      it.verify({ ...good, headers: { authorization: good.headers.authorization } }, read),
      401,
      'invalid_dpop_proof',
      'proof_required',
    )
    await refused(withProof(proof(token, { now: clock.now, method: 'POST' })), 401, 'invalid_dpop_proof', 'htm')
    await refused(
      withProof(proof(token, { now: clock.now, url: `${AUDIENCE}tickets/8` })),
      401,
      'invalid_dpop_proof',
      'htu',
    )
    await refused(withProof(proof('another token', { now: clock.now })), 401, 'invalid_dpop_proof', 'ath')
    await refused(withProof(proof(token, { now: clock.now, key: keyPair() })), 401, 'invalid_token', 'cnf_mismatch')
    await refused(
      withProof(`${proof(token, { now: clock.now })}, ${proof(token, { now: clock.now })}`),
      401,
      'invalid_dpop_proof',
      'proof_duplicate',
    )
    await refused(withProof(proof(token, { now: clock.now - 61 })), 401, 'invalid_dpop_proof', 'expired')
  })

  test('a proof that may have been spent before this process started is refused', async () => {
    const it = verifier()
    const token = await service.token({ iat: clock.now - 10, exp: clock.now + 200 })
    await refused(it.verify(request(token, { now: clock.now - 1 }), read), 401, 'invalid_dpop_proof', 'proof_replayed')
  })

  test('E9 a replay guard that is full refuses', async () => {
    const it = verifier({ replayGuard: { spend: () => 'full' } })
    await refused(
      it.verify(request(await service.token(), { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'replay_guard_unavailable',
    )
  })

  test('E2 behind a proxy a proof names the public URL, whatever Host says', async () => {
    const it = verifier({ publicUrl: 'https://tickets.example.com' })
    const token = await service.token()
    const good = request(token, { now: clock.now })
    await it.verify({ ...good, url: 'http://10.0.0.7:8080/tickets/7?x=1' }, read)
    const spoofed = request(token, { now: clock.now, url: 'https://evil.example/tickets/7' })
    await refused(it.verify(spoofed, read), 401, 'invalid_dpop_proof', 'htu')
  })

  test('tokens bound to no key count only where the tool says so, and live 60 s at most', async () => {
    const bearer = (token: string) => ({ method: 'GET', url: AUDIENCE, headers: { authorization: `Bearer ${token}` } })
    const short = await service.token({ cnf: undefined as never, exp: clock.now + 60 })
    const long = await service.token({ cnf: undefined as never, exp: clock.now + 61 })
    await refused(verifier().verify(bearer(short), read), 401, 'invalid_token', 'bearer_not_accepted')
    const it = verifier({ acceptBearer: true })
    await it.verify(bearer(short), read)
    await refused(it.verify(bearer(long), read), 401, 'invalid_token', 'bad_numeric_date')
    await refused(
      it.verify({ ...bearer(short), headers: { authorization: `DPoP ${short}` } }, read),
      401,
      'invalid_token',
      'cnf_mismatch',
    )
  })

  describe('to a client certificate', () => {
    async function certificate(from: number, to: number): Promise<NodeCertificate> {
      const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
      const made = await X509CertificateGenerator.createSelfSigned(
        {
          serialNumber: '01',
          name: 'CN=agent',
          notBefore: new Date(from * 1000),
          notAfter: new Date(to * 1000),
          keys: keys as never,
          signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
        },
        webcrypto as never,
      )
      return new X509Certificate(Buffer.from(made.rawData))
    }

    test('E11 E12 E13 counts over exactly that certificate, while it is valid, and by no header', async () => {
      const own = await certificate(clock.now - 100, clock.now + 30)
      const other = await certificate(clock.now - 100, clock.now + 30)
      let shown: NodeCertificate | undefined = own
      const it = verifier({ clientCertificate: () => shown })
      const token = await service.token({ cnf: { 'x5t#S256': certificateThumbprint(own) } })
      const asBearer = { method: 'GET', url: AUDIENCE, headers: { authorization: `Bearer ${token}` } }
      await it.verify(asBearer, read)
      await it.verify({ ...asBearer, clientCertificate: own }, read)
      shown = other
      await refused(it.verify(asBearer, read), 401, 'invalid_token', 'cnf_mismatch')
      shown = undefined
      const headers = { ...asBearer.headers, 'x-forwarded-client-cert': own.toString(), 'client-cert': own.toString() }
      await refused(it.verify({ ...asBearer, headers }, read), 401, 'invalid_token', 'cnf_mismatch')
      await refused(
        it.verify({ ...asBearer, headers: { authorization: `DPoP ${token}` } }, read),
        401,
        'invalid_token',
        'cnf_mismatch',
      )
      shown = own
      clock.pass(31)
      await refused(it.verify(asBearer, read), 401, 'invalid_token', 'peer_invalid')
    })
  })
})

describe('what it allows', () => {
  test('arguments are held against the constraints, and the one that fails is named', async () => {
    const it = verifier()
    const call = async (args?: Record<string, unknown>) =>
      it.verify(request(await service.token(), { now: clock.now }), {
        operation: 'ticket.update',
        ...(args ? { arguments: args } : {}),
      })
    expect(await call({ priority: 3 })).toMatchObject({ effect: 'reversible_write' })
    expect((await refused(call({ priority: 4 }), 403, 'insufficient_scope', 'insufficient_scope')).message).toContain(
      'priority',
    )
    await refused(call({ priority: '3' }), 403, 'insufficient_scope', 'insufficient_scope')
    // Constraints that cannot be looked at do not hold.
    await refused(call(), 403, 'insufficient_scope', 'insufficient_scope')
  })

  test('a grant on another tool of the same audience does not count', async () => {
    const it = verifier({ tool: 'helpdesk' })
    await refused(
      it.verify(request(await service.token(), { now: clock.now }), read),
      403,
      'insufficient_scope',
      'insufficient_scope',
    )
  })

  test('budgeted operations reserve first: exhausted is 403, away is 503, and others stay offline', async () => {
    const it = verifier({ budgeted: { 'ticket.update': { cost: 2 } } })
    const update = { operation: 'ticket.update', arguments: { priority: 1 } }
    const call = async () => it.verify(request(await service.token(), { now: clock.now }), update)
    service.budget = 1
    await call()
    expect(service.reservations).toMatchObject([
      { path: '/tasks/task_AAAAAAAAAAAAAAAAAAAAAA/reservations', operation: 'ticket.update', calls: 1, cost: 2 },
    ])
    await refused(call(), 403, 'insufficient_scope', 'budget_exhausted')
    await it.verify(request(await service.token(), { now: clock.now }), read)
    expect(service.reservations).toHaveLength(2)
    service.intercept = (path) => (path.endsWith('/reservations') ? new Response('{}', { status: 404 }) : undefined)
    await refused(call(), 401, 'invalid_token', 'task_not_active')
    service.intercept = (path) => {
      if (path.endsWith('/reservations')) throw new TypeError('fetch failed')
      return undefined
    }
    await refused(call(), 503, 'temporarily_unavailable', 'service_unavailable')
  })

  test('a bound of 0 asks the service each time', async () => {
    const it = verifier({ stalenessSeconds: { reversible_write: 0 } })
    const update = { operation: 'ticket.update', arguments: {} }
    const token = await service.token()
    await it.verify(request(token, { now: clock.now }), update)
    service.active = false
    await refused(it.verify(request(token, { now: clock.now }), update), 401, 'invalid_token', 'revoked')
    await it.verify(request(token, { now: clock.now }), read)
    service.intercept = (path) => {
      if (path === '/introspect') throw new TypeError('fetch failed')
      return undefined
    }
    await refused(
      it.verify(request(token, { now: clock.now }), update),
      503,
      'temporarily_unavailable',
      'service_unavailable',
    )
  })
})

describe('revocation', () => {
  const update = { operation: 'ticket.update', arguments: {} }
  const away = () => {
    service.intercept = () => {
      throw new TypeError('fetch failed')
    }
  }
  const back = () => {
    service.intercept = (path) => (path === '/revocations/stream' ? new Response(null, { status: 503 }) : undefined)
  }

  test('a token is refused once its state has the entry, and one checked later is not (R4)', async () => {
    const it = verifier()
    const before = await service.token()
    await it.verify(request(before, { now: clock.now }), read)
    await service.log.add(revocation({ agent: AGENT }))
    clock.pass(31)
    await refused(it.verify(request(before, { now: clock.now }), read), 401, 'invalid_token', 'revoked')
    await it.verify(request(await service.token(), { now: clock.now }), read)
    await refused(it.verify(request(before, { now: clock.now }), read), 401, 'invalid_token', 'revoked')
  })

  test('L3 parent revoked, then the child used', async () => {
    const it = verifier()
    const parent = {
      jti: 'parent',
      task: 'task_p',
      aud: 'https://crm.example/',
      client_id: 'triage',
      kid: 'token-1',
      pol: 'p',
      rev: '0.0',
    }
    await service.log.add(revocation({ jti: 'parent' }))
    const token = await service.token({
      act: { sub: AGENT, act: { sub: 'spiffe://company.example/agents/triage' } },
      hops: [parent],
    })
    await refused(it.verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'ancestor_revoked')
  })

  test.each<[string, HopFacts]>([
    ['the agent', { agent: 'spiffe://partner.example/planner' }],
    ['the trust domain', { domain: 'partner.example' }],
    ['the agent for one subject', { agent: 'spiffe://partner.example/planner', sub: 'company|alice' }],
  ])('L3 %s of an actor that a user issuer vouched for is revoked, then the token used', async (_, match) => {
    const it = verifier()
    const act = { sub: AGENT, act: { sub: 'spiffe://partner.example/planner' } }
    const before = await service.token({ act })
    const beside = await service.token()
    await it.verify(request(before, { now: clock.now }), read)
    await service.log.add(revocation(match))
    clock.pass(31)
    await refused(it.verify(request(before, { now: clock.now }), read), 401, 'invalid_token', 'ancestor_revoked')
    await it.verify(request(beside, { now: clock.now }), read)
    await it.verify(request(await service.token({ act }), { now: clock.now }), read)
  })

  test('L6 feed cut: past the bound of the effect 503 and neither 200 nor 401, and healthy again when it is back', async () => {
    const it = verifier()
    await it.verify(request(await service.token(), { now: clock.now }), update)
    away()
    clock.pass(4)
    await it.verify(request(await service.token(), { now: clock.now }), update)
    clock.pass(2)
    await refused(
      it.verify(request(await service.token(), { now: clock.now }), update),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
    await it.verify(request(await service.token(), { now: clock.now }), read)
    clock.pass(25)
    await refused(
      it.verify(request(await service.token(), { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
    back()
    clock.pass(2)
    await it.verify(request(await service.token(), { now: clock.now }), update)
  })

  test('L6 feed replayed: an old snapshot and an old statement make nothing fresh', async () => {
    const recorded = new Map<string, string>()
    service.intercept = async (path, asked) => {
      if (path === '/revocations/stream') return new Response(null, { status: 503 })
      if (path !== '/revocations' && path !== '/revocations/now') return undefined
      const text = recorded.get(path) ?? (await (await service.answer(asked)).text())
      recorded.set(path, text)
      return new Response(text)
    }
    const it = verifier()
    const token = await service.token()
    await it.verify(request(token, { now: clock.now }), read)
    await service.log.add(revocation({ jti: 'whatever' }))
    clock.pass(31)
    await refused(
      it.verify(request(token, { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
    expect(recorded.size).toBe(2)
  })

  test('L7 a fresh verifier knows all that was revoked before it accepts anything', async () => {
    const token = await service.token()
    await service.log.add(revocation({ task: 'task_AAAAAAAAAAAAAAAAAAAAAA' }))
    service.restart()
    await refused(verifier().verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'revoked')
    away()
    const blind = verifier({
      fetch: (url, init) =>
        url.includes('jwks') ? service.handle(new Request(url, init)) : Promise.reject(new TypeError('away')),
    })
    service.intercept = () => undefined
    await refused(
      blind.verify(request(await service.token(), { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
  })

  test('L8 stopped for 60 s with a request queued, revocation meanwhile: refused, never served', async () => {
    const it = verifier()
    const token = await service.token()
    await it.ready()
    const queued = request(token, { now: clock.now + 60 })
    await service.log.add(revocation({ client_id: 'research' }))
    clock.pass(60)
    await refused(it.verify(queued, read), 401, 'invalid_token', 'revoked')
    clock.pass(60)
    away()
    await refused(
      it.verify(request(await service.token(), { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
  })

  test('L10 a token checked at an epoch that is not here makes the verifier catch up, or is refused as stale', async () => {
    const it = verifier()
    await it.ready()
    clock.pass(1)
    await service.log.add(revocation({ jti: 'another' }))
    const token = await service.token()
    expect(it.status()?.epoch).toBe('0.0')
    await it.verify(request(token, { now: clock.now }), read)
    expect(it.status()?.epoch).toBe('0.1')
    const ahead = await service.token({ rev: '0.9' })
    clock.pass(1)
    await refused(
      it.verify(request(ahead, { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
  })

  test('a thief who forges rev is still killed by an absolute entry', async () => {
    await service.log.add(revocation({ kid: 'token-1' }, { absolute: true }))
    const token = await service.token({ rev: '0.1' })
    await refused(verifier().verify(request(token, { now: clock.now }), read), 401, 'invalid_token', 'revoked')
  })

  test('a restarted service, whose clock begins anew, is trusted as soon as it has answered', async () => {
    const it = verifier()
    await it.verify(request(await service.token(), { now: clock.now }), update)
    clock.pass(10)
    service.restart()
    await it.verify(request(await service.token(), { now: clock.now }), update)
  })

  test('a log that lost entries is stale for good, and says why', async () => {
    await service.log.add(revocation({ jti: 'one' }))
    await service.log.add(revocation({ jti: 'two' }))
    const it = verifier()
    await it.verify(request(await service.token(), { now: clock.now }), read)
    service.log.loseLast()
    clock.pass(31)
    const error = await refused(
      it.verify(request(await service.token({ rev: '0.1' }), { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'revocation_state_stale',
    )
    expect(error.message).toContain('back in time')
  })

  test('without a key a tool follows nothing, and accepts tokens of 60 s only', async () => {
    const it = offline()
    const long = await service.token()
    const error = await refused(
      it.verify(request(long, { now: clock.now }), read),
      401,
      'invalid_token',
      'feed_required',
    )
    expect(error.message).toContain('60 s')
    await it.verify(request(await service.token({ exp: clock.now + 60 }), { now: clock.now }), read)
    expect(service.asked).toEqual(['/.well-known/jwks.json'])
    expect(it.status()).toBeUndefined()
  })
})

describe('what cannot be meant is refused when the verifier is made', () => {
  test.each([
    [{ serviceUrl: 'http://errand.example' }, /https/],
    [{ serviceUrl: 'ftp://127.0.0.1' }, /https/],
    [{ key: { kty: 'EC' }, tool: undefined as never }, /tool is required/],
    [{ budgeted: { 'ticket.read': {} } }, /budgeted/],
    [{ stalenessSeconds: { read: 0 } }, /introspects/],
  ])('%j', (options, message) => {
    expect(() => offline(options as Partial<VerifierOptions>)).toThrow(message)
  })

  test('authorize takes no caller that it has not authenticated itself', async () => {
    const it = verifier()
    const caller = await it.authenticate(request(await service.token(), { now: clock.now }))
    await it.authorize(caller, read)
    await expect(it.authorize({ ...caller }, read)).rejects.toThrow(TypeError)
  })

  test('with the keys of the service away it is 503, not 401', async () => {
    service.intercept = () => new Response(null, { status: 302, headers: { location: 'https://evil.example/' } })
    const it = offline()
    const token = await service.token({ exp: clock.now + 60 })
    await refused(
      it.verify(request(token, { now: clock.now }), read),
      503,
      'temporarily_unavailable',
      'keys_unavailable',
    )
  })
})
