import { REASONS } from '../../src/oauth/refusal.ts'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { checkTimes, readNumericDate, readSubjectText } from '@errand/verifier/claims-check.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import { checkAccessToken } from '@errand/verifier/token-check.ts'
import { describe, expect, it } from 'vitest'
import { AUDIENCE, ISSUER, jwtOf, makeSigner, NOW, sampleClaims, signSample } from './sample-token.ts'

const rule = { issuer: ISSUER, audience: AUDIENCE, now: NOW + 1, maxLifetimeSeconds: 300, dev: 'refuse' } as const

function verdictOf(token: string, changes: Partial<Parameters<typeof checkAccessToken>[1]> = {}): string {
  const parsed = parseJws(token)
  if (!parsed.ok) return parsed.fault
  const checked = checkAccessToken(parsed.value, { ...rule, ...changes })
  return checked.ok ? 'accepted' : checked.fault
}
const header = { typ: 'at+jwt', alg: 'ES256', kid: 'k1' }
const verdict = (changes: object, ruleChanges = {}) =>
  verdictOf(jwtOf(header, { ...sampleClaims, ...changes }), ruleChanges)

const actor = (depth: number): object =>
  depth === 1
    ? { sub: 'spiffe://company.example/a1' }
    : { sub: `spiffe://company.example/a${depth}`, act: actor(depth - 1) }
const hop = {
  jti: 'j1',
  task: 'task_a',
  aud: 'https://crm.example.com/',
  client_id: 'triage',
  kid: 'k1',
  pol: 'p0l1cy',
  rev: '0.3',
}
const chain = (actors: number, hops: number) => ({ act: actor(actors), hops: Array.from({ length: hops }, () => hop) })

describe('access token claims', () => {
  it('takes the sample, signed by ourselves, and hands out its claims', () => {
    const parsed = parseJws(signSample(makeSigner()))
    if (!parsed.ok) throw new Error(parsed.fault)
    expect(checkAccessToken(parsed.value, rule)).toEqual({ ok: true, value: sampleClaims })
  })

  it('A8 refuses every exp and iat that is no whole second', () => {
    for (const name of ['exp', 'iat'])
      for (const value of [undefined, '300', -1, true, [NOW], null, {}])
        expect(verdict({ [name]: value }), `${name} ${value}`).toBe('bad_numeric_date')
    expect(verdictOf(jwtOf(header, JSON.stringify(sampleClaims).replace(/"exp":\d+/, '"exp":9007199254740993')))).toBe(
      'bad_numeric_date',
    )
    expect(verdictOf(jwtOf(header, JSON.stringify(sampleClaims).replace(/"exp":\d+/, '"exp":1.5')))).toBe(
      'bad_numeric_date',
    )
    expect(readNumericDate(0)).toEqual({ ok: true, value: 0 })
    expect(readNumericDate(2 ** 53)).toMatchObject({ fault: 'bad_numeric_date' })
  })

  it('A9 takes iat 30 s ahead and refuses 31 s', () => {
    expect(verdict({ iat: NOW, exp: NOW + 300 }, { now: NOW - 29 })).toBe('accepted')
    expect(verdict({ iat: NOW, exp: NOW + 300 }, { now: NOW - 30 })).toBe('accepted')
    expect(verdict({ iat: NOW, exp: NOW + 300 }, { now: NOW - 31 })).toBe('not_yet_valid')
    const times = { exp: NOW + 60, iat: NOW, nbf: NOW + 31 }
    expect(checkTimes(times, { now: NOW, leeway: 30, maxLifetime: 300 })).toMatchObject({ fault: 'not_yet_valid' })
    expect(checkTimes({ ...times, nbf: NOW + 30 }, { now: NOW, leeway: 30, maxLifetime: 300 }).ok).toBe(true)
  })

  it('A8 gives exp no leeway and no life beyond the maximum', () => {
    expect(verdict({}, { now: NOW + 299 })).toBe('accepted')
    expect(verdict({}, { now: NOW + 300 })).toBe('expired')
    expect(verdict({ exp: NOW + 301 })).toBe('bad_numeric_date')
    expect(verdict({}, { maxLifetimeSeconds: 60 })).toBe('bad_numeric_date')
    expect(verdict({ exp: NOW + 10, iat: NOW + 10 })).toBe('bad_numeric_date')
  })

  it('E6 a token without a key lives 60 s at most', () => {
    expect(verdict({ cnf: undefined })).toBe('bad_numeric_date')
    expect(verdict({ cnf: undefined, exp: NOW + 60 })).toBe('accepted')
  })

  it('A10 refuses members that the contract does not have, wherever they stand', () => {
    expect(verdict({ admin: true })).toBe('unknown_claim')
    expect(verdict({ nbf: NOW })).toBe('unknown_claim')
    expect(verdict({ may_act: { sub: 'x' } })).toBe('unknown_claim')
    expect(verdict({ task: { ...sampleClaims.task, owner: 'x' } })).toBe('unknown_claim')
    expect(verdict({ att: { ...sampleClaims.att, model: 'x' } })).toBe('unknown_claim')
    expect(verdict({ cnf: { jkt: 'A'.repeat(43), jwk: {} } })).toBe('unknown_claim')
    expect(verdict({ act: { sub: 'spiffe://company.example/a', iss: 'x' } })).toBe('unknown_claim')
    expect(verdict({ ...chain(2, 0), hops: [{ ...hop, scope: 'x' }] })).toBe('unknown_claim')
    for (const name of ['__proto__', 'constructor', 'toString'])
      expect(verdictOf(jwtOf(header, `{"${name}":{},${JSON.stringify(sampleClaims).slice(1)}`))).toBe('unknown_claim')
  })

  it('takes a reference into a status list, and no other form of it', () => {
    const uri = 'https://errand.example.com/status-lists/1-1'
    const status = (list: object) => verdict({ status: { status_list: list } })
    expect(status({ idx: 0, uri })).toBe('accepted')
    for (const idx of [-1, '7', null, undefined]) expect(status({ idx, uri }), `${idx}`).toBe('bad_claim')
    for (const other of ['', ' ', 7, undefined]) expect(status({ idx: 0, uri: other })).toBe('bad_claim')
    expect(status({ idx: 0, uri, more: 1 })).toBe('unknown_claim')
    for (const other of [{}, [], 'x', { identifier_list: {} }]) expect(verdict({ status: other })).not.toBe('accepted')
  })

  it.each([
    ['an object', {}],
    ['empty', ''],
    ['321 characters long', 'x'.repeat(321)],
    ['NUL', 'corp|a\0'],
    ['a lone surrogate', 'corp|\ud800'],
    ['a directional override', 'corp|a\u202eb'],
    ['a zero-width space', 'corp|a\u200b'],
    ['a trailing space', 'corp|alice '],
    ['a trailing no-break space', 'corp|alice\u00a0'],
    ['a leading space', ' corp|alice'],
    ['a number', 7],
    ['absent', undefined],
  ])('A11 refuses a sub that is %s', (_, sub) => {
    expect(verdict({ sub })).toMatch(sub === undefined ? /^bad_claim$/ : /^bad_subject$/)
  })

  it('A11 takes subjects of 255 characters, spaces inside and other scripts', () => {
    for (const sub of ['x'.repeat(255), 'Alice Liddell', 'アリス', 'zoë@example.com', '😀'])
      expect(readSubjectText(sub)).toEqual({ ok: true, value: sub })
    for (const sub of ['x'.repeat(256), '\u2028', 'a\u0085', 'a\ue000', '\u200fb', '\ufeffa', 'a\u00adb'])
      expect(readSubjectText(sub)).toEqual({ ok: false, fault: 'bad_subject' })
  })

  it.each([
    ['aud a list', { aud: [AUDIENCE] }],
    ['no jti', { jti: undefined }],
    ['a jti of other characters', { jti: '../../x' }],
    ['client_id with a space', { client_id: 'a b' }],
    ['cnf empty', { cnf: {} }],
    ['cnf with both', { cnf: { jkt: 'A'.repeat(43), 'x5t#S256': 'A'.repeat(43) } }],
    ['cnf short', { cnf: { jkt: 'AAAA' } }],
    ['a task id of another kind', { task: { ...sampleClaims.task, id: 'rev_x' } }],
    ['depth 0', { task: { ...sampleClaims.task, depth: 0 } }],
    ['an unknown kind', { att: { kind: 'self', tier: 'key' } }],
    ['an unknown tier', { att: { kind: 'jwt_svid', tier: 'gold' } }],
    ['rev no epoch', { rev: '1' }],
    ['rev a number', { rev: 1 }],
    ['dev false', { dev: false }],
    ['act no object', { act: 'spiffe://company.example/a' }],
    ['an actor that is no SPIFFE id', { act: { sub: 'research' } }],
    ['hops empty', { hops: [] }],
    ['more hops than earlier actors', chain(1, 2)],
    ['scope wider than the details', { scope: 'tickets:delete tickets:read tickets:search' }],
    ['scope narrower than the details', { scope: 'tickets:read' }],
    [
      'details of an unknown keyword',
      { authorization_details: [{ ...sampleClaims.authorization_details[0], constraints: { pattern: '' } }] },
    ],
  ])('A10 refuses %s', (_, changes) => {
    expect(verdict(changes)).toBe('bad_claim')
  })

  it('D2 refuses a scope that is not in its own form', () => {
    expect(verdict({ scope: 'tickets:read  tickets:search' })).toBe('bad_scope')
  })

  it('D12 takes four actors and refuses a fifth, however it hides', () => {
    expect(verdict(chain(4, 3))).toBe('accepted')
    expect(verdict(chain(5, 4))).toBe('depth')
    expect(verdict({ act: actor(5) })).toBe('depth')
    // An autonomous chain: the first actor is the subject and stands in no act.
    const autonomous = { sub: 'spiffe://company.example/agents/triage' }
    expect(verdict({ ...chain(3, 3), ...autonomous })).toBe('accepted')
    expect(verdict({ ...chain(4, 4), ...autonomous })).toBe('depth')
    expect(verdict({ act: undefined, ...autonomous })).toBe('accepted')
    // Actors that a user issuer vouched for stand last and left no hop.
    expect(verdict(chain(3, 1))).toBe('accepted')
  })

  it('B7 C7 takes issuer and audience as exact strings only', () => {
    const issuers = [
      `${ISSUER}/`,
      ISSUER.toUpperCase(),
      `${ISSUER}:443`,
      'https://errand.example.com.evil.com',
      'https://u@errand.example.com',
    ]
    for (const iss of issuers) expect(verdict({ iss })).toBe('untrusted_issuer')
    for (const aud of ['https://tickets.example.com', `${AUDIENCE}x`, 'https://crm.example.com/'])
      expect(verdict({ aud })).toBe('wrong_audience')
    const { audience: _, ...any } = rule
    const parsed = parseJws(jwtOf(header, { ...sampleClaims, aud: 'https://crm.example.com/' }))
    expect(parsed.ok && checkAccessToken(parsed.value, any).ok).toBe(true)
  })

  it('U5 refuses what a development shortcut issued unless told otherwise', () => {
    expect(verdict({ dev: true })).toBe('bad_claim')
    expect(verdict({ dev: true }, { dev: 'accept' })).toBe('accepted')
  })

  it('C1 C2 refuses other kinds before it looks at their claims', () => {
    for (const typ of ['dpop+jwt', 'JWT', 'errand-handover+jwt', 'errand-frame+jwt', 'secevent+jwt', undefined])
      expect(verdictOf(jwtOf({ ...header, typ }, {}))).toBe('wrong_typ')
  })

  it('A13 a chain of four stays below 2 KB', () => {
    const claims: AccessTokenClaims = {
      ...sampleClaims,
      ...(chain(4, 3) as Pick<AccessTokenClaims, 'act' | 'hops'>),
    }
    expect(signEs256(makeSigner().privateKey, { typ: 'at+jwt', kid: 'k1' }, claims).length).toBeLessThan(2048)
  })
})

describe('fault names', () => {
  it('A1 every fault that the core names is a reason of the refusal table', async () => {
    const { readFile } = await import('node:fs/promises')
    const source = await readFile(new URL('../../sdk/verifier/src/checked.ts', import.meta.url), 'utf8')
    const faults = [...source.matchAll(/^ {2}\| '([a-z0-9_]+)'$/gm)].map((match) => match[1]!)
    expect(faults.length).toBeGreaterThan(20)
    for (const fault of faults) expect(REASONS).toContain(fault)
  })
})
