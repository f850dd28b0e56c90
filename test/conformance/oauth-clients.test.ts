/** RFC 8693, 8414, 9449, 7523, 7662 and 9701, as clients nobody here wrote understand them. */
import { execFileSync, spawnSync } from 'node:child_process'
import type { webcrypto } from 'node:crypto'
import { createRemoteJWKSet, importJWK, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { openRunning, type Running } from '../running.ts'

let running: Running
beforeAll(async () => {
  running = await openRunning()
})
afterAll(() => running.close())

const parameters = async (more: Record<string, string> = {}) => ({
  subject_token: await running.userToken('alice', ['support', 'finance']),
  subject_token_type: TOKEN_TYPE.idToken,
  resource: 'https://tickets.example.com/',
  scope: 'tickets:read_ticket',
  request_details: running.requestDetails(),
  ...more,
})

const agentKey = async (name: string) => {
  const jwk = await running.jwk(`agents/${name}.jwk`)
  return { key: (await importJWK(jwk, 'ES256')) as webcrypto.CryptoKey, kid: jwk.kid! }
}

describe('openid-client', () => {
  it('RFC 8414 §3 discovers us, exchanges a user token with DPoP, and accepts the answer', async () => {
    const { key, kid } = await agentKey('research')
    const config = await client.discovery(new URL(running.issuer), 'research', {}, client.PrivateKeyJwt({ key, kid }), {
      algorithm: 'oauth2',
      execute: [client.allowInsecureRequests],
    })
    const keyPair = await client.randomDPoPKeyPair('ES256')
    const DPoP = client.getDPoPHandle(config, keyPair)
    const answer = await client.genericGrantRequest(config, GRANT.exchange, await parameters(), { DPoP })
    expect(answer.token_type).toBe('dpop')
    expect(answer.scope).toBe('tickets:read_ticket')
    expect(answer['issued_token_type']).toBe(TOKEN_TYPE.accessToken)
    expect(answer.expires_in).toBeGreaterThan(0)

    // RFC 7662 by the same library: the agent asks about its own token.
    const introspected = await client.tokenIntrospection(config, answer.access_token)
    expect(introspected.active).toBe(true)
    expect(introspected.sub).toBe('dev|alice')
    // RFC 7009, and what introspection says afterwards.
    await client.tokenRevocation(config, answer.access_token)
    expect((await client.tokenIntrospection(config, answer.access_token)).active).toBe(false)
  })
})

describe('oauth4webapi', () => {
  const server = async () => {
    const issuer = new URL(running.issuer)
    const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', [oauth.allowInsecureRequests]: true })
    return oauth.processDiscoveryResponse(issuer, response)
  }

  it('RFC 9449 §8 takes our nonce challenge, retries, and validates our token as a resource server would', async () => {
    const as = await server()
    const { key, kid } = await agentKey('research')
    const me: oauth.Client = { client_id: 'research' }
    const auth = oauth.PrivateKeyJwt({ key, kid })
    const DPoP = oauth.DPoP(me, await oauth.generateKeyPair('ES256'))
    const ask = async () =>
      oauth.genericTokenEndpointRequest(as, me, auth, GRANT.exchange, await parameters(), {
        DPoP,
        [oauth.allowInsecureRequests]: true,
      })
    let answer: oauth.TokenEndpointResponse
    try {
      answer = await oauth.processGenericTokenEndpointResponse(as, me, await ask())
    } catch (error) {
      expect(oauth.isDPoPNonceError(error)).toBe(true)
      answer = await oauth.processGenericTokenEndpointResponse(as, me, await ask())
    }
    expect(answer.token_type).toBe('dpop')

    const url = new URL('https://tickets.example.com/tickets/42')
    let seen: Request | undefined
    await oauth.protectedResourceRequest(answer.access_token, 'GET', url, undefined, undefined, {
      DPoP,
      [oauth.customFetch]: async (target: string, init: RequestInit) => {
        seen = new Request(target, init)
        return new Response('{}')
      },
    } as never)
    const claims = await oauth.validateJwtAccessToken(as, seen!, 'https://tickets.example.com/', {
      requireDPoP: true,
      [oauth.allowInsecureRequests]: true,
    })
    expect(claims.client_id).toBe('research')
  })

  it('RFC 9701 §5 takes our signed answer of introspection for what it is, and verifies it', async () => {
    const as = await server()
    const { key, kid } = await agentKey('research')
    const me: oauth.Client = { client_id: 'research', introspection_signed_response_alg: 'ES256' }
    const auth = oauth.PrivateKeyJwt({ key, kid })
    const options = { [oauth.allowInsecureRequests]: true }
    const DPoP = oauth.DPoP(me, await oauth.generateKeyPair('ES256'))
    const ask = async () =>
      oauth.genericTokenEndpointRequest(as, me, auth, GRANT.exchange, await parameters(), { DPoP, ...options })
    await oauth.processGenericTokenEndpointResponse(as, me, await ask()).catch(() => undefined)
    const token = await oauth.processGenericTokenEndpointResponse(as, me, await ask())
    const signed = { requestJwtResponse: true, ...options }
    const response = await oauth.introspectionRequest(as, me, auth, token.access_token, signed)
    const answer = await oauth.processIntrospectionResponse(as, me, response)
    expect(answer).toMatchObject({ active: true, client_id: 'research', sub: 'dev|alice' })
    await oauth.validateApplicationLevelSignature(as, response, options)
  })

  it('RFC 6749 §5.2 reads our refusals', async () => {
    const as = await server()
    const { key, kid } = await agentKey('research')
    const me: oauth.Client = { client_id: 'research' }
    const auth = oauth.PrivateKeyJwt({ key, kid })
    const DPoP = oauth.DPoP(me, await oauth.generateKeyPair('ES256'))
    const ask = async () =>
      oauth.genericTokenEndpointRequest(
        as,
        me,
        auth,
        GRANT.exchange,
        await parameters({ scope: 'payments:refund', resource: 'https://payments.example.com/' }),
        { DPoP, [oauth.allowInsecureRequests]: true },
      )
    await oauth.processGenericTokenEndpointResponse(as, me, await ask()).catch(() => undefined)
    const refusal = await oauth
      .processGenericTokenEndpointResponse(as, me, await ask())
      .catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(oauth.ResponseBodyError)
    expect(refusal).toMatchObject({ error: 'invalid_scope', status: 400 })
  })

  it('RFC 6749 §4.4 opens an autonomous task by client credentials', async () => {
    const as = await server()
    const { key, kid } = await agentKey('triage')
    const me: oauth.Client = { client_id: 'triage' }
    const auth = oauth.PrivateKeyJwt({ key, kid })
    const DPoP = oauth.DPoP(me, await oauth.generateKeyPair('ES256'))
    const ask = () =>
      oauth.clientCredentialsGrantRequest(
        as,
        me,
        auth,
        { resource: 'https://tickets.example.com/', request_details: running.requestDetails() },
        { DPoP, [oauth.allowInsecureRequests]: true },
      )
    await oauth.processClientCredentialsResponse(as, me, await ask()).catch(() => undefined)
    const answer = await oauth.processClientCredentialsResponse(as, me, await ask())
    expect(answer.scope).toBe('tickets:read_ticket tickets:search_tickets')
  })
})

describe('other verifiers', () => {
  const token = async (): Promise<string> => {
    const { key, kid } = await agentKey('research')
    const config = await client.discovery(new URL(running.issuer), 'research', {}, client.PrivateKeyJwt({ key, kid }), {
      algorithm: 'oauth2',
      execute: [client.allowInsecureRequests],
    })
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
    return (await client.genericGrantRequest(config, GRANT.exchange, await parameters(), { DPoP })).access_token
  }

  it('RFC 9068 §4 jose alone verifies a token from the JWKS', async () => {
    const jwks = createRemoteJWKSet(new URL(`${running.issuer}/.well-known/jwks.json`))
    const { payload } = await jwtVerify(await token(), jwks, {
      issuer: running.issuer,
      audience: 'https://tickets.example.com/',
      typ: 'at+jwt',
      algorithms: ['ES256'],
      requiredClaims: ['exp', 'iat', 'jti', 'client_id', 'sub'],
      maxTokenAge: '5m',
    })
    expect(payload.sub).toBe('dev|alice')
  })

  const python = process.env['ERRAND_TEST_PYTHON'] ?? 'python3'
  const hasPyJwt = spawnSync(python, ['-c', 'import jwt, cryptography']).status === 0
  if (!hasPyJwt) console.log('PyJWT is not installed: its test is skipped')

  it.skipIf(!hasPyJwt)('RFC 9068 §4 PyJWT verifies a token from the JWKS', async () => {
    const program = `
import json, sys, jwt
from jwt import PyJWKSet
token, jwks, issuer = json.load(sys.stdin)
keys = {k.key_id: k for k in PyJWKSet.from_dict(jwks).keys}
kid = jwt.get_unverified_header(token)["kid"]
claims = jwt.decode(token, keys[kid].key, algorithms=["ES256"], audience="https://tickets.example.com/",
                    issuer=issuer, options={"require": ["exp", "iat", "jti", "sub"]})
print(claims["sub"])
`
    const jwks = await (await fetch(`${running.issuer}/.well-known/jwks.json`)).json()
    const out = execFileSync(python, ['-c', program], { input: JSON.stringify([await token(), jwks, running.issuer]) })
    expect(out.toString().trim()).toBe('dev|alice')
  })
})
