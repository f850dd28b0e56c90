import { parseJws } from '@errand/verifier/jws.ts'
import {
  checkSignature,
  importVerifyKey,
  jwkThumbprint,
  SIGNATURE_ALGS,
  signEs256,
  verifySignature,
} from '@errand/verifier/signature.ts'
import type { JsonWebKey } from 'node:crypto'
import { calculateJwkThumbprint, CompactSign, compactVerify, exportJWK, generateKeyPair, importJWK } from 'jose'
import { describe, expect, it } from 'vitest'
import { b64, makeSigner, NOW, sampleClaims } from './sample-token.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const ALL = { algs: SIGNATURE_ALGS }
const faultOf = (jwk: unknown, algs: readonly string[] = SIGNATURE_ALGS): string => {
  const key = importVerifyKey(jwk, { algs })
  return key.ok ? `accepted as ${key.value.alg}` : key.fault
}
const ec = makeSigner()
const rsa = (bits: number, exponent = 65_537): JsonWebKey =>
  generateKeyPairSync('rsa', { modulusLength: bits, publicExponent: exponent }).publicKey.export({ format: 'jwk' })

describe('signatures', () => {
  it.each(SIGNATURE_ALGS)('verifies what jose signs with %s, and jose agrees', async (alg) => {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
    const jwk = { ...(await exportJWK(publicKey)), alg }
    const text = await new CompactSign(Buffer.from('{"a":1}')).setProtectedHeader({ alg }).sign(privateKey)
    const parsed = parseJws(text)
    const key = importVerifyKey(jwk, ALL)
    if (!parsed.ok || !key.ok) throw new Error('not read')
    expect(checkSignature(parsed.value, key.value)).toEqual({ ok: true, value: true })
    expect(verifySignature(key.value, `${parsed.value.signingInput}x`, parsed.value.signature)).toBe(false)
    for (const at of [0, 31, 63]) {
      const other = Uint8Array.from(parsed.value.signature)
      other[at]! ^= 1
      expect(verifySignature(key.value, parsed.value.signingInput, other)).toBe(false)
    }
    expect(jwkThumbprint(jwk)).toBe(await calculateJwkThumbprint(jwk))
    expect(jwkThumbprint(key.value.jwk)).toBe(jwkThumbprint(jwk))
  })

  it('signs ES256 so that jose accepts it, and names the algorithm itself', async () => {
    const text = signEs256(ec.privateKey, { typ: 'at+jwt', kid: 'k1', alg: 'none' }, sampleClaims)
    const { protectedHeader, payload } = await compactVerify(text, await importJWK({ ...ec.jwk }, 'ES256'))
    expect(protectedHeader).toEqual({ typ: 'at+jwt', kid: 'k1', alg: 'ES256' })
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual(sampleClaims)
  })

  it('A2 takes the algorithm from the key, so a header that names another is refused', () => {
    const key = importVerifyKey(ec.jwk, ALL)
    if (!key.ok) throw new Error(key.fault)
    expect(key.value.alg).toBe('ES256')
    const jws = { header: { alg: 'ES384' }, signingInput: 'a.b', signature: new Uint8Array(96) }
    expect(checkSignature(jws, key.value)).toMatchObject({ fault: 'alg_not_allowed' })
    // An RSA key that names none cannot serve two algorithms.
    expect(faultOf(rsa(2048))).toBe('bad_key')
    expect(faultOf(rsa(2048), ['RS256', 'ES256'])).toBe('accepted as RS256')
    expect(faultOf({ ...rsa(2048), alg: 'PS256' })).toBe('accepted as PS256')
    expect(faultOf({ ...rsa(2048), alg: 'PS256' }, ['RS256'])).toBe('bad_key')
  })

  it('A16 refuses ECDSA signatures of zeros, of the group order, and of another length', () => {
    const key = importVerifyKey(ec.jwk, ALL)
    if (!key.ok) throw new Error(key.fault)
    const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
    const zero = Buffer.alloc(32)
    const one = Buffer.concat([Buffer.alloc(31), Buffer.from([1])])
    for (const r of [zero, one, order])
      for (const s of [zero, one, order]) expect(verifySignature(key.value, 'a.b', Buffer.concat([r, s]))).toBe(false)
    for (const length of [0, 1, 63, 65, 70, 128])
      expect(verifySignature(key.value, 'a.b', new Uint8Array(length))).toBe(false)
  })

  it('A16 refuses every Ed25519 key of small order, also in its other spellings', () => {
    const points = [
      '0000000000000000000000000000000000000000000000000000000000000000',
      '0100000000000000000000000000000000000000000000000000000000000000',
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
      'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    ]
    for (const point of points)
      for (const sign of [0, 0x80]) {
        const bytes = Buffer.from(point, 'hex')
        bytes[31]! |= sign
        expect(faultOf({ kty: 'OKP', crv: 'Ed25519', x: b64(bytes) }), point).toBe('bad_key')
      }
  })

  it('A17 refuses Ed25519 keys that are no point of the curve, and takes honest ones', () => {
    for (let index = 0; index < 20; index++) {
      const { x } = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
      expect(faultOf({ kty: 'OKP', crv: 'Ed25519', x })).toBe('accepted as EdDSA')
    }
    // y = 2 and y = 7 have no x.
    for (const y of [2, 7]) {
      const bytes = Buffer.alloc(32)
      bytes[0] = y
      expect(faultOf({ kty: 'OKP', crv: 'Ed25519', x: b64(bytes) })).toBe('bad_key')
    }
    expect(faultOf({ kty: 'OKP', crv: 'Ed25519', x: b64(Buffer.alloc(31, 9)) })).toBe('bad_key')
    expect(faultOf({ kty: 'OKP', crv: 'X25519', x: b64(Buffer.alloc(32, 9)) })).toBe('bad_key')
  })

  it('A17 refuses a P-384 key for ES256, short RSA, points off the curve and coordinates of another length', () => {
    const p384 = makeSigner('P-384').jwk
    expect(faultOf(p384, ['ES256'])).toBe('bad_key')
    expect(faultOf({ ...p384, alg: 'ES256' })).toBe('bad_key')
    expect(faultOf({ ...p384, crv: 'P-256' })).toBe('bad_key')
    expect(faultOf(p384)).toBe('accepted as ES384')
    expect(faultOf(makeSigner('P-521').jwk)).toBe('bad_key')
    expect(faultOf(makeSigner('secp256k1').jwk)).toBe('bad_key')
    expect(faultOf({ ...rsa(512), alg: 'RS256' })).toBe('bad_key')
    expect(faultOf({ ...rsa(1024), alg: 'RS256' })).toBe('bad_key')
    expect(faultOf({ ...rsa(2048, 3), alg: 'RS256' })).toBe('bad_key')
    const flipped = Buffer.from(ec.jwk.y!, 'base64url')
    flipped[31]! ^= 1
    expect(faultOf({ ...ec.jwk, y: b64(flipped) })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, x: b64(Buffer.alloc(32)), y: b64(Buffer.alloc(32)) })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, x: b64(Buffer.concat([Buffer.alloc(1), Buffer.from(ec.jwk.x!, 'base64url')])) })).toBe(
      'bad_key',
    )
    expect(faultOf({ ...ec.jwk, x: `${ec.jwk.x}=` })).toBe('bad_key')
  })

  it('B8 refuses keys that are secret, and keys for something else', () => {
    expect(faultOf({ kty: 'oct', k: 'AAAA' })).toBe('bad_key')
    for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'])
      expect(faultOf({ ...ec.jwk, [member]: 'AAAA' })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, use: 'enc' })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, key_ops: ['sign'] })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, key_ops: 'verify' })).toBe('bad_key')
    expect(faultOf({ ...ec.jwk, use: 'sig', key_ops: ['verify'], kid: 'k1', iat: NOW })).toBe('accepted as ES256')
    for (const nothing of [null, undefined, 'x', [], {}, { kty: 'EC' }, { kty: 'EC', crv: 'P-256', x: 1, y: 2 }])
      expect(faultOf(nothing)).toBe('bad_key')
  })

  it('makes the thumbprint of RFC 7638 §3.1', () => {
    const jwk = {
      kty: 'RSA',
      n: '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw',
      e: 'AQAB',
      alg: 'RS256',
      kid: '2011-04-29',
    }
    expect(jwkThumbprint(jwk)).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs')
    expect(() => jwkThumbprint({ kty: 'oct', k: 'AAAA' })).toThrow(TypeError)
  })
})
