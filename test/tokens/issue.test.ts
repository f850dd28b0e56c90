/** What is signed, and what never is. */
import { parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey, signEs256 } from '@errand/verifier/signature.ts'
import { describe, expect, it } from 'vitest'
import { createIssuer, type TokenFacts, tokenLength } from '../../src/tokens/issue.ts'
import { AUDIENCE, ISSUER, makeSigner, NOW, sampleClaims } from '../verifier/sample-token.ts'

const signer = makeSigner()
const KID = 'k1'

function openIssuer() {
  const signed: (object | string)[] = []
  const issuer = createIssuer({
    issuer: ISSUER,
    keys: {
      activeKid: () => KID,
      signWith: (kid, header, payload) => {
        signed.push(payload)
        return signEs256(signer.privateKey, { ...header, kid }, payload)
      },
      publicJwk: () => ({ ...signer.jwk }),
    },
  })
  return { issuer, signed }
}

const facts: TokenFacts = {
  jti: sampleClaims.jti,
  kid: KID,
  audience: AUDIENCE,
  issuedAt: NOW,
  expiresAt: NOW + 300,
  clientId: sampleClaims.client_id,
  subject: sampleClaims.sub,
  actor: sampleClaims.act!,
  scope: sampleClaims.scope,
  details: sampleClaims.authorization_details,
  confirmation: sampleClaims.cnf!,
  task: sampleClaims.task,
  attestation: sampleClaims.att,
  epoch: sampleClaims.rev,
  policyDigest: sampleClaims.pol,
  hops: [],
  development: false,
}
const { confirmation: _, ...unbound } = facts

describe('an access token', () => {
  it('is what was drafted, as long as it was said to be, and signed with the key that was asked for', async () => {
    const { issuer } = openIssuer()
    const claims = issuer.draft(facts)
    expect(claims).toEqual(sampleClaims)
    const text = JSON.stringify(claims)
    for (const token of [await issuer.sign(claims, KID), await issuer.sign(claims, KID, text)]) {
      const parsed = parseJws(token)
      const key = importVerifyKey(signer.jwk, { algs: ['ES256'] })
      if (!parsed.ok || !key.ok) throw new Error('not a token')
      expect(parsed.value.payload).toEqual(sampleClaims)
      expect(checkSignature(parsed.value, key.value).ok).toBe(true)
      expect(tokenLength(text, KID)).toBe(token.length)
    }
  })

  it.each<[string, TokenFacts]>([
    ['a subject that no claim may be', { ...facts, subject: 'corp|al\nice' }],
    ['a scope beside its details', { ...facts, scope: 'tickets:read' }],
    ['a life beyond the maximum', { ...facts, expiresAt: NOW + 301 }],
    ['a life of minutes without a key', unbound],
    ['an actor without a name', { ...facts, actor: { sub: '' } }],
  ])('with %s never leaves, however often it is tried', (_, bad) => {
    const { issuer, signed } = openIssuer()
    // Alike in every try, as the claims of one decision are.
    for (let tries = 0; tries < 200; tries++)
      expect(() => issuer.sign(issuer.draft(bad), KID)).toThrow(/our own verifier refuses/)
    expect(signed).toEqual([])
  })

  it('is looked at again in a sample of those that are alike', () => {
    const { issuer, signed } = openIssuer()
    // Spoilt behind the back of who promised not to: what is beside the details is not looked at each time.
    let refused = 0
    for (let made = 0; made < 4; made++) issuer.sign(issuer.draft(facts), KID)
    for (let made = 0; made < 200; made++) {
      try {
        issuer.sign(issuer.draft({ ...facts, subject: 'corp|al\nice' }), KID)
      } catch {
        refused++
      }
    }
    expect([signed.length, refused]).toEqual([64, 140])
  })
})
