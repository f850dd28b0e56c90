import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { createTestTrustDomain, type Issued, issue, NOW, pemOf, type TestTrustDomain } from '../attest/pki.ts'
import { decode } from '../house.ts'
import { type MtlsListener, openMtls, TICKETS } from './mtls.ts'

const EVIDENCE = (text: string) =>
  text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, jwt_svid, x509_svid]')
/** Another authorization server takes ID-JAGs for it. */
const CHAT = `name: chat
audience: https://api.chat.example/
takes: { kind: id_jag, authorization_server: 'https://auth.chat.example', clients: { research: there } }
operations: { read: { effect: read }, draft: { effect: reversible_write } }
`

describe('an X.509-SVID over mTLS', () => {
  let domain: TestTrustDomain
  let listener: MtlsListener
  beforeAll(async () => {
    domain = await createTestTrustDomain('company.example')
    listener = await openMtls(
      {
        'agents/research.yaml': (text) => EVIDENCE(text).replace('ceiling:\n', 'ceiling:\n  - chat:*\n'),
        'agents/payments.yaml': EVIDENCE,
        // RFC 8705, with the same authority and another way of naming.
        'agents/triage.yaml': (text) =>
          `${text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, tls_client_auth]')}tls_client_auth_ca_file: trust/root.pem\ntls_client_auth_subject_dn: CN=triage\n`,
        'issuers/dev.yaml': (text) => text.replace('  support:\n', '  support:\n    - chat:*\n'),
        'issuers/company.yaml':
          'kind: workload\ntrust_domain: company.example\nbundle_file: trust/company.json\npath_root: /agents\n',
        'tools/chat.yaml': CHAT,
        '../keys/trust/company.json': JSON.stringify(await domain.bundle()),
        '../keys/trust/root.pem': pemOf(domain.root),
      },
      NOW,
    )
  })
  afterAll(() => listener.close())

  it('gives a token bound to the certificate, and says so when asked', async () => {
    const svid = await domain.x509Svid('/agents/research')
    const send = listener.connected(svid)
    const answer = await send('/token', await listener.exchange())
    expect([answer.status, answer.body['token_type']]).toEqual([200, 'Bearer'])
    const token = String(answer.body['access_token'])
    const { payload } = decode(token)
    expect(payload).toMatchObject({ client_id: 'research', att: { kind: 'x509_svid', tier: 'platform' } })
    const thumbprint = createHash('sha256').update(svid.der).digest('base64url')
    expect(payload['cnf']).toEqual({ 'x5t#S256': thumbprint })
    const seen = await send('/introspect', { token, client_id: 'research' })
    expect(seen.body).toMatchObject({ active: true, token_type: 'Bearer', cnf: { 'x5t#S256': thumbprint } })
    const metadata = (await (
      await fetch(`${listener.issuer}/.well-known/oauth-authorization-server`)
    ).json()) as Record<string, unknown>
    expect(metadata['mtls_endpoint_aliases']).toMatchObject({
      token_endpoint: `https://127.0.0.1:${listener.mtlsPort}/token`,
    })
    expect(metadata['tls_client_certificate_bound_access_tokens']).toBe(true)

    // E13, E11: renewed over the same certificate, and over no other that is just as valid.
    const renew = {
      grant_type: GRANT.exchange,
      subject_token: token,
      subject_token_type: TOKEN_TYPE.accessToken,
      client_id: 'research',
      audience: 'tickets',
    }
    expect((await send('/token', renew)).status).toBe(200)
    const other = await listener.connected(await domain.x509Svid('/agents/research'))('/token', renew)
    expect([other.status, other.body['reason']]).toEqual([400, 'cnf_mismatch'])
  })

  it('E6 an ID-JAG names no certificate, and policy judges it as what it is: a bearer token', async () => {
    const send = listener.connected(await domain.x509Svid('/agents/research'))
    const idJag = async (scope: string) =>
      send(
        '/token',
        await listener.exchange({
          requested_token_type: TOKEN_TYPE.idJag,
          audience: 'https://auth.chat.example',
          scope,
        }),
      )
    const read = await idJag('chat:read')
    expect(read.status, JSON.stringify(read.body)).toBe(200)
    expect(decode(String(read.body['access_token'])).payload).not.toHaveProperty('cnf')
    const draft = await idJag('chat:draft')
    expect(draft.body).toMatchObject({
      error: 'invalid_request',
      reason: 'policy_denied',
      rule: 'proof_of_possession_only',
    })
  })

  it('F1 E13 a JWT-SVID without a DPoP proof belongs to the certificate of its first connection, and so does its token', async () => {
    const jwtSvid = await domain.jwtSvid('/agents/research', listener.issuer)
    const evidence = { client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion: jwtSvid }
    // Signed by nobody whom we trust: the connection proves its key, and the SVID who it is.
    const self = await issue({ name: 'CN=any' })
    const mine = listener.connected({ ...self, chain: [self.der] })
    const answer = await mine('/token', await listener.exchange(evidence))
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    const { payload } = decode(String(answer.body['access_token']))
    expect(payload['cnf']).toEqual({ 'x5t#S256': createHash('sha256').update(self.der).digest('base64url') })
    expect(payload['att']).toEqual({ kind: 'jwt_svid', tier: 'platform' })
    const theirs = await issue({ name: 'CN=any' })
    const stolen = await listener.connected({ ...theirs, chain: [theirs.der] })(
      '/token',
      await listener.exchange(evidence),
    )
    expect([stolen.status, stolen.body['error']]).toEqual([400, 'invalid_dpop_proof'])
    const bare = await listener.connected()('/token', await listener.exchange(evidence))
    expect([bare.status, bare.body['reason']]).toEqual([400, 'proof_required'])
    expect((await mine('/token', await listener.exchange(evidence))).status).toBe(200)
  })

  it('E12 tls_client_auth is the same listener by other rules, and ends with its certificate on the same connection', async () => {
    const form = {
      grant_type: GRANT.clientCredentials,
      client_id: 'triage',
      request_details: (await listener.exchange())['request_details'],
      ...TICKETS,
    }
    const life = { notBefore: listener.now() - 60, notAfter: listener.now() + 100 }
    const certificate = await issue({ name: 'CN=triage', issuer: domain.intermediate, ...life })
    const send = listener.connected({ ...certificate, chain: [certificate.der, domain.intermediate.der] })
    const answer = await send('/token', form)
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    expect(decode(String(answer.body['access_token'])).payload).toMatchObject({
      client_id: 'triage',
      att: { kind: 'tls_client_auth', tier: 'key' },
      cnf: { 'x5t#S256': expect.any(String) },
    })
    // An SVID is not what this agent is known by, nor this certificate what the others are.
    const svid = await listener.connected(await domain.x509Svid('/agents/triage'))('/token', form)
    expect([svid.status, svid.body['error']]).toEqual([401, 'invalid_client'])
    const other = await send('/token', { ...form, client_id: 'research' })
    expect([other.status, other.body['error'], other.reused]).toEqual([401, 'invalid_client', true])
    listener.clock.ms += 101_000
    const late = await send('/token', form)
    expect([late.status, late.body['error'], late.reused]).toEqual([401, 'invalid_client', true])
    expect(listener.lines.at(-1)).toContain('peer_invalid')
    listener.clock.ms -= 101_000
    const methods = (await (await fetch(`${listener.issuer}/.well-known/oauth-authorization-server`)).json()) as Record<
      string,
      unknown
    >
    expect(methods['token_endpoint_auth_methods_supported']).toEqual(
      expect.arrayContaining(['tls_client_auth', 'self_signed_tls_client_auth']),
    )
  })

  it('E13 needs a client_id that is its own', async () => {
    const send = listener.connected(await domain.x509Svid('/agents/research'))
    for (const client_id of ['', 'payments', 'nobody', 'RESEARCH']) {
      const answer = await send('/token', await listener.exchange({ client_id }))
      expect([client_id, answer.status, answer.body['error']]).toEqual([client_id, 400, 'invalid_request'])
    }
    expect(
      (await send('/token', await listener.exchange({ client_id: 'spiffe://company.example/agents/research' }))).status,
    ).toBe(200)
  })

  it('F2 F8 F12 F14 certificates that prove nothing are refused, and so is none', async () => {
    const other = await createTestTrustDomain('other.example')
    const self = await issue({ name: '', names: [{ type: 'url', value: 'spiffe://company.example/agents/research' }] })
    const wrong: readonly [string, ({ readonly chain: readonly Uint8Array[] } & Issued) | undefined][] = [
      ['none', undefined],
      ['self-signed', { ...self, chain: [self.der] }],
      ['another trust domain', await other.x509Svid('/agents/research')],
      [
        'two ids',
        await domain.x509Svid('/x', {
          names: [
            { type: 'url', value: 'spiffe://company.example/agents/research' },
            { type: 'url', value: 'spiffe://company.example/agents/payments' },
          ],
        }),
      ],
      ['a common name only', await domain.x509Svid('/x', { name: 'CN=research', names: null })],
      ['for servers only', await domain.x509Svid('/agents/research', { purposes: ['1.3.6.1.5.5.7.3.1'] })],
      ['expired', await domain.x509Svid('/agents/research', { notAfter: NOW - 1 })],
      ['not yet', await domain.x509Svid('/agents/research', { notBefore: NOW + 600 })],
      ['a CA', await domain.x509Svid('/agents/research', { ca: true })],
      [
        'without its intermediate',
        await domain.x509Svid('/agents/research').then((svid) => ({ ...svid, chain: [svid.der] })),
      ],
    ]
    for (const [what, svid] of wrong) {
      const answer = await listener.connected(svid)('/token', await listener.exchange())
      expect([what, answer.body['access_token']]).toEqual([what, undefined])
      // Without any evidence a subject token alone would be impersonation by omission (D13).
      expect([what, answer.status]).toEqual([what, svid ? 401 : 400])
    }
  })

  it('E12 a certificate that expires, or whose agent is disabled, ends with the next request on the same connection', async () => {
    const svid = await domain.x509Svid('/agents/research', { notAfter: listener.now() + 100 })
    const send = listener.connected(svid)
    expect((await send('/token', await listener.exchange())).status).toBe(200)
    const again = await send('/token', await listener.exchange())
    expect([again.status, again.reused]).toEqual([200, true])
    listener.clock.ms += 101_000
    const late = await send('/token', await listener.exchange())
    expect([late.status, late.body['error'], late.reused]).toEqual([401, 'invalid_client', true])
    expect(listener.lines.join('')).toContain('peer_invalid')

    const other = listener.connected(
      await domain.x509Svid('/agents/research', { notBefore: listener.now() - 60, notAfter: listener.now() + 600 }),
    )
    expect((await other('/token', await listener.exchange())).status).toBe(200)
    const file = join(listener.folder, 'config', 'agents', 'research.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, `${text}disabled: true\n`)
    expect(await listener.service.reload()).toBe(true)
    const disabled = await other('/token', await listener.exchange())
    expect([disabled.status, disabled.body['error'], disabled.reused]).toEqual([401, 'invalid_client', true])
    await writeFile(file, text)
    expect(await listener.service.reload()).toBe(true)
    expect((await other('/token', await listener.exchange())).status).toBe(200)
  })

  it('E11 a certificate in a header is no certificate, unless a configured proxy says it', async () => {
    const svid = await domain.x509Svid('/agents/research')
    const headers = {
      'Client-Cert': `:${Buffer.from(svid.der).toString('base64')}:`,
      'Client-Cert-Chain': `:${Buffer.from(domain.intermediate.der).toString('base64')}:`,
      'X-Forwarded-Client-Cert': `Cert="${encodeURIComponent(pemOf(svid))}"`,
      'X-Forwarded-For': '127.0.0.2',
    }
    const direct = await listener.connected()('/token', await listener.exchange(), headers)
    expect([direct.status, direct.body['access_token']]).toEqual([400, undefined])
    // The connection's own certificate is what counts, whatever a header says of another.
    const payments = listener.connected(await domain.x509Svid('/agents/payments'))
    expect((await payments('/token', await listener.exchange(), headers)).body['reason']).toBe('context_mismatch')

    const through = async (localAddress: string) => {
      const body = new URLSearchParams(await listener.exchange()).toString()
      const form = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length }
      return new Promise<number | undefined>((resolve, reject) => {
        const options = { method: 'POST', localAddress, headers: { ...headers, ...form } }
        const sent = request(`${listener.issuer}/token`, options, (response) => {
          response.resume()
          resolve(response.statusCode)
        })
        sent.on('error', reject)
        sent.end(body)
      })
    }
    expect(await through('127.0.0.1')).toBe(400)
    expect(await through('127.0.0.2')).toBe(200)
  })
})
