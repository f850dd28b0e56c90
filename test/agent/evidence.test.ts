import 'reflect-metadata'
import { type KeyObject, webcrypto } from 'node:crypto'
import { createServer } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import { createAgent, jwtSvid, privateKeyJwt, x509Svid } from '@errand/agent'
import * as x509 from '@peculiar/x509'
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import { agentAt, details } from './house.ts'
import { decode, serve, serveErrand } from './service-double.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})
const errand = async () => {
  const double = await serveErrand()
  closing.push(double.close)
  return double
}

const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'pkcs8' }).toString()

describe('private_key_jwt', () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ed = generateKeyPairSync('ed25519')
  const jwk = { ...ec.privateKey.export({ format: 'jwk' }), kty: 'EC', kid: 'k-1' }

  it.each([
    ['a JWK', jwk, 'ES256', 'k-1', ec],
    ['the text of a JWK file', `\n${JSON.stringify(jwk)}\n`, 'ES256', 'k-1', ec],
    ['a PEM file', pem(ec.privateKey), 'ES256', undefined, ec],
    ['an Ed25519 PEM file', pem(ed.privateKey), 'EdDSA', undefined, ed],
  ])('signs with %s what another library accepts', async (_, key, alg, kid, pair) => {
    const service = await errand()
    const { agent, clock } = agentAt(service.url, { evidence: privateKeyJwt({ clientId: 'research', key }) })
    await agent.task(details)
    const assertion = service.at('/tasks')[0]!.headers.authorization!.slice('ClientAssertion '.length)
    const publicJwk = pair.publicKey.export({ format: 'jwk' })
    const expectedKid = kid ?? (await calculateJwkThumbprint(publicJwk))
    const keys = createLocalJWKSet({ keys: [{ ...publicJwk, kty: publicJwk.kty!, kid: expectedKid, alg }] })
    const { payload, protectedHeader } = await jwtVerify(assertion, keys, {
      typ: 'client-authentication+jwt',
      audience: service.url,
      issuer: 'research',
      subject: 'research',
      currentDate: new Date(clock.now * 1000),
    })
    expect(protectedHeader).toMatchObject({ alg, kid: expectedKid })
    expect(payload.aud).toBe(service.url)
    expect(payload.exp! - payload.iat!).toBeLessThanOrEqual(300)
  })

  it('takes a kid of its own', async () => {
    const service = await errand()
    const evidence = privateKeyJwt({ clientId: 'research', key: jwk, kid: 'other' })
    await agentAt(service.url, { evidence }).agent.task(details)
    expect(decode(service.at('/tasks')[0]!.headers.authorization!.split(' ')[1]).header.kid).toBe('other')
  })

  it('refuses other keys without quoting them', () => {
    const rsa = pem(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)
    const p384 = pem(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey)
    const { d: secret, ...publicOnly } = jwk
    for (const key of [rsa, p384, publicOnly, 'canary-secret', '{canary-secret', { kty: 'oct', k: 'canary-secret' }]) {
      let message = ''
      try {
        privateKeyJwt({ clientId: 'research', key })
      } catch (error) {
        message = inspect(error)
      }
      expect(message).toMatch(/private key/)
      expect(message).not.toContain('canary-secret')
      expect(message).not.toContain(secret)
    }
  })

  it('shows the client and not the key', () => {
    const evidence = privateKeyJwt({ clientId: 'research', key: jwk })
    expect(inspect(evidence)).toBe('Evidence {"kind":"private_key_jwt","clientId":"research"}')
    expect(JSON.stringify(evidence)).toBe('{"kind":"private_key_jwt","clientId":"research"}')
  })
})

it('presents a JWT-SVID as it stands in its file at each request', async () => {
  const service = await errand()
  let svid = 'svid-1\n'
  const { agent } = agentAt(service.url, { evidence: jwtSvid({ svid: async () => svid }) })
  const task = await agent.task(details)
  svid = 'svid-2\n'
  await task.token({ tool: 'tickets' })
  expect(service.at('/tasks')[0]!.headers.authorization).toBe('ClientAssertion svid-1')
  const { form } = service.at('/token')[0]!
  expect(form.get('client_assertion')).toBe('svid-2')
  expect(form.get('client_assertion_type')).toBe('urn:ietf:params:oauth:client-assertion-type:jwt-spiffe')
})

describe('x509_svid', () => {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

  async function authority() {
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
    const ca = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=Test CA',
      keys,
      signingAlgorithm: algorithm,
      extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
    })
    const issue = async (san: x509.JsonGeneralNames) => {
      const own = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
      const cert = await x509.X509CertificateGenerator.create({
        subject: 'CN=leaf',
        issuer: ca.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions: [new x509.SubjectAlternativeNameExtension(san)],
      })
      const der = await webcrypto.subtle.exportKey('pkcs8', own.privateKey)
      return { cert: cert.toString('pem'), key: x509.PemConverter.encode(der, 'PRIVATE KEY') }
    }
    return { ca: ca.toString('pem'), issue }
  }

  async function mtlsHouse() {
    const { ca, issue } = await authority()
    const server = await issue([{ type: 'ip', value: '127.0.0.1' }])
    const peers: (string | undefined)[] = []
    const mtls = await serve(
      (request) =>
        request.path === '/tasks'
          ? { status: 201, body: { id: 'task_a' } }
          : { body: { access_token: 'token-1', token_type: 'DPoP', expires_in: 60, scope: '', task_id: 'task_a' } },
      (listener) =>
        createServer({ ...server, ca, requestCert: true, rejectUnauthorized: true }, (request, response) => {
          peers.push((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
          listener(request, response)
        }),
    )
    closing.push(mtls.close)
    return { ca, issue, peers, mtls, url: `https://127.0.0.1:${mtls.port}` }
  }

  it('is the connection, at the endpoint that the metadata gives for mTLS, and rotates', async () => {
    const { ca, issue, peers, mtls, url } = await mtlsHouse()
    let issuer = ''
    const front = await serve(() => ({
      body: { issuer, token_endpoint: `${issuer}/token`, mtls_endpoint_aliases: { token_endpoint: `${url}/token` } },
    }))
    closing.push(front.close)
    issuer = `http://127.0.0.1:${front.port}`
    let svid = await issue([{ type: 'url', value: 'spiffe://company.example/agents/research' }])
    const evidence = x509Svid({ clientId: 'research', cert: () => svid.cert, key: () => svid.key, ca })
    const { agent } = agentAt(issuer, { evidence })
    const task = await agent.task(details)
    svid = await issue([{ type: 'url', value: 'spiffe://company.example/agents/rotated' }])
    await task.token({ tool: 'tickets' })

    expect(peers).toEqual([
      'URI:spiffe://company.example/agents/research',
      'URI:spiffe://company.example/agents/rotated',
    ])
    expect(mtls.at('/tasks')[0]!.headers['client-id']).toBe('research')
    expect(mtls.at('/tasks')[0]!.headers.authorization).toBeUndefined()
    expect(mtls.at('/token')[0]!.form.get('client_id')).toBe('research')
    expect(front.seen.map(({ path }) => path)).toEqual(['/.well-known/oauth-authorization-server'])
    expect(inspect(evidence)).toBe('Evidence {"kind":"x509_svid","clientId":"research"}')
  })

  it('goes to the endpoint it is given, and only to a server it can trust', async () => {
    const { ca, issue, mtls, url } = await mtlsHouse()
    const svid = await issue([{ type: 'url', value: 'spiffe://company.example/agents/research' }])
    const agent = (trusted: string | undefined) =>
      createAgent({
        issuer: 'https://errand.example.com',
        evidence: x509Svid({ clientId: 'research', ...svid, mtlsEndpoint: `${url}/`, ...(trusted && { ca: trusted }) }),
        wait: async () => undefined,
      })
    expect((await agent(ca).task(details)).id).toBe('task_a')
    const seen = mtls.seen.length
    await expect(agent(undefined).task(details)).rejects.toMatchObject({ code: 'network_error' })
    expect(mtls.seen).toHaveLength(seen)
    expect(() => x509Svid({ clientId: 'research', ...svid, mtlsEndpoint: 'http://127.0.0.1:1' })).toThrow(/https/)
  })
})
