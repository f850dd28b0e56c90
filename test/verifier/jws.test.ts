import { checkHeader, type HeaderRule, MAX_TOKEN_BYTES, parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey, type VerifyKey } from '@errand/verifier/signature.ts'
import { ACCESS_TOKEN_HEADER } from '@errand/verifier/token-check.ts'
import fc from 'fast-check'
import { compactVerify, importJWK } from 'jose'
import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { b64, jwtOf, makeSigner, sampleClaims, signSample } from './sample-token.ts'

const signer = makeSigner()
const token = signSample(signer)
const [headerPart, payloadPart, signaturePart] = token.split('.') as [string, string, string]

const keyOf = (jwk: object, algs: readonly string[] = ['ES256']): VerifyKey => {
  const key = importVerifyKey(jwk, { algs })
  if (!key.ok) throw new Error(key.fault)
  return key.value
}

/** The whole line up to the claims: the fault, or 'accepted'. */
function verdict(text: unknown, rule: HeaderRule = ACCESS_TOKEN_HEADER): string {
  const parsed = parseJws(text)
  if (!parsed.ok) return parsed.fault
  const header = checkHeader(parsed.value.header, rule)
  if (!header.ok) return header.fault
  const signed = checkSignature(parsed.value, keyOf(signer.jwk))
  return signed.ok ? 'accepted' : signed.fault
}
const headerVerdict = (header: object, rule: HeaderRule = ACCESS_TOKEN_HEADER): string => {
  const checked = checkHeader(header as Parameters<typeof checkHeader>[0], rule)
  return checked.ok ? 'accepted' : checked.fault
}
const header = { typ: 'at+jwt', alg: 'ES256', kid: 'k1' }

describe('a JWS as text', () => {
  it('takes the honest token', () => {
    expect(verdict(token)).toBe('accepted')
  })

  it.each([
    'none',
    'None',
    'noNE',
    '',
    undefined,
    null,
    ['ES256'],
    'es256',
    'ES256 ',
    'HS256',
    'RS256',
    'ES384',
    'EdDSA',
  ])('A1 refuses alg %j, signed or not', (alg) => {
    expect(verdict(jwtOf({ ...header, alg }, sampleClaims, ''))).toBe('alg_not_allowed')
    expect(verdict(jwtOf({ ...header, alg }, sampleClaims, signaturePart))).toBe('alg_not_allowed')
  })

  it('A2 refuses HS256 made with our public key as its secret, in whatever form', () => {
    const key = keyOf(signer.jwk).key!
    const secrets = [
      key.export({ type: 'spki', format: 'pem' }),
      key.export({ type: 'spki', format: 'der' }),
      JSON.stringify(signer.jwk),
    ]
    for (const secret of secrets) {
      const input = `${b64(JSON.stringify({ ...header, alg: 'HS256' }))}.${payloadPart}`
      const forged = `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
      expect(verdict(forged)).toBe('alg_not_allowed')
      // Also where a careless slot allows HS256: the key has one algorithm, whether or not it names it.
      expect(verdict(forged, { ...ACCESS_TOKEN_HEADER, algs: ['ES256', 'HS256'] })).toBe('alg_not_allowed')
    }
  })

  it('A4 refuses every other spelling of every part', () => {
    for (const spoil of [
      (part: string) => `${part}=`,
      (part: string) => `${part} `,
      (part: string) => ` ${part}`,
      (part: string) => `${part}\r`,
      (part: string) => `${part}\n`,
      (part: string) => `${part.slice(0, 3)}+${part.slice(4)}`,
      (part: string) => `${part.slice(0, 3)}/${part.slice(4)}`,
    ]) {
      expect(verdict(`${spoil(headerPart)}.${payloadPart}.${signaturePart}`)).toBe('noncanonical_encoding')
      expect(verdict(`${headerPart}.${spoil(payloadPart)}.${signaturePart}`)).toBe('noncanonical_encoding')
      expect(verdict(`${headerPart}.${payloadPart}.${spoil(signaturePart)}`)).toBe('noncanonical_encoding')
    }
    // 64 bytes end in four unused bits.
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const last = alphabet.indexOf(signaturePart.at(-1)!)
    const twin = `${headerPart}.${payloadPart}.${signaturePart.slice(0, -1)}${alphabet[last + 1]}`
    expect(Buffer.from(twin.split('.')[2]!, 'base64url')).toEqual(Buffer.from(signaturePart, 'base64url'))
    expect(verdict(twin)).toBe('noncanonical_encoding')
  })

  it('A4 no single changed character of a token passes', () => {
    fc.assert(
      fc.property(
        fc.nat(token.length - 1),
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }),
        (at, other) => {
          fc.pre(token[at] !== other)
          expect(verdict(token.slice(0, at) + other + token.slice(at + 1))).not.toBe('accepted')
        },
      ),
      { numRuns: 500 },
    )
  })

  it('A5 refuses the JSON serialisations', () => {
    const flattened = { payload: payloadPart, protected: headerPart, signature: signaturePart }
    const general = { payload: payloadPart, signatures: [{ protected: headerPart, signature: signaturePart }] }
    for (const json of [flattened, general]) {
      expect(verdict(JSON.stringify(json))).toBe('jws_not_compact')
      expect(verdict(` \n${JSON.stringify(json, null, 2)}`)).toBe('jws_not_compact')
    }
  })

  it('A6 A15 refuses a JWE by its form, before anything of it is decoded', () => {
    expect(verdict(jwtOf({ alg: 'ECDH-ES', enc: 'A256GCM' }, '', 'a.b.c'))).toBe('jwe_not_accepted')
    const bomb = b64(JSON.stringify({ alg: 'PBES2-HS256+A128KW', enc: 'A128GCM', p2c: 2 ** 31 - 1, zip: 'DEF' }))
    expect(verdict(`${bomb}.x.y.z.w`)).toBe('jwe_not_accepted')
    expect(headerVerdict({ ...header, zip: 'DEF' })).toBe('jwe_not_accepted')
    expect(headerVerdict({ ...header, enc: 'A128GCM' })).toBe('jwe_not_accepted')
  })

  it('A7 A10 A14 reads header and payload by the strict reader', () => {
    expect(verdict(jwtOf('{"alg":"ES256","alg":"none","typ":"at+jwt","kid":"k1"}', {}))).toBe('duplicate_member')
    expect(verdict(jwtOf(header, '{"sub":"a","sub":"b"}'))).toBe('duplicate_member')
    expect(verdict(jwtOf('{"__proto__":{"alg":"ES256"},"typ":"at+jwt"}', {}))).toBe('unknown_claim')
    expect(verdict(jwtOf(header, '{"constructor":1}'))).toBe('unknown_claim')
    expect(verdict(jwtOf(header, Buffer.from('\ufeff{}')))).toBe('bad_utf8')
    expect(verdict(jwtOf(header, Buffer.from('\ufeff{}', 'utf16le')))).toBe('bad_utf8')
    for (const payload of ['[]', '"text"', '1', 'null', '']) expect(verdict(jwtOf(header, payload))).toBe('bad_json')
    expect(verdict(jwtOf('[]', {}))).toBe('bad_json')
    expect(verdict(`.${payloadPart}.${signaturePart}`)).toBe('bad_json')
  })

  it('A12 refuses every use of crit and b64', () => {
    for (const crit of [['exp'], [], ['alg'], ['b64'], 'exp', null, ['http://example.com/UNDEFINED']])
      expect(headerVerdict({ ...header, crit })).toBe('crit_unsupported')
    for (const b64 of [false, true]) expect(headerVerdict({ ...header, b64 })).toBe('crit_unsupported')
  })

  it('A13 refuses by length before it looks at anything', () => {
    expect(verdict('!'.repeat(MAX_TOKEN_BYTES + 1))).toBe('token_too_large')
    expect(verdict('!'.repeat(MAX_TOKEN_BYTES))).not.toBe('token_too_large')
    expect(verdict(jwtOf(header, { filler: 'x'.repeat(13_000) }))).toBe('token_too_large')
    expect(parseJws(`{${'.'.repeat(20_000)}`, { maxBytes: 100_000 })).toMatchObject({ fault: 'jws_not_compact' })
  })

  it('C6 says of what is no JWT at all that it is not a token', () => {
    const others = [
      '',
      'hvs.CAESIJ',
      's.1234',
      'hvb.AAAAAQJ',
      'apr_abc',
      '....',
      '.....',
      'a.b.c.d',
      'a.b',
      undefined,
      7,
      {},
      ['a.b.c'],
    ]
    for (const other of others) expect(verdict(other), String(other)).toMatch(/^(not_a_token|jwe_not_accepted)$/)
    for (const other of ['hvs.CAESIJ', 'apr_abc', 'a.b.c.d', '.....', undefined])
      expect(verdict(other)).toBe('not_a_token')
  })
})

describe('a JOSE header', () => {
  it.each(['../../x', "' OR 1", 'a\0', '__proto__ ', 'k'.repeat(10_240), ['k1'], 7, '', null])(
    'B1 refuses kid %j as unknown without a look-up',
    (kid) => {
      const expected = kid === '../../x' ? 'accepted' : 'unknown_kid'
      expect(headerVerdict({ ...header, kid })).toBe(expected)
    },
  )

  it('B1 a missing kid is unknown where it is required, and no kid may stand where the slot has none', () => {
    const { kid: _, ...without } = header
    expect(headerVerdict(without)).toBe('unknown_kid')
    expect(headerVerdict(without, { ...ACCESS_TOKEN_HEADER, kid: 'optional' })).toBe('accepted')
    expect(headerVerdict(header, { ...ACCESS_TOKEN_HEADER, kid: 'forbidden' })).toBe('header_forbidden')
  })

  it.each(['jku', 'x5u', 'x5c', 'jwk'])('B2 refuses %s, whatever it holds', (name) => {
    for (const value of ['https://canary.example/', ['MII'], signer.jwk, null])
      expect(headerVerdict({ ...header, [name]: value })).toBe('header_forbidden')
  })

  it('C2 takes the prefix and any case, and nothing else that looks like the type', () => {
    for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/At+Jwt'])
      expect(headerVerdict({ ...header, typ })).toBe('accepted')
    const others = [
      'at+jwt;x=1',
      ['at+jwt'],
      undefined,
      null,
      '',
      'JWT',
      'at+jwt ',
      'text/at+jwt',
      'application/',
      'dpop+jwt',
    ]
    for (const typ of [...others, 'application/application/at+jwt', 'a\u212a+jwt', 'ａt+jwt'])
      expect(headerVerdict({ ...header, typ }), String(typ)).toBe('wrong_typ')
    expect(headerVerdict({ ...header, typ: '\u212a+jwt' }, { ...ACCESS_TOKEN_HEADER, typ: ['k+jwt'] })).toBe(
      'wrong_typ',
    )
  })

  it('C1 says of a token of another kind that it is one, whatever else its header holds', () => {
    expect(headerVerdict({ typ: 'dpop+jwt', alg: 'EdDSA', jwk: signer.jwk })).toBe('wrong_typ')
    expect(headerVerdict({ typ: 'secevent+jwt', alg: 'RS256', crit: ['x'] })).toBe('wrong_typ')
  })

  it('lets typ be absent only in a slot that says so', () => {
    const { typ: _, ...without } = header
    const rule: HeaderRule = { ...ACCESS_TOKEN_HEADER, typ: ['jwt'], typOptional: true }
    expect(headerVerdict(without, rule)).toBe('accepted')
    expect(headerVerdict({ ...without, typ: 'JWT' }, rule)).toBe('accepted')
    expect(headerVerdict(header, rule)).toBe('wrong_typ')
  })
})

describe('beside jose', () => {
  it('accepts nothing that jose refuses', async () => {
    const reference = await importJWK({ ...signer.jwk, alg: 'ES256' })
    const alphabet = [...'ABQgwxyz019-_.']
    const edits = fc.array(fc.tuple(fc.nat(token.length - 1), fc.constantFrom(...alphabet)), { maxLength: 2 })
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        let text = token
        for (const [at, other] of changes) text = text.slice(0, at) + other + text.slice(at + 1)
        const theirs = await compactVerify(text, reference, { algorithms: ['ES256'] }).then(
          () => true,
          () => false,
        )
        if (verdict(text) === 'accepted') expect(theirs).toBe(true)
        if (text === token) expect(theirs).toBe(true)
      }),
      { numRuns: 300 },
    )
  })
})
