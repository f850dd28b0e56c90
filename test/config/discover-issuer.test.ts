import { describe, expect, it } from 'vitest'
import { discoverIssuer, usableAlgorithms } from '../../src/config/discover-issuer.ts'
import type { FetchJwks } from '../../src/config/fetch-jwks.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const ISSUER = 'https://login.example.com/tenant'
const JWKS = 'https://keys.example.com/jwks'
const ec = (more: object = {}) => ({
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  kid: 'ec-1',
  ...more,
})
const rsa = (more: object = {}) => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }),
  kid: 'rsa-1',
  use: 'sig',
  ...more,
})

/** Answers by address; everything that was asked for. */
function web(pages: { readonly [url: string]: unknown }) {
  const asked: string[] = []
  const fetch: FetchJwks = async (url) => {
    asked.push(url)
    const page = pages[url]
    if (page === undefined) throw new Error('status 404')
    return { text: typeof page === 'string' ? page : JSON.stringify(page), time: 1_800_000_000 }
  }
  return { fetch, asked }
}
const metadata = (more: object = {}) => ({ issuer: ISSUER, jwks_uri: JWKS, ...more })
const OPENID = `${ISSUER}/.well-known/openid-configuration`
const RFC8414 = 'https://login.example.com/.well-known/oauth-authorization-server/tenant'
const discover = (pages: { readonly [url: string]: unknown }, issuer = ISSUER) =>
  discoverIssuer(issuer, { fetch: web(pages).fetch, development: false })

describe('discovery of an issuer', () => {
  it.each([
    ['OpenID Connect Discovery §4, after the path', OPENID],
    ['RFC 8414 §3.1, before the path', RFC8414],
  ])('finds keys and their algorithms by its metadata (%s)', async (_, place) => {
    expect(await discover({ [place]: metadata(), [JWKS]: { keys: [ec()] } })).toEqual({
      ok: true,
      value: { issuer: ISSUER, jwksUri: JWKS, algorithms: ['ES256'], time: 1_800_000_000 },
    })
  })

  it('RFC 8414 §3.3 takes nobody for another, and says what it calls itself', async () => {
    const slash = await discover({ [OPENID]: metadata({ issuer: `${ISSUER}/` }), [RFC8414]: metadata() })
    expect(slash).toEqual({ ok: false, why: 'its metadata names another issuer', callsItself: `${ISSUER}/` })
    // What could not be an issuer is not repeated.
    expect(await discover({ [OPENID]: metadata({ issuer: 'javascript:alert(1)' }) })).not.toHaveProperty('callsItself')
  })

  it.each([
    ['no metadata at all', {}, `${RFC8414}: status 404`],
    ['metadata that is not JSON', { [OPENID]: '<html>' }, 'its metadata is not JSON'],
    ['metadata that is null', { [OPENID]: 'null' }, 'its metadata names another issuer'],
    ['no jwks_uri', { [OPENID]: metadata({ jwks_uri: undefined }) }, 'its metadata names no jwks_uri'],
    ['keys that are away', { [OPENID]: metadata() }, `${JWKS}: status 404`],
    ['keys that are not JSON', { [OPENID]: metadata(), [JWKS]: 'keys' }, 'its keys are not JSON'],
    [
      'a private key',
      { [OPENID]: metadata(), [JWKS]: { keys: [ec({ d: 'AA' })] } },
      'its keys: a private key is published',
    ],
    [
      'no key for signatures',
      { [OPENID]: metadata(), [JWKS]: { keys: [rsa({ use: 'enc' })] } },
      'its keys: it has no key for',
    ],
  ])('tells %s', async (_, pages, why) => {
    expect(await discover(pages)).toEqual({ ok: false, why: expect.stringContaining(why) })
  })

  it.each([
    'https://127.0.0.1/',
    'https://169.254.169.254/',
    'https://0x7f.1/',
    'https://2130706433/',
    'https://[::ffff:a9fe:a9fe]/',
    'https://localhost./',
    'http://login.example.com',
    'file:///etc/passwd',
    'gopher://login.example.com/',
    'javascript:alert(1)',
    'https://a@b@c',
    'https://login.example.com\\@evil.example',
  ])('I1 I4 I6 asks nobody at %s, and nobody there where metadata lead to it', async (address) => {
    const { fetch, asked } = web({ [OPENID]: metadata({ jwks_uri: address }) })
    expect(await discoverIssuer(address, { fetch, development: false })).toMatchObject({ ok: false })
    expect(asked).toEqual([])
    expect(await discoverIssuer(ISSUER, { fetch, development: false })).toEqual({
      ok: false,
      why: expect.stringMatching(/^its jwks_uri /),
    })
    expect(asked).toEqual([OPENID])
  })

  it('pins RSA keys that do not say their algorithm to the common one, and takes only what is named', () => {
    expect(usableAlgorithms(JSON.stringify({ keys: [rsa()] }))).toEqual({ ok: true, algorithms: ['RS256'] })
    expect(usableAlgorithms(JSON.stringify({ keys: [rsa({ alg: 'PS256' }), ec()] }))).toEqual({
      ok: true,
      algorithms: ['ES256', 'PS256'],
    })
    expect(usableAlgorithms(JSON.stringify({ keys: [rsa({ alg: 'RS256' }), ec()] }), ['RS256'])).toEqual({
      ok: true,
      algorithms: ['RS256'],
    })
  })
})
