import {
  accessTokenHash,
  createProofKeys,
  type DpopExpectation,
  readDpopProof,
  readDpopProofAnywhere,
  targetOf,
} from '@errand/verifier/dpop.ts'
import { headerText } from '@errand/verifier/jws.ts'
import { jwkThumbprint, signEs256 } from '@errand/verifier/signature.ts'
import { createHmac } from 'node:crypto'
import { CompactSign, exportJWK, generateKeyPair } from 'jose'
import { describe, expect, it } from 'vitest'
import { b64, jwtOf, makeSigner, NOW } from './sample-token.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const URL_ = 'https://errand.example.com/token'
const signer = makeSigner()
const expected: DpopExpectation = { method: 'POST', url: URL_, now: NOW, maxAgeSeconds: 60 }
const claims = { jti: 'proof-1', htm: 'POST', htu: URL_, iat: NOW }

const make = (changes: object = {}, header: object = {}): string =>
  signEs256(signer.privateKey, { typ: 'dpop+jwt', jwk: signer.jwk, ...header }, { ...claims, ...changes })
const verdictOf = (proof: string, changes: Partial<DpopExpectation> = {}): string => {
  const read = readDpopProof(proof, { ...expected, ...changes })
  return read.ok ? 'accepted' : read.fault
}
const verdict = (changes: object, header: object = {}) => verdictOf(make(changes, header))

describe('DPoP proofs', () => {
  it('takes an honest proof and says whose it is', () => {
    expect(readDpopProof(make({ nonce: 'n-1' }), expected)).toEqual({
      ok: true,
      value: { jkt: jwkThumbprint(signer.jwk), jti: 'proof-1', iat: NOW, nonce: 'n-1', jwk: signer.jwk },
    })
  })

  it('judges a proof by a remembered key as by one that is new', () => {
    const keys = createProofKeys(2)
    const read = (proof: string) => {
      const found = readDpopProof(proof, expected, keys)
      return found.ok ? found.value : found.fault
    }
    const first = read(make())
    expect(keys.find(headerText(make()))?.jkt).toBe(jwkThumbprint(signer.jwk))
    expect(read(make())).toEqual(first)
    const { d } = signer.privateKey.export({ format: 'jwk' })
    const other = makeSigner()
    for (const [jwk, more] of [
      [{ ...signer.jwk, d }, {}],
      [{ ...signer.jwk, use: 'enc' }, {}],
      [{ ...signer.jwk, key_ops: ['sign'] }, {}],
      [{ ...signer.jwk, alg: 'ES384' }, {}],
      [{ ...signer.jwk, y: other.jwk.y }, {}],
      [{ ...signer.jwk, crv: 'P-384' }, {}],
      [{ kty: 'OKP', crv: 'Ed25519', x: signer.jwk.x }, {}],
      [{ ...other.jwk, x: signer.jwk.x }, {}],
    ] as const) {
      const proof = make(more, { jwk })
      const fresh = readDpopProof(proof, expected)
      expect(fresh.ok).toBe(false)
      expect(read(proof)).toBe(fresh.ok ? '' : fresh.fault)
    }
    const proof = make()
    expect(read(`${proof.slice(0, -86)}${make({ jti: 'proof-2' }).slice(-86)}`)).toBe('bad_signature')
    // A key that no good proof was made with is not remembered, and the oldest makes room.
    const strange = signEs256(signer.privateKey, { typ: 'dpop+jwt', jwk: other.jwk }, claims)
    expect(read(strange)).toBe('bad_signature')
    expect(keys.find(headerText(strange))).toBeUndefined()
    for (const one of [other, makeSigner()]) read(signEs256(one.privateKey, { typ: 'dpop+jwt', jwk: one.jwk }, claims))
    expect(keys.find(headerText(make()))).toBeUndefined()
    expect(read(make())).toEqual(first)
  })

  it('A17 E4 E7 judges a new key the same where its import may be waited for', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const { d } = signer.privateKey.export({ format: 'jwk' })
    const edwards = publicKey.export({ format: 'jwk' })
    const zero = b64(Buffer.alloc(32))
    const field = b64(Buffer.from('ffffffff00000001000000000000000000000000ffffffffffffffffffffffff', 'hex'))
    const proofs = [
      make(),
      make({}, { jwk: makeSigner().jwk }),
      ...[
        { ...signer.jwk, y: b64(Buffer.alloc(32, 1)) },
        { ...signer.jwk, x: zero, y: zero },
        { ...signer.jwk, x: field },
        { ...signer.jwk, y: signer.jwk.y!.slice(1) },
        { ...signer.jwk, y: `${signer.jwk.y}=` },
        { ...signer.jwk, x: undefined },
        { ...signer.jwk, use: 'enc' },
        { ...signer.jwk, key_ops: ['sign'] },
        { ...signer.jwk, alg: 'ES384' },
        { ...signer.jwk, crv: 'P-384' },
        { ...signer.jwk, d },
        makeSigner('P-384').jwk,
        edwards,
      ].map((jwk) => make({}, { jwk })),
      await new CompactSign(Buffer.from(JSON.stringify(claims)))
        .setProtectedHeader({ typ: 'dpop+jwt', alg: 'EdDSA', jwk: edwards as never })
        .sign(privateKey),
      make({ jti: '' }),
    ]
    const verdicts: string[] = []
    for (const proof of proofs) {
      const keys = createProofKeys()
      const read = readDpopProof(proof, expected)
      expect(await readDpopProofAnywhere(proof, expected, keys)).toEqual(read)
      expect(keys.find(headerText(proof)) !== undefined).toBe(read.ok)
      // And at once where it is known.
      expect(await readDpopProofAnywhere(proof, expected, keys)).toEqual(read)
      verdicts.push(read.ok ? 'accepted' : read.fault)
    }
    expect(new Set(verdicts)).toEqual(new Set(['accepted', 'bad_signature', 'bad_key', 'proof_key', 'proof_invalid']))
  })

  it('takes EdDSA', async () => {
    const { publicKey, privateKey } = await generateKeyPair('EdDSA', { extractable: true })
    const proof = await new CompactSign(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ typ: 'dpop+jwt', alg: 'EdDSA', jwk: await exportJWK(publicKey) })
      .sign(privateKey)
    expect(verdictOf(proof)).toBe('accepted')
  })

  it('E2 sets host case, default port, query and fragment aside', () => {
    for (const htu of [
      'https://ERRAND.example.com/token',
      'HTTPS://errand.example.com:443/token',
      `${URL_}?a=b`,
      `${URL_}#x`,
    ])
      expect(verdict({ htu })).toBe('accepted')
    expect(verdictOf(make({ htu: 'http://127.0.0.1:4460/token' }), { url: 'http://127.0.0.1:4460/token?x=1' })).toBe(
      'accepted',
    )
    expect(targetOf('http://example.com:80')).toBe('http://example.com/')
    expect(targetOf('http://[::1]:4460/a')).toBe('http://[::1]:4460/a')
  })

  it.each([
    'https://errand.example.com/tokens',
    'https://errand.example.com/token/',
    'https://errand.example.com/Token',
    'https://errand.example.com//token',
    'https://errand.example.com/%2Ftoken',
    'https://errand.example.com%2Ftoken',
    'https://errand.example.com/tok%65n',
    'https://errand.example.com/x/../token',
    'https://errand.example.com/./token',
    'https://errand.example.com:8443/token',
    'https://errand.example.com.evil.com/token',
    'https://evil.com/https://errand.example.com/token',
    'https://user@errand.example.com/token',
    'https://errand.example.com\\token',
    'http://errand.example.com/token',
    'http://errand.example.com:443/token',
    ' https://errand.example.com/token',
    'https://errand.example.com/token\n',
    'https://errand.example.com/token x',
    'https://ｅrrand.example.com/token',
    'errand.example.com/token',
    '/token',
    '',
    undefined,
    [URL_],
  ])('E2 refuses htu %j', (htu) => {
    expect(verdict({ htu })).toBe('htu')
  })

  it('E3 refuses another method, in whatever case', () => {
    for (const htm of ['GET', 'post', 'POST ', '', undefined, ['POST']]) expect(verdict({ htm })).toBe('htm')
  })

  it('E3 wants the hash of the token that came with it', () => {
    const accessToken = 'a.b.c'
    expect(verdictOf(make({ ath: accessTokenHash(accessToken) }), { accessToken })).toBe('accepted')
    expect(verdictOf(make(), { accessToken })).toBe('ath')
    expect(verdictOf(make({ ath: accessTokenHash('a.b.d') }), { accessToken })).toBe('ath')
    expect(verdictOf(make({ ath: `${accessTokenHash(accessToken)}=` }), { accessToken })).toBe('ath')
  })

  it('E4 refuses a key that is private, symmetric or missing, and algorithms for those', () => {
    const withPrivate = signer.privateKey.export({ format: 'jwk' })
    expect(verdict({}, { jwk: withPrivate })).toBe('proof_key')
    expect(verdict({}, { jwk: { kty: 'oct', k: 'AAAA' } })).toBe('proof_key')
    expect(verdict({}, { jwk: undefined })).toBe('proof_key')
    expect(verdict({}, { jwk: 'text' })).toBe('proof_key')
    const header = { typ: 'dpop+jwt', jwk: signer.jwk }
    for (const alg of ['none', 'HS256', 'RS256', 'ES384', undefined])
      expect(verdictOf(jwtOf({ ...header, alg }, claims))).toBe('proof_key')
    const input = `${b64(JSON.stringify({ ...header, alg: 'HS256' }))}.${b64(JSON.stringify(claims))}`
    const mac = createHmac('sha256', JSON.stringify(signer.jwk)).update(input).digest('base64url')
    expect(verdictOf(`${input}.${mac}`)).toBe('proof_key')
  })

  it('A17 refuses a key that is off its curve or of another', () => {
    expect(verdict({}, { jwk: { ...signer.jwk, y: b64(Buffer.alloc(32, 1)) } })).toBe('bad_key')
    expect(verdict({}, { jwk: makeSigner('P-384').jwk })).toBe('bad_key')
    const { x } = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
    expect(verdict({}, { jwk: { kty: 'OKP', crv: 'Ed25519', x } })).toBe('bad_key')
  })

  it('E7 refuses a proof that another key signed', () => {
    expect(verdict({}, { jwk: makeSigner().jwk })).toBe('bad_signature')
  })

  it('E8 refuses two headers joined into one', () => {
    expect(verdictOf(`${make()}, ${make()}`)).toBe('proof_duplicate')
    expect(verdictOf(`${make()},${make()}`)).toBe('proof_duplicate')
    expect(verdictOf(`${make()} ${make()}`)).not.toBe('accepted')
  })

  it('E1 refuses proofs from before and after their time, so that a bounded memory sees every replay', () => {
    expect(verdict({ iat: NOW - 60 })).toBe('accepted')
    expect(verdict({ iat: NOW - 61 })).toBe('expired')
    expect(verdict({ iat: NOW + 30 })).toBe('accepted')
    expect(verdict({ iat: NOW + 31 })).toBe('not_yet_valid')
    expect(verdict({ iat: undefined })).toBe('bad_numeric_date')
    expect(verdict({ iat: `${NOW}` })).toBe('bad_numeric_date')
    expect(verdict({ exp: NOW })).toBe('expired')
    expect(verdict({ exp: 'x' })).toBe('bad_numeric_date')
    expect(verdict({ nbf: NOW + 31 })).toBe('not_yet_valid')
  })

  it('E1 refuses a proof without an identifier to remember it by', () => {
    for (const jti of [undefined, '', 7, 'x'.repeat(257), 'a b', 'a\0']) expect(verdict({ jti })).toBe('proof_invalid')
    expect(verdict({ nonce: 7 })).toBe('proof_invalid')
  })

  it('C1 B2 refuses other kinds and other key references', () => {
    expect(verdict({}, { typ: 'JWT' })).toBe('wrong_typ')
    expect(verdict({}, { typ: 'at+jwt' })).toBe('wrong_typ')
    expect(verdict({}, { jku: 'https://canary.example/' })).toBe('header_forbidden')
    expect(verdict({}, { crit: [] })).toBe('crit_unsupported')
    expect(verdictOf('not-a-jwt')).toBe('not_a_token')
  })
})
