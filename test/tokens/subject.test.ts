/** Reading subject tokens: what is remembered about one is never more than that its signature held under a key. */
import type { JWK } from 'jose'
import { describe, expect, it } from 'vitest'
import { TOKEN_TYPE } from '../../src/oauth/words.ts'
import { refuse } from '../../src/oauth/refusal.ts'
import { createSubjectReader } from '../../src/tokens/subject.ts'
import type { TrustedIssuer } from '../../src/tokens/trusted-issuer.ts'
import { ISSUER, newKeyPair, signJws } from '../house.ts'

const NOW = 1_800_000_000

describe('the reader of subject tokens', () => {
  const first = newKeyPair()
  const second = newKeyPair()
  const jwk = (pair = first): JWK => ({ ...pair.publicJwk, kid: 'k1', alg: 'ES256' })
  const open = (changes: Partial<TrustedIssuer> = {}) => {
    const world = { now: NOW, key: jwk() as JWK | undefined, disabled: new Set<string>() }
    const issuer: TrustedIssuer = {
      name: 'idp',
      issuer: 'https://idp.example',
      keys: async (kid) => (kid === 'k1' ? world.key : undefined),
      algorithms: ['ES256'],
      audiences: [ISSUER],
      tokenTypes: ['id_token'],
      groupsClaim: 'groups',
      claims: ['department'],
      mayDelegate: false,
      get disabledSubjects() {
        return world.disabled
      },
      maxTokenLifetimeSeconds: 3600,
      mayEndUsers: false,
      development: false,
      rights: () => [],
      ...changes,
    }
    const read = createSubjectReader({
      issuer: ISSUER,
      now: () => world.now,
      ownKeys: { verifyKey: () => refuse('unknown_kid', 'subject_token') },
      byIss: (iss) => (iss === issuer.issuer ? issuer : undefined),
      remembered: 2,
    })
    const token = (claims: object = {}, key = first) =>
      signJws(
        { typ: 'JWT', kid: 'k1' },
        { iss: 'https://idp.example', sub: 'alice', aud: ISSUER, iat: NOW, exp: NOW + 600, ...claims },
        key.privateKey,
      )
    const reasonFor = async (text: string) => {
      const result = await read(text, TOKEN_TYPE.idToken)
      return result.ok ? 'good' : result.refusal.reason
    }
    return { world, token, reasonFor, read }
  }

  it('B6 asks anew when another key takes the place of one under the same kid', async () => {
    const { world, token, reasonFor } = open()
    const text = token()
    expect([await reasonFor(text), await reasonFor(text)]).toEqual(['good', 'good'])
    world.key = jwk(second)
    expect(await reasonFor(text)).toBe('bad_signature')
    world.key = undefined
    expect(await reasonFor(text)).toBe('unknown_kid')
    world.key = jwk()
    expect(await reasonFor(text)).toBe('good')
  })

  it('looks at expiry, and at whether its subject may, each time', async () => {
    const { world, token, reasonFor } = open()
    const text = token()
    expect(await reasonFor(text)).toBe('good')
    world.disabled.add('alice')
    expect(await reasonFor(text)).toBe('subject_disabled')
    world.disabled.clear()
    world.now = NOW + 600
    expect(await reasonFor(text)).toBe('expired')
  })

  it('remembers no more than it was told to, and goes on reading', async () => {
    const { token, reasonFor } = open()
    const texts = Array.from({ length: 10 }, (_, index) => token({ jti: String(index) }))
    for (const text of [...texts, ...texts]) expect(await reasonFor(text)).toBe('good')
  })

  it('A16 takes a signature for no other text than its own, also after it was seen to hold', async () => {
    const { token, reasonFor } = open()
    const text = token()
    expect(await reasonFor(text)).toBe('good')
    const [header, , signature] = text.split('.')
    const other = token({ sub: 'mallory' }).split('.')[1]
    expect(await reasonFor(`${header}.${other}.${signature}`)).toBe('bad_signature')
    expect(await reasonFor(token({}, second))).toBe('bad_signature')
  })

  it('names the subject by its issuer, and takes from the token only what the configuration names', async () => {
    const { token, read } = open()
    const result = await read(
      token({ groups: ['support'], department: 'care', role: 'admin', autonomous: true }),
      TOKEN_TYPE.idToken,
    )
    expect(result).toMatchObject({
      value: {
        kind: 'user',
        facts: {
          id: 'idp|alice',
          issuer: 'idp',
          groups: ['support'],
          claims: { department: 'care' },
          autonomous: false,
        },
      },
    })
    expect(JSON.stringify(result)).not.toContain('admin')
  })

  it.each([
    [{ groups: 'support' }, 'bad_claim'],
    [{ groups: [7] }, 'bad_claim'],
    [{ groups: Array.from({ length: 501 }, String) }, 'bad_claim'],
    [{ exp: NOW + 3601 }, 'bad_numeric_date'],
    [{ exp: NOW }, 'expired'],
    [{ iat: undefined }, 'bad_numeric_date'],
    [{ nbf: 'x' }, 'bad_numeric_date'],
  ])('refuses %j as %s', async (claims, reason) => {
    const { token, reasonFor } = open()
    expect(await reasonFor(token(claims))).toBe(reason)
  })

  it('B7 prefers no issuer: where two could be meant, iss decides, and nothing is looked up by what the token carries', async () => {
    const { token, reasonFor } = open()
    for (const iss of [
      'https://idp.example/',
      'https://IDP.example',
      'https://idp.example:443',
      'https://idp.example.evil.com',
      ['https://idp.example'],
      {},
      null,
    ]) {
      expect(await reasonFor(token({ iss }))).toBe('untrusted_issuer')
    }
  })
})
