import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { readAccessTokenClaims } from '@errand/verifier/claims-check.ts'
import { createClaimsMemory } from '@errand/verifier/claims-text.ts'
import { parseStrictObject } from '@errand/verifier/strict-json.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { b64, sampleClaims } from './sample-token.ts'

/** What the strict reader and the checks say. */
function readWhole(text: string): AccessTokenClaims | undefined {
  const parsed = parseStrictObject(Buffer.from(text))
  const claims = parsed.ok ? readAccessTokenClaims(parsed.value) : undefined
  return claims?.ok ? claims.value : undefined
}

const thumbprint = 'A'.repeat(43)
const bound: AccessTokenClaims = { ...sampleClaims, cnf: { jkt: thumbprint } }
const { act: _, cnf: _cnf, ...alone } = bound
const constrained: AccessTokenClaims = {
  ...bound,
  authorization_details: [
    {
      ...bound.authorization_details[0]!,
      constraints: { type: 'object', properties: { '{"x]': { type: 'integer', maximum: 3 }, é: { enum: ['ü'] } } },
    },
  ],
}
const learned = [bound, alone as AccessTokenClaims]

function memory() {
  const made = createClaimsMemory()
  for (const claims of learned) made.learn(b64(JSON.stringify(claims)), claims)
  return made
}

describe('claims out of their text', () => {
  it('reads a token like those before, whatever is its own, and says whose it is', () => {
    const it = memory()
    const next = {
      ...bound,
      jti: 'another',
      sub: 'corp|bob',
      exp: bound.exp + 7,
      rev: '1.4',
      cnf: { jkt: 'B'.repeat(43) },
    }
    for (let time = 0; time < 2; time++) {
      const read = it.read(b64(JSON.stringify(next)))!
      expect(read.claims).toEqual(next)
      expect(read.chain).toEqual([bound.act!.sub])
      expect(read.scope).toEqual(bound.scope.split(' '))
      expect(read.fresh).toHaveLength(time === 0 ? 3 : 0)
      it.keep(read)
    }
    expect(it.read(b64(JSON.stringify(alone)))).toMatchObject({ claims: alone, chain: [alone.sub] })
  })

  it('hands out nothing that could be changed', () => {
    const { claims, chain, scope } = memory().read(b64(JSON.stringify(bound)))!
    const parts = [claims, claims.act, claims.task, claims.att, claims.cnf, claims.authorization_details]
    const details = claims.authorization_details.flatMap((detail) => [detail, detail.operations])
    for (const part of [...parts, ...details, chain, scope]) expect(Object.isFrozen(part)).toBe(true)
  })

  it('knows nothing before it was told, of what no frame says, and of bytes that are not ASCII', () => {
    expect(createClaimsMemory().read(b64(JSON.stringify(bound)))).toBeUndefined()
    const it = memory()
    for (const claims of [
      { ...bound, dev: true },
      { ...bound, sub: 'corp|zoë' },
      constrained,
      { ...bound, cnf: { 'x5t#S256': thumbprint } },
      { ...bound, hops: [] },
    ]) {
      it.learn(b64(JSON.stringify(claims)), claims as AccessTokenClaims)
      expect(it.read(b64(JSON.stringify(claims)))).toBeUndefined()
    }
  })

  it('learns an order only from a text that is nothing but it', () => {
    const it = createClaimsMemory()
    it.learn(b64(JSON.stringify(bound, null, 1)), bound)
    it.learn(b64(JSON.stringify(bound).replace('corp', '\\u0063orp')), bound)
    expect(it.read(b64(JSON.stringify(bound)))).toBeUndefined()
  })

  it('A4 A7 A8 A10 A14 never reads what the strict reader refuses, and never otherwise', () => {
    const texts = [...learned, constrained].map((claims) => JSON.stringify(claims))
    const scraps = fc.constantFrom(
      ...[
        '"',
        '\\',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        ' ',
        '\n',
        '\u0000',
        '0',
        '1',
        '-',
        '.',
        'e',
        'E3',
        '1e9',
        'é',
        '\ud800',
      ],
      ...['"a":1,', ',"exp":1', '"jti":"x",', '"sub":"y",', '__proto__', '"dev":true,', 'null', '"act":{},', '\\u0061'],
      ...['"depth":2', 'task_', '"cnf":{}', '],"', '"},"', 'spiffe://', 'tickets:read'],
    )
    const edit = fc.record({
      at: fc.nat(),
      cut: fc.constantFrom(0, 0, 0, 1, 1, 2, 5),
      scrap: fc.oneof(fc.constant(''), scraps),
    })
    let read = 0
    let refused = 0
    fc.assert(
      fc.property(fc.constantFrom(...texts), fc.array(edit, { maxLength: 3 }), (text, edits) => {
        for (const { at, cut, scrap } of edits) {
          const place = at % text.length
          text = text.slice(0, place) + scrap + text.slice(place + cut)
        }
        const it = memory()
        const whole = readWhole(text)
        for (let time = 0; time < 2; time++) {
          const found = it.read(b64(text))
          if (!found) continue
          expect(found.claims).toEqual(whole)
          it.keep(found)
          read++
        }
        if (!whole) refused++
      }),
      { numRuns: 20_000 },
    )
    expect(read).toBeGreaterThan(1000)
    expect(refused).toBeGreaterThan(1000)
  })

  it('A7 A8 A10 reads no member twice, no number spelt otherwise and no name but its own', () => {
    const it = memory()
    const text = JSON.stringify(bound)
    const good = it.read(b64(text))!
    it.keep(good)
    const { exp } = bound
    for (const [from, to] of [
      ['"jti"', '"jti":"x","jti"'],
      [`"exp":${exp}`, `"exp":${exp}.0`],
      [`"exp":${exp}`, `"exp":0${exp}`],
      [`"exp":${exp}`, '"exp":9007199254740993'],
      [`"exp":${exp}`, '"exp":'],
      ['"depth":1', '"depth":0'],
      ['"depth":1', '"depth":1e0'],
      ['"depth":1', '"depth":1,"depth":1'],
      ['"pol"', '"__proto__"'],
      ['{', ' {'],
      [thumbprint, 'A'.repeat(42)],
      [`"scope":"${bound.scope}"`, `"scope":"${bound.scope} tickets:zzz"`],
    ] as const) {
      expect(text).toContain(from)
      expect(it.read(b64(text.replace(from, to)))).toBeUndefined()
    }
    expect(it.read(b64(`${text} `))).toBeUndefined()
    expect(it.read(`${b64(text)}=`)).toBeUndefined()
    expect(it.read(b64(text))).toBeDefined()
  })
})
