import { KeyObject } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Service, serve } from '../../src/main.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { createTestTrustDomain, type Issued, issue, NOW, pemOf, type TestTrustDomain } from '../attest/pki.ts'
import { decode, type House, ISSUER, newKeyPair, openHouse, signJws } from '../house.ts'
import { freePort } from '../running.ts'

const EVIDENCE = (text: string) =>
  text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, jwt_svid, x509_svid]')
const WORKLOAD = (name: string) =>
  `kind: workload\ntrust_domain: ${name}\nbundle_file: trust/${name}.json\npath_root: /agents\n`
/** Another authorization server takes ID-JAGs for it. */
const CHAT = `name: chat
audience: https://api.chat.example/
takes: { kind: id_jag, authorization_server: 'https://auth.chat.example', clients: { research: there } }
operations: { read: { effect: read }, draft: { effect: reversible_write } }
`
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

describe('a JWT-SVID', () => {
  let domain: TestTrustDomain
  let house: House
  beforeAll(async () => {
    domain = await createTestTrustDomain('company.example')
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': EVIDENCE,
        'agents/payments.yaml': EVIDENCE,
        'issuers/company.yaml': WORKLOAD('company.example'),
        '../keys/trust/company.example.json': JSON.stringify(await domain.bundle()),
      },
    })
  })
  afterAll(() => house.close())

  const svid = (path = '/agents/research', claims = {}) => domain.jwtSvid(path, ISSUER, claims)
  const ask = async (
    client_assertion: string,
    options: Parameters<Awaited<ReturnType<House['agent']>>['post']>[1] = {},
    form = {},
  ) => {
    const research = await house.agent('research')
    await house.learnNonce('research')
    return research.exchange({
      ...options,
      form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion, ...form },
    })
  }

  it('F1 stands until it expires, with the proof key it was first seen with and no other', async () => {
    const mine = newKeyPair()
    const evidence = await svid()
    const first = await ask(evidence, { proofKey: mine })
    expect(first.status, first.text).toBe(200)
    const { payload } = decode(String(first.body['access_token']))
    expect(payload).toMatchObject({
      client_id: 'research',
      cnf: { jkt: house.thumbprint(mine) },
      att: { kind: 'jwt_svid', tier: 'platform' },
    })
    expect((await ask(evidence, { proofKey: mine })).status).toBe(200)
    const other = await ask(evidence, { proofKey: newKeyPair() })
    expect([other.status, other.body['error']]).toEqual([400, 'invalid_dpop_proof'])
    expect(house.lines.at(-1)).toContain('key_switch')
    // Under another encoding of the signature it is the same evidence.
    const none = await ask(evidence, { proofKey: null })
    expect([none.status, none.body['error'], none.body['reason']]).toEqual([
      400,
      'invalid_dpop_proof',
      'proof_required',
    ])
    expect((await ask(evidence, { proofKey: mine })).status).toBe(200)
    // A new one starts anew.
    expect((await ask(await svid('/agents/research', { jti: 'renewed' }), { proofKey: newKeyPair() })).status).toBe(200)
  })

  it('F1 works at the JSON endpoints with a proof for that endpoint', async () => {
    const evidence = await svid('/agents/research', { jti: 'json' })
    const key = newKeyPair()
    await house.learnNonce('research')
    const get = (dpop?: string) =>
      house.fetch('GET', '/agents/research', {
        headers: { authorization: `ClientAssertion ${evidence}`, ...(dpop === undefined ? {} : { dpop }) },
      })
    expect((await get(house.proof('research', '/agents/research', { key, method: 'GET' }))).status).toBe(200)
    for (const dpop of [
      undefined,
      house.proof('research', '/agents/payments', { key, method: 'GET' }),
      house.proof('research', '/agents/research', { key, method: 'POST' }),
      house.proof('research', '/agents/research', { key: newKeyPair(), method: 'GET' }),
    ]) {
      expect((await get(dpop)).status).toBe(401)
    }
  })

  it('F2 C3 of another trust domain, for another audience, of nobody, or under another name is refused', async () => {
    const other = await createTestTrustDomain('other.example')
    const intents = async () => (await house.records({ type: 'token.issuing' })).length
    const before = await intents()
    const jwtKey = domain.trustDomain.jwtKeys[0]!
    const refused: readonly [string, string, object?][] = [
      ['another trust domain', await other.jwtSvid('/agents/research', ISSUER)],
      [
        'another domain’s key for our name',
        await other.jwtSvid('/agents/research', ISSUER, { sub: 'spiffe://company.example/agents/research' }),
      ],
      ['wimse', await svid('/x', { sub: 'wimse://company.example/agents/research' })],
      ['outside the path root', await svid('/service/research')],
      ['a sibling of the path root', await svid('/agents-old/research')],
      ['an escaped id', await svid('/agents/%72esearch')],
      ['a dot segment', await svid('/agents/x/../research')],
      ['nobody registered', await svid('/agents/nobody')],
      ['another audience', await domain.jwtSvid('/agents/research', 'https://other.example')],
      ['two audiences', await domain.jwtSvid('/agents/research', [ISSUER, 'https://other.example'])],
      ['expired', await svid('/agents/research', { exp: NOW - 1 })],
      ['an agent that may not', await svid('/agents/triage')],
      ['the wrong assertion type', await svid(), { client_assertion_type: ASSERTION_TYPE.jwtBearer }],
      [
        'forged',
        signJws(
          { typ: 'JWT', kid: jwtKey.kid },
          { sub: 'spiffe://company.example/agents/research', aud: ISSUER, exp: NOW + 60 },
          newKeyPair().privateKey,
        ),
      ],
    ]
    for (const [what, evidence, form] of refused) {
      const answer = await ask(evidence, { proofKey: newKeyPair() }, form)
      expect([what, answer.status, answer.body['error']]).toEqual([what, 401, 'invalid_client'])
    }
    // Two agents in one request belong to nobody (D13).
    const two = await ask(await svid(), { proofKey: newKeyPair() }, { client_id: 'payments' })
    expect([two.status, two.body['reason']]).toEqual([400, 'context_mismatch'])
    expect(await intents()).toBe(before)
  })

  it('F5 an id given to a new principal does not bring the old one’s evidence with it, also after a restart', async () => {
    const old = await domain.jwtSvid('/agents/shared', ISSUER, { iat: NOW - 5, exp: NOW + 900 })
    const agentAt = (clientId: string) => (text: string) =>
      EVIDENCE(text).replace(`/agents/${clientId}`, clientId === 'research' ? '/agents/shared' : '/agents/retired')
    const common = {
      'issuers/company.yaml': WORKLOAD('company.example'),
      '../keys/trust/company.example.json': JSON.stringify(await domain.bundle()),
    }
    const before = await openHouse({ startAt: NOW, config: { ...common, 'agents/research.yaml': agentAt('research') } })
    const key = newKeyPair()
    const as = async (at: House, clientId: string, client_assertion: string, proofKey = key) => {
      await at.learnNonce(clientId)
      return (await at.agent(clientId)).exchange({
        proofKey,
        form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion },
      })
    }
    const good = await as(before, 'research', old)
    expect(good.status, good.text).toBe(200)
    await before.stop()

    // The id now belongs to the payments agent.
    const after = await openHouse({
      folder: before.folder,
      startAt: NOW + 100,
      config: {
        'agents/research.yaml': (text) => text.replace('/agents/shared', '/agents/retired'),
        'agents/payments.yaml': (text) => EVIDENCE(text).replace('/agents/payments', '/agents/shared'),
      },
    })
    const stale = await as(after, 'payments', old)
    expect([stale.status, stale.body['error']]).toEqual([401, 'invalid_client'])
    expect(after.lines.at(-1)).toContain('instance_epoch')
    after.advance(5)
    const fresh = await domain.jwtSvid('/agents/shared', ISSUER, { iat: NOW + 104, exp: NOW + 400 })
    const renewed = await as(after, 'payments', fresh, newKeyPair())
    expect(renewed.status, renewed.text).toBe(200)
    await after.close()
  })
})

describe('an X.509-SVID over mTLS', () => {
  let domain: TestTrustDomain
  let folder: string
  let service: Service
  let issuer: string
  let mtlsPort: number
  const clock = { ms: NOW * 1000 }
  const lines: string[] = []

  const keyPem = ({ keys }: Issued) => String(KeyObject.from(keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))
  beforeAll(async () => {
    domain = await createTestTrustDomain('company.example')
    folder = await mkdtemp(join(tmpdir(), 'errand-mtls-'))
    const port = await freePort()
    mtlsPort = await freePort()
    issuer = `http://127.0.0.1:${port}`
    await cp('config', join(folder, 'config'), { recursive: true })
    await mkdir(join(folder, 'keys', 'tls'), { recursive: true, mode: 0o700 })
    await mkdir(join(folder, 'keys', 'trust'), { recursive: true })
    const server = await issue({ name: 'CN=127.0.0.1', names: [{ type: 'ip', value: '127.0.0.1' }] })
    await writeFile(join(folder, 'keys', 'tls', 'server.pem'), pemOf(server))
    await writeFile(join(folder, 'keys', 'tls', 'server.key'), keyPem(server), { mode: 0o600 })
    await writeFile(join(folder, 'keys', 'trust', 'company.example.json'), JSON.stringify(await domain.bundle()))
    await writeFile(join(folder, 'keys', 'trust', 'root.pem'), pemOf(domain.root))
    await writeFile(join(folder, 'config', 'issuers', 'company.yaml'), WORKLOAD('company.example'))
    for (const [file, change] of Object.entries({
      'errand.yaml': (text: string) =>
        text
          .replaceAll('http://127.0.0.1:4460', issuer)
          .replace(
            'port: 4460',
            `port: ${port}\n  mtls: { port: ${mtlsPort}, cert_file: tls/server.pem, key_file: tls/server.key }\n  trusted_proxies: [127.0.0.2]\n  client_certificate_header: Client-Cert`,
          ),
      'agents/research.yaml': (text: string) => EVIDENCE(text).replace('ceiling:\n', 'ceiling:\n  - chat:*\n'),
      'issuers/dev.yaml': (text: string) =>
        text.replaceAll('http://127.0.0.1:4460', issuer).replace('  support:\n', '  support:\n    - chat:*\n'),
      'agents/payments.yaml': EVIDENCE,
      // RFC 8705, with the same authority and another way of naming.
      'agents/triage.yaml': (text: string) =>
        `${text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, tls_client_auth]')}tls_client_auth_ca_file: trust/root.pem\ntls_client_auth_subject_dn: CN=triage\n`,
    })) {
      const path = join(folder, 'config', file)
      await writeFile(path, change(await readFile(path, 'utf8')))
    }
    await writeFile(join(folder, 'config', 'tools', 'chat.yaml'), CHAT)
    service = await serve({
      configDir: join(folder, 'config'),
      dataDir: join(folder, 'data'),
      keysDir: join(folder, 'keys'),
      print: () => undefined,
      nowMs: () => clock.ms,
      logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
    })
  })
  afterAll(async () => {
    for (const each of agents) each.destroy()
    await service.close()
    await rm(folder, { recursive: true, force: true })
  })

  interface Got {
    readonly status: number
    readonly body: Record<string, unknown>
    readonly reused: boolean
  }
  const agents: Agent[] = []
  /** A client with one connection that it keeps. */
  const connected = (svid?: { readonly chain: readonly Uint8Array[] } & Issued) => {
    const agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      rejectUnauthorized: false,
      ...(svid ? { key: keyPem(svid), cert: svid.chain.map((der) => pemOf({ der })).join('') } : {}),
    })
    agents.push(agent)
    return (path: string, form: Record<string, string>, headers: Record<string, string> = {}): Promise<Got> =>
      new Promise((resolve, reject) => {
        const body = new URLSearchParams(form).toString()
        const sent = request(
          {
            host: '127.0.0.1',
            port: mtlsPort,
            path,
            method: 'POST',
            agent,
            headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length, ...headers },
          },
          (response) => {
            let text = ''
            response.on('data', (chunk) => {
              text += String(chunk)
            })
            response.on('end', () =>
              resolve({
                status: response.statusCode ?? 0,
                body: JSON.parse(text) as Record<string, unknown>,
                reused: sent.reusedSocket,
              }),
            )
          },
        )
        sent.on('error', reject)
        sent.end(body)
      })
  }
  const now = () => Math.floor(clock.ms / 1000)
  const userToken = async () => {
    const jwk = JSON.parse(await readFile(join(folder, 'keys', 'users', 'dev-issuer.jwk'), 'utf8')) as { kid: string }
    const { createPrivateKey } = await import('node:crypto')
    return signJws(
      { typ: 'JWT', kid: jwk.kid },
      {
        iss: `${issuer}/dev-issuer`,
        sub: 'alice',
        aud: issuer,
        iat: now(),
        exp: now() + 300,
        groups: ['support'],
        department: 'customer-care',
      },
      createPrivateKey({ key: jwk as never, format: 'jwk' }),
    )
  }
  const exchange = async (more: Record<string, string> = {}) => ({
    grant_type: GRANT.exchange,
    subject_token: await userToken(),
    subject_token_type: TOKEN_TYPE.idToken,
    client_id: 'research',
    request_details: JSON.stringify({
      purpose: 'look',
      environment: 'staging',
      data_classification: 'internal',
      deadline_seconds: 900,
    }),
    ...TICKETS,
    ...more,
  })

  it('gives a token bound to the certificate, and says so when asked', async () => {
    const svid = await domain.x509Svid('/agents/research')
    const send = connected(svid)
    const answer = await send('/token', await exchange())
    expect([answer.status, answer.body['token_type']]).toEqual([200, 'Bearer'])
    const token = String(answer.body['access_token'])
    const { payload } = decode(token)
    expect(payload).toMatchObject({ client_id: 'research', att: { kind: 'x509_svid', tier: 'platform' } })
    const { createHash } = await import('node:crypto')
    const thumbprint = createHash('sha256').update(svid.der).digest('base64url')
    expect(payload['cnf']).toEqual({ 'x5t#S256': thumbprint })
    const seen = await send('/introspect', { token, client_id: 'research' })
    expect(seen.body).toMatchObject({ active: true, token_type: 'Bearer', cnf: { 'x5t#S256': thumbprint } })
    const metadata = (await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json()) as Record<
      string,
      unknown
    >
    expect(metadata['mtls_endpoint_aliases']).toMatchObject({ token_endpoint: `https://127.0.0.1:${mtlsPort}/token` })
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
    const other = await connected(await domain.x509Svid('/agents/research'))('/token', renew)
    expect([other.status, other.body['reason']]).toEqual([400, 'cnf_mismatch'])
  })

  it('E6 an ID-JAG names no certificate, and policy judges it as what it is: a bearer token', async () => {
    const send = connected(await domain.x509Svid('/agents/research'))
    const idJag = async (scope: string) =>
      send(
        '/token',
        await exchange({ requested_token_type: TOKEN_TYPE.idJag, audience: 'https://auth.chat.example', scope }),
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
    const jwtSvid = await domain.jwtSvid('/agents/research', issuer)
    const evidence = { client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion: jwtSvid }
    // Signed by nobody whom we trust: the connection proves its key, and the SVID who it is.
    const self = await issue({ name: 'CN=any' })
    const mine = connected({ ...self, chain: [self.der] })
    const answer = await mine('/token', await exchange(evidence))
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    const { payload } = decode(String(answer.body['access_token']))
    const { createHash } = await import('node:crypto')
    expect(payload['cnf']).toEqual({ 'x5t#S256': createHash('sha256').update(self.der).digest('base64url') })
    expect(payload['att']).toEqual({ kind: 'jwt_svid', tier: 'platform' })
    const theirs = await issue({ name: 'CN=any' })
    const stolen = await connected({ ...theirs, chain: [theirs.der] })('/token', await exchange(evidence))
    expect([stolen.status, stolen.body['error']]).toEqual([400, 'invalid_dpop_proof'])
    const bare = await connected()('/token', await exchange(evidence))
    expect([bare.status, bare.body['reason']]).toEqual([400, 'proof_required'])
    expect((await mine('/token', await exchange(evidence))).status).toBe(200)
  })

  it('E12 tls_client_auth is the same listener by other rules, and ends with its certificate on the same connection', async () => {
    const form = {
      grant_type: GRANT.clientCredentials,
      client_id: 'triage',
      request_details: (await exchange())['request_details'],
      ...TICKETS,
    }
    const life = { notBefore: now() - 60, notAfter: now() + 100 }
    const certificate = await issue({ name: 'CN=triage', issuer: domain.intermediate, ...life })
    const send = connected({ ...certificate, chain: [certificate.der, domain.intermediate.der] })
    const answer = await send('/token', form)
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    expect(decode(String(answer.body['access_token'])).payload).toMatchObject({
      client_id: 'triage',
      att: { kind: 'tls_client_auth', tier: 'key' },
      cnf: { 'x5t#S256': expect.any(String) },
    })
    // An SVID is not what this agent is known by, nor this certificate what the others are.
    const svid = await connected(await domain.x509Svid('/agents/triage'))('/token', form)
    expect([svid.status, svid.body['error']]).toEqual([401, 'invalid_client'])
    const other = await send('/token', { ...form, client_id: 'research' })
    expect([other.status, other.body['error'], other.reused]).toEqual([401, 'invalid_client', true])
    clock.ms += 101_000
    const late = await send('/token', form)
    expect([late.status, late.body['error'], late.reused]).toEqual([401, 'invalid_client', true])
    expect(lines.at(-1)).toContain('peer_invalid')
    clock.ms -= 101_000
    const methods = (await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json()) as Record<
      string,
      unknown
    >
    expect(methods['token_endpoint_auth_methods_supported']).toEqual(
      expect.arrayContaining(['tls_client_auth', 'self_signed_tls_client_auth']),
    )
  })

  it('E13 needs a client_id that is its own', async () => {
    const send = connected(await domain.x509Svid('/agents/research'))
    for (const client_id of ['', 'payments', 'nobody', 'RESEARCH']) {
      const answer = await send('/token', await exchange({ client_id }))
      expect([client_id, answer.status, answer.body['error']]).toEqual([client_id, 400, 'invalid_request'])
    }
    expect(
      (await send('/token', await exchange({ client_id: 'spiffe://company.example/agents/research' }))).status,
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
      const answer = await connected(svid)('/token', await exchange())
      expect([what, answer.body['access_token']]).toEqual([what, undefined])
      // Without any evidence a subject token alone would be impersonation by omission (D13).
      expect([what, answer.status]).toEqual([what, svid ? 401 : 400])
    }
  })

  it('E12 a certificate that expires, or whose agent is disabled, ends with the next request on the same connection', async () => {
    const svid = await domain.x509Svid('/agents/research', { notAfter: now() + 100 })
    const send = connected(svid)
    expect((await send('/token', await exchange())).status).toBe(200)
    const again = await send('/token', await exchange())
    expect([again.status, again.reused]).toEqual([200, true])
    clock.ms += 101_000
    const late = await send('/token', await exchange())
    expect([late.status, late.body['error'], late.reused]).toEqual([401, 'invalid_client', true])
    expect(lines.join('')).toContain('peer_invalid')

    const other = connected(await domain.x509Svid('/agents/research', { notBefore: now() - 60, notAfter: now() + 600 }))
    expect((await other('/token', await exchange())).status).toBe(200)
    const file = join(folder, 'config', 'agents', 'research.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, `${text}disabled: true\n`)
    expect(await service.reload()).toBe(true)
    const disabled = await other('/token', await exchange())
    expect([disabled.status, disabled.body['error'], disabled.reused]).toEqual([401, 'invalid_client', true])
    await writeFile(file, text)
    expect(await service.reload()).toBe(true)
    expect((await other('/token', await exchange())).status).toBe(200)
  })

  it('E11 a certificate in a header is no certificate, unless a configured proxy says it', async () => {
    const svid = await domain.x509Svid('/agents/research')
    const headers = {
      'Client-Cert': `:${Buffer.from(svid.der).toString('base64')}:`,
      'Client-Cert-Chain': `:${Buffer.from(domain.intermediate.der).toString('base64')}:`,
      'X-Forwarded-Client-Cert': `Cert="${encodeURIComponent(pemOf(svid))}"`,
      'X-Forwarded-For': '127.0.0.2',
    }
    const direct = await connected()('/token', await exchange(), headers)
    expect([direct.status, direct.body['access_token']]).toEqual([400, undefined])
    // The connection's own certificate is what counts, whatever a header says of another.
    const payments = connected(await domain.x509Svid('/agents/payments'))
    expect((await payments('/token', await exchange(), headers)).body['reason']).toBe('context_mismatch')

    const through = (localAddress: string) =>
      new Promise<number>((resolve, reject) => {
        void exchange().then((form) => {
          const body = new URLSearchParams(form).toString()
          import('node:http').then(({ request: plain }) => {
            const sent = plain(
              `${issuer}/token`,
              {
                method: 'POST',
                localAddress,
                headers: {
                  ...headers,
                  'content-type': 'application/x-www-form-urlencoded',
                  'content-length': body.length,
                },
              },
              (response) => {
                response.resume()
                resolve(response.statusCode ?? 0)
              },
            )
            sent.on('error', reject)
            sent.end(body)
          }, reject)
        }, reject)
      })
    expect(await through('127.0.0.1')).toBe(400)
    expect(await through('127.0.0.2')).toBe(200)
  })
})
