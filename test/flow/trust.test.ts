/** What the service trusts to say who an agent is, changing while it runs: bundles that are fetched, certificates of agents. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ASSERTION_TYPE } from '../../src/oauth/words.ts'
import { createTestTrustDomain, type Issued, issue, NOW, pemOf, type TestTrustDomain } from '../attest/pki.ts'
import { decode, type House, ISSUER, newKeyPair, openHouse } from '../house.ts'

const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }
const EVIDENCE =
  (kinds: string, more = '') =>
  (text: string) =>
    `${text.replace('evidence: [private_key_jwt]', `evidence: [private_key_jwt, ${kinds}]`)}${more}`

describe('a bundle endpoint', () => {
  let house: House
  let server: Server
  let serves: { status: number; text: string }
  let first: TestTrustDomain
  let second: TestTrustDomain
  beforeAll(async () => {
    first = await createTestTrustDomain('company.example')
    second = await createTestTrustDomain('company.example')
    serves = { status: 200, text: JSON.stringify({ ...(await first.bundle()), spiffe_refresh_hint: 5 }) }
    server = createServer((_, response) => response.writeHead(serves.status).end(serves.text))
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    const { port } = server.address() as AddressInfo
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': EVIDENCE('jwt_svid'),
        'issuers/company.yaml': `kind: workload\ntrust_domain: company.example\nbundle_endpoint:\n  url: http://127.0.0.1:${port}/bundle\n  profile: https_web\n`,
      },
    })
  })
  afterAll(async () => {
    await house.close()
    server.close()
  })

  const ask = async (svid: string) => {
    const research = await house.agent('research')
    return research.exchange({
      proofKey: newKeyPair(),
      form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion: svid },
    })
  }
  const state = async () => ((await house.admin('GET', '/config')).body['bundle_endpoints'] as unknown as object[])[0]
  const ready = async () => (await house.fetch('GET', '/ready')).body

  it('F16 rotates the keys of agents in the running service, without a reload, and says when it cannot', async () => {
    const old = await first.jwtSvid('/agents/research', ISSUER)
    await vi.waitFor(async () => expect((await ask(old)).status).toBe(200), { timeout: 5_000 })
    expect(await ready()).toMatchObject({ status: 'ok', checks: { bundles: 'ok' } })
    expect((await ready())['development_shortcuts']).toContain('the bundle of "company.example" is fetched over http')
    const digest = house.service.snapshot().digest

    serves = { status: 200, text: JSON.stringify({ ...(await second.bundle()), spiffe_sequence: 2 }) }
    house.advance(5)
    const renewed = await second.jwtSvid('/agents/research', ISSUER, { jti: 'renewed' })
    await vi.waitFor(async () => expect((await ask(renewed)).status).toBe(200), { timeout: 5_000 })
    const withdrawn = await ask(await first.jwtSvid('/agents/research', ISSUER, { jti: 'again' }))
    expect([withdrawn.status, withdrawn.body['error']]).toEqual([401, 'invalid_client'])
    // Evidence that was found good under the old key is nobody's now.
    expect((await ask(old)).status).toBe(401)
    expect(house.service.snapshot().digest).toBe(digest)
    expect(await state()).toMatchObject({ trust_domain: 'company.example', spiffe_sequence: 2 })
    const changes = await house.records({ type: 'trust.changed' })
    expect(changes.map(({ details }) => (details as { sequence: number }).sequence)).toEqual([2, 1])

    serves = { status: 503, text: '' }
    house.advance(300)
    await vi.waitFor(async () => expect((await ready())['checks']).toMatchObject({ bundles: 'degraded' }), {
      timeout: 5_000,
    })
    expect(await state()).toMatchObject({ problem: 'status 503' })
    expect(house.lines.some((line) => line.includes('bundle endpoint') && line.includes('status 503'))).toBe(true)
    expect(
      (await ask(await second.jwtSvid('/agents/research', ISSUER, { iat: house.now(), exp: house.now() + 60 }))).status,
    ).toBe(200)

    // After a day nobody knows which of the keys were withdrawn: away, and not unknown.
    house.advance(86_401)
    const late = await ask(
      await second.jwtSvid('/agents/research', ISSUER, { iat: house.now(), exp: house.now() + 60 }),
    )
    expect([late.status, late.body['error']]).toEqual([503, 'temporarily_unavailable'])
  })
})

describe('client certificates of RFC 8705', () => {
  let house: House
  let ca: Issued
  let own: Issued
  beforeAll(async () => {
    ca = await issue({ name: 'CN=partner CA', ca: true, notAfter: NOW + 86_400 })
    own = await issue({ name: 'CN=triage', notAfter: NOW + 86_400 })
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': EVIDENCE(
          'tls_client_auth',
          'tls_client_auth_ca_file: tls/partner-ca.pem\ntls_client_auth_san_dns: research.partner.example\n',
        ),
        'agents/triage.yaml': EVIDENCE(
          'self_signed_tls_client_auth',
          'self_signed_certificates_file: tls/triage.pem\n',
        ),
        '../keys/tls/partner-ca.pem': pemOf(ca),
        '../keys/tls/triage.pem': pemOf(own),
      },
    })
  })
  afterAll(() => house.close())

  const over = async (client_id: string, certificate: readonly Uint8Array[], form: Record<string, string>) => {
    const request = new Request(`${ISSUER}/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ client_id, request_details: house.details(), ...TICKETS, ...form }).toString(),
    })
    const response = await house.service.app.fetch(request, {
      base: ISSUER,
      peer: '127.0.0.1',
      certificate: () => certificate,
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const exchange = () => ({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: house.userToken('alice'),
    subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
  })
  const leaf = (name: string) => issue({ name: 'CN=anything', issuer: ca, names: [{ type: 'dns', value: name }] })

  it('F2 E13 get tokens that are bound to them, each for its own agent', async () => {
    const mine = await leaf('research.partner.example')
    const answer = await over('research', [mine.der], exchange())
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    const { payload } = decode(String(answer.body['access_token']))
    expect(payload).toMatchObject({ client_id: 'research', att: { kind: 'tls_client_auth', tier: 'key' } })
    expect(payload['cnf']).toHaveProperty('x5t#S256')
    const self = await over('triage', [own.der], { grant_type: 'client_credentials' })
    expect(self.status, JSON.stringify(self.body)).toBe(200)
    expect(decode(String(self.body['access_token'])).payload['att']).toEqual({
      kind: 'self_signed_tls_client_auth',
      tier: 'key',
    })
    for (const [clientId, certificate] of [
      ['triage', mine],
      ['research', own],
      ['payments', mine],
      ['nobody', mine],
      ['research', await leaf('payments.partner.example')],
    ] as const) {
      const refused = await over(clientId, [certificate.der], exchange())
      expect([refused.status, refused.body['error'], refused.body['reason']]).toEqual([
        401,
        'invalid_client',
        undefined,
      ])
    }
  })

  it.each([
    ['no name', 'tls_client_auth_ca_file: tls/partner-ca.pem\n', /exactly one of/],
    [
      'two names',
      'tls_client_auth_ca_file: tls/partner-ca.pem\ntls_client_auth_san_dns: a.example\ntls_client_auth_san_uri: https://a\n',
      /exactly one of/,
    ],
    ['no authority', 'tls_client_auth_subject_dn: CN=x\n', /needs tls_client_auth_ca_file/],
    ['a leaf as authority', 'tls_client_auth_ca_file: tls/triage.pem\ntls_client_auth_subject_dn: CN=x\n', /no CA/],
    ['no subject', 'tls_client_auth_ca_file: tls/partner-ca.pem\ntls_client_auth_subject_dn: x\n', /RFC 4514/],
    ['no file', 'tls_client_auth_ca_file: tls/none.pem\ntls_client_auth_subject_dn: CN=x\n', /does not exist/],
  ])('a registration with %s is refused, and the old one serves', async (_, lines, problem) => {
    const { readFile, writeFile } = await import('node:fs/promises')
    const path = house.config('agents/research.yaml')
    const text = await readFile(path, 'utf8')
    await writeFile(path, `${text.replace(/^tls_client_auth.*\n/gm, '')}${lines}`)
    expect(await house.service.reload()).toBe(false)
    const failure = (await house.admin('GET', '/config')).body['failure'] as unknown as { problems: string }
    expect(failure.problems).toMatch(problem)
    await writeFile(path, text)
    expect(await house.service.reload()).toBe(true)
  })
})
