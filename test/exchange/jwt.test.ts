/** Groups A and B at `POST /token`: what is no honest JWT is refused by name in every slot, and leaves no trace. */
import { createHmac, createPublicKey } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type Answer, DEV_ISSUER, type House, ISSUER, type KeyPair, newKeyPair, openHouse, signJws } from '../house.ts'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'

const SLOTS = ['subject_token', 'actor_token', 'client_assertion'] as const
type Slot = (typeof SLOTS)[number]
type Agent = Awaited<ReturnType<House['agent']>>

/** The honest token of a slot in parts, for a case to spoil. */
interface Parts {
  readonly header: Record<string, unknown>
  readonly claims: Record<string, unknown>
  readonly key: KeyPair
}
type Spoil = (parts: Parts) => string

const b64 = (value: string | Uint8Array) => Buffer.from(value).toString('base64url')
const signed = ({ header, key }: Parts, payload: object | string) => signJws(header, payload, key.privateKey)
const withHeader =
  (header: object): Spoil =>
  (parts) =>
    signed({ ...parts, header: { ...parts.header, ...header } }, parts.claims)
const withClaims =
  (claims: object): Spoil =>
  (parts) =>
    signed(parts, { ...parts.claims, ...claims })
/** Payload as text, for what no object can hold: `sub` is replaced by the text given. */
const withText =
  (change: (json: string, parts: Parts) => string): Spoil =>
  (parts) =>
    signed(parts, change(JSON.stringify(parts.claims), parts))
const respelt =
  (change: (token: string) => string): Spoil =>
  (parts) =>
    change(signed(parts, parts.claims))
const inPart = (index: number, change: (part: string) => string): Spoil =>
  respelt((token) =>
    token
      .split('.')
      .map((part, at) => (at === index ? change(part) : part))
      .join('.'),
  )

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** Sets a bit of the last character that no byte holds. */
const unusedBit = (part: string): string => part.slice(0, -1) + ALPHABET[ALPHABET.indexOf(part.at(-1)!) | 1]!
/** A part whose length leaves unused bits, by a member of fitting length in front. */
const loose = (json: string): string => {
  for (let pad = ''; ; pad += 'x') {
    const text = json.replace('{', `{"pad":"${pad}",`)
    if (text.length % 3 !== 0) return text
  }
}
const hmac = (secret: string | Buffer): Spoil => {
  return ({ header, claims }) => {
    const input = `${b64(JSON.stringify({ ...header, alg: 'HS256' }))}.${b64(JSON.stringify(claims))}`
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
  }
}
const pemOf = ({ key }: Parts) => createPublicKey({ key: key.publicJwk as never, format: 'jwk' })

interface Case {
  readonly title: string
  readonly reason: string
  readonly spoil: Spoil
  readonly status?: number
  readonly error?: string
}

const unsigned =
  (header: object): Spoil =>
  (parts) =>
    `${b64(JSON.stringify({ ...parts.header, ...header }))}.${b64(JSON.stringify(parts.claims))}.`

const cases: readonly Case[] = [
  ...['none', 'None', 'noNE', '', undefined, ['ES256'], 'es256', 'ES256K'].map(
    (alg): Case => ({
      title: `A1 alg ${JSON.stringify(alg) ?? 'absent'}`,
      reason: 'alg_not_allowed',
      spoil: withHeader({ alg }),
    }),
  ),
  { title: 'A1 alg none without a signature', reason: 'alg_not_allowed', spoil: unsigned({ alg: 'none' }) },
  {
    title: 'A2 HS256 keyed with our public key as PEM',
    reason: 'alg_not_allowed',
    spoil: (parts) => hmac(pemOf(parts).export({ type: 'spki', format: 'pem' }))(parts),
  },
  {
    title: 'A2 HS256 keyed with our public key as DER',
    reason: 'alg_not_allowed',
    spoil: (parts) => hmac(pemOf(parts).export({ type: 'spki', format: 'der' }))(parts),
  },
  {
    title: 'A2 HS256 keyed with our public key as JWK text',
    reason: 'alg_not_allowed',
    spoil: (parts) => hmac(JSON.stringify(parts.key.publicJwk))(parts),
  },
  ...[0, 1, 2].flatMap((part): Case[] => [
    ...['=', ' ', '\r', '\n', '+', '/'].map((character) => ({
      title: `A4 ${JSON.stringify(character)} at the end of part ${part}`,
      reason: 'noncanonical_encoding',
      spoil: inPart(part, (text) => text + character),
    })),
    {
      title: `A4 ${JSON.stringify('+')} inside part ${part}`,
      reason: 'noncanonical_encoding',
      spoil: inPart(part, (text) => `${text.slice(0, 4)}+${text.slice(5)}`),
    },
  ]),
  { title: 'A4 unused bits of the signature', reason: 'noncanonical_encoding', spoil: inPart(2, unusedBit) },
  {
    title: 'A4 unused bits of the payload',
    reason: 'noncanonical_encoding',
    spoil: (parts) => {
      const [header, , signature] = signed(parts, loose(JSON.stringify(parts.claims))).split('.')
      return [header, unusedBit(b64(loose(JSON.stringify(parts.claims)))), signature].join('.')
    },
  },
  {
    title: 'A5 flattened JSON serialisation',
    reason: 'jws_not_compact',
    spoil: respelt((token) => {
      const [header, payload, signature] = token.split('.')
      return JSON.stringify({ protected: header, payload, signature })
    }),
  },
  {
    title: 'A5 general JSON serialisation',
    reason: 'jws_not_compact',
    spoil: respelt((token) => {
      const [header, payload, signature] = token.split('.')
      return JSON.stringify({ payload, signatures: [{ protected: header, signature }] })
    }),
  },
  {
    title: 'A6 A15 five parts, with PBES2 and p2c 2147483647 in the header',
    reason: 'jwe_not_accepted',
    spoil: ({ header }) =>
      [
        JSON.stringify({ ...header, alg: 'PBES2-HS256+A128KW', enc: 'A256GCM', p2c: 2147483647, p2s: 'c2FsdA' }),
        'k',
        'i',
        'c',
        't',
      ]
        .map(b64)
        .join('.'),
  },
  {
    title: 'A15 zip in the header of a JWS',
    reason: 'jwe_not_accepted',
    spoil: withHeader({ zip: 'DEF' }),
  },
  {
    title: 'A7 sub twice',
    reason: 'duplicate_member',
    spoil: withText((json) => json.replace('{', '{"sub":"mallory",')),
  },
  {
    title: 'A7 exp twice, once escaped',
    reason: 'duplicate_member',
    spoil: withText((json) => json.replace('{', '{"e\\u0078p":9999999999,')),
  },
  {
    title: 'A7 act.sub twice',
    reason: 'duplicate_member',
    spoil: withText((json) => json.replace('{', '{"act":{"sub":"a","sub":"b"},')),
  },
  {
    title: 'A7 alg twice',
    reason: 'duplicate_member',
    spoil: (parts) => {
      const header = JSON.stringify({ ...parts.header, alg: 'ES256' }).replace('{', '{"alg":"none",')
      return `${b64(header)}.${b64(JSON.stringify(parts.claims))}.${b64(new Uint8Array(64))}`
    },
  },
  ...[undefined, '"300"', '-1', '9007199254740993', 'true', '[1999999999]', '1e10', '1999999999.5', 'null'].map(
    (exp): Case => ({
      title: `A8 exp ${exp ?? 'absent'}`,
      reason: 'bad_numeric_date',
      spoil: withText((json) => json.replace(/"exp":\d+/, exp === undefined ? '"nothing":0' : `"exp":${exp}`)),
    }),
  ),
  ...['iat', 'nbf'].map(
    (name): Case => ({
      title: `A9 ${name} 31 s ahead`,
      reason: 'not_yet_valid',
      spoil: (parts) =>
        signed(parts, {
          ...parts.claims,
          [name]: (parts.claims['iat'] as number) + 31,
          exp: (parts.claims['iat'] as number) + 90,
        }),
    }),
  ),
  ...['__proto__', 'constructor', 'toString'].flatMap((name): Case[] => [
    {
      title: `A10 claim ${name}`,
      reason: 'unknown_claim',
      spoil: withText((json) => json.replace('{', `{"${name}":{"admin":true},`)),
    },
    {
      title: `A10 header member ${name}`,
      reason: 'unknown_claim',
      spoil: (parts) =>
        `${b64(JSON.stringify({ ...parts.header, alg: 'ES256' }).replace('{', `{"${name}":{"alg":"none"},`))}.${b64(JSON.stringify(parts.claims))}.${b64(new Uint8Array(64))}`,
    },
  ]),
  ...(
    [
      ['an object', '{"a":1}'],
      ['the empty text', '""'],
      ['256 characters', JSON.stringify('a'.repeat(256))],
      ['with NUL', '"ali\\u0000ce"'],
      ['a lone surrogate', '"ali\\ud800ce"'],
      ['with a directional override', '"ali\\u202ece"'],
      ['with a space at its end', '"alice "'],
      ['a number', '7'],
      ['absent', undefined],
    ] as const
  ).map(
    ([what, text]): Case => ({
      title: `A11 sub ${what}`,
      reason: 'bad_subject',
      spoil: withText((json) => json.replace(/"sub":"[^"]*"/, text === undefined ? '"nothing":0' : `"sub":${text}`)),
    }),
  ),
  ...[{ crit: ['b64'], b64: false }, { crit: [] }, { crit: ['alg'] }, { crit: ['unknown'] }, { b64: false }].map(
    (header): Case => ({
      title: `A12 ${JSON.stringify(header)}`,
      reason: 'crit_unsupported',
      spoil: withHeader(header),
    }),
  ),
  {
    title: 'A13 16,385 bytes',
    reason: 'token_too_large',
    status: 413,
    error: 'invalid_request',
    spoil: respelt((token) => token.padEnd(16_385, 'A')),
  },
  {
    title: 'A14 a byte order mark',
    reason: 'bad_utf8',
    spoil: withText((json) => `\ufeff${json}`),
  },
  {
    title: 'A14 UTF-16',
    reason: 'bad_utf8',
    spoil: (parts) => {
      const [header] = signed(parts, parts.claims).split('.')
      const utf16 = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(JSON.stringify(parts.claims), 'utf16le')])
      return `${header}.${b64(utf16)}.${b64(new Uint8Array(64))}`
    },
  },
  {
    title: 'A16 r and s of zero',
    reason: 'bad_signature',
    spoil: inPart(2, () => b64(new Uint8Array(64))),
  },
  {
    title: 'A16 signed by another key under the same kid',
    reason: 'bad_signature',
    spoil: (parts) => signed({ ...parts, key: newKeyPair() }, parts.claims),
  },
  ...['../../x', "' OR 1", 'a\u0000b', '__proto__', 'k'.repeat(10_000), ['kid'], '', 7].map(
    (kid): Case => ({
      title: `B1 kid ${JSON.stringify(kid).slice(0, 20)}`,
      reason: 'unknown_kid',
      spoil: withHeader({ kid }),
    }),
  ),
  {
    title: 'B7 iss of somebody else',
    reason: 'untrusted_issuer',
    spoil: withClaims({ iss: 'https://idp.example.evil.com' }),
  },
]

const ANSWERS: Record<Slot, { status: number; error: string }> = {
  subject_token: { status: 400, error: 'invalid_request' },
  actor_token: { status: 400, error: 'invalid_request' },
  client_assertion: { status: 401, error: 'invalid_client' },
}

describe('a token that is not what it should be', () => {
  let house: House
  let research: Agent
  beforeAll(async () => {
    house = await openHouse()
    research = await house.agent('research')
  })
  afterAll(() => house.close())

  const partsOf = (slot: Slot): Parts => {
    const text = slot === 'subject_token' ? house.userToken('alice') : research.assertion()
    const [header = '', payload = ''] = text.split('.').map((part) => Buffer.from(part, 'base64url').toString())
    const key = slot === 'subject_token' ? house.userKey : research.key
    return { header: JSON.parse(header), claims: JSON.parse(payload), key }
  }

  const honestToken = (slot: Slot): string => signed(partsOf(slot), partsOf(slot).claims)

  const send = (slot: Slot, token: string): Promise<Answer> => {
    const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
    switch (slot) {
      case 'subject_token':
        return research.exchange({ form: { ...form, subject_token: token } })
      case 'client_assertion':
        return research.exchange({ form: { ...form, client_assertion: token } })
      case 'actor_token':
        return research.exchange({
          form: {
            ...form,
            client_assertion: undefined,
            client_assertion_type: undefined,
            actor_token: token,
            actor_token_type: TOKEN_TYPE.jwt,
          },
        })
    }
  }

  for (const each of cases) {
    it(`${each.title} is refused as subject token`, async () => {
      await refusedWithoutTrace(
        house,
        () => send('subject_token', each.spoil(partsOf('subject_token'))),
        { status: 400, error: 'invalid_request', ...each },
        () => send('subject_token', honestToken('subject_token')),
      )
      expect(({} as Record<string, unknown>)['admin']).toBeUndefined()
    })
  }

  // Strangers are folded by second: the cases of one id are one test.
  const ids = [...new Set(cases.map(({ title }) => title.split(' ', 1)[0]!))]
  for (const slot of ['actor_token', 'client_assertion'] as const) {
    for (const id of ids) {
      const ofId = cases.filter(({ title }) => title.startsWith(`${id} `))
      it(`${id} each of ${ofId.length} cases is refused as ${slot}`, async () => {
        await strangersWithoutTrace(
          house,
          ofId.map((each) => ({
            ...ANSWERS[slot],
            ...each,
            send: () => send(slot, each.spoil(partsOf(slot))),
          })),
          () => send(slot, honestToken(slot)),
        )
        expect(({} as Record<string, unknown>)['admin']).toBeUndefined()
      })
    }
  }

  for (const slot of SLOTS) {
    it(`A9 iat 29 s ahead is accepted as ${slot}`, async () => {
      const parts = partsOf(slot)
      const ahead = { ...parts.claims, iat: house.now() + 29, nbf: house.now() + 29, exp: house.now() + 80 }
      const answer = await send(slot, signed(parts, ahead))
      expect(answer.status, answer.text).toBe(200)
    })
  }

  it.each(['jku', 'x5u', 'x5c', 'jwk'])('B2 %s in the header is refused, and nobody is called', async (name) => {
    let called = 0
    const canary = createServer((_request, response) => {
      called += 1
      response.end('{}')
    })
    await new Promise<void>((resolve) => canary.listen(0, '127.0.0.1', resolve))
    const { port } = canary.address() as { port: number }
    const url = `http://127.0.0.1:${port}/jwks.json`
    const value = { jku: url, x5u: url, x5c: ['AAAA'], jwk: newKeyPair().publicJwk }[name]
    const spoilt = (slot: Slot) => withHeader({ [name]: value })(partsOf(slot))
    await refusedWithoutTrace(
      house,
      () => send('subject_token', spoilt('subject_token')),
      { ...ANSWERS.subject_token, reason: 'header_forbidden' },
      () => send('subject_token', honestToken('subject_token')),
    )
    await strangersWithoutTrace(
      house,
      (['actor_token', 'client_assertion'] as const).map((slot) => ({
        ...ANSWERS[slot],
        title: slot,
        reason: 'header_forbidden',
        send: () => send(slot, spoilt(slot)),
      })),
      () => send('subject_token', honestToken('subject_token')),
    )
    canary.close()
    expect(called).toBe(0)
  })

  it.each([
    `${DEV_ISSUER}/`,
    DEV_ISSUER.replace('http', 'HTTP'),
    DEV_ISSUER.replace(':4460', ':04460'),
    DEV_ISSUER.replace('127.0.0.1', '127.0.0.1.evil.com'),
    DEV_ISSUER.replace('//', '//user@'),
    DEV_ISSUER.replace('dev-issuer', 'dev\uff0eissuer'),
    `${DEV_ISSUER}?x=1`,
    `${ISSUER}/`,
    ['http://127.0.0.1:4460/dev-issuer'],
    undefined,
  ])('B7 iss %s is nobody we trust', async (iss) => {
    await refusedWithoutTrace(
      house,
      () => send('subject_token', house.userToken('alice', { iss })),
      { status: 400, error: 'invalid_request', reason: 'untrusted_issuer' },
      () => send('subject_token', house.userToken('alice')),
    )
  })

  it('B4 a token under a kid that is prepared, retired or compromised is refused, whoever signed it', async () => {
    const mine = await research.exchange({ form: { audience: 'tickets' } })
    const claims = JSON.parse(
      Buffer.from((mine.body['access_token'] as unknown as string).split('.')[1]!, 'base64url').toString(),
    )
    const own = (kid: string) =>
      research.from(signJws({ typ: 'at+jwt', kid }, claims, newKeyPair().privateKey), { audience: 'tickets' })
    const rotated = await house.admin('POST', '/keys/rotate', {})
    expect(rotated.body['state'], rotated.text).toBe('prepared')
    const prepared = rotated.body['kid'] as unknown as string
    const answer = await own(prepared)
    expect([answer.status, answer.body['reason']]).toEqual([400, 'key_state'])
    expect((await own('nobody')).body['reason']).toBe('unknown_kid')

    const compromised = await house.admin('POST', '/keys/compromise', { kid: prepared, reason: 'seen elsewhere' })
    expect(compromised.status, compromised.text).toBe(200)
    expect((await own(prepared)).body['reason']).toBe('key_state')
    expect((await send('subject_token', house.userToken('alice'))).status).toBe(200)
  })

  it('B6 two issuers publish one kid: each key counts for its own issuer alone', async () => {
    const other = newKeyPair()
    const kid = house.userKey.kid!
    await mkdir(join(house.folder, 'keys/users'), { recursive: true })
    await writeFile(
      join(house.folder, 'keys/users/other.jwks.json'),
      JSON.stringify({ keys: [{ ...other.publicJwk, kid, alg: 'ES256', use: 'sig' }] }),
    )
    const dev = await readFile(house.config('issuers/dev.yaml'), 'utf8')
    await writeFile(
      house.config('issuers/other.yaml'),
      dev
        .replace('name: dev', 'name: other')
        .replace(/^issuer: .*$/m, 'issuer: https://login.other.example')
        .replace('users/dev-issuer.jwks.json', 'users/other.jwks.json')
        .replace('development: true\n', '')
        .replace(/\ndevelopment_users:[\s\S]*?\n\n/, '\n'),
    )
    expect(await house.service.reload()).toBe(true)
    const claims = { iss: 'https://login.other.example' }
    const ofOther = (key: KeyPair) => {
      const { header, claims: base } = partsOf('subject_token')
      return signJws(header, { ...base, ...claims }, key.privateKey)
    }
    for (const forged of [
      ofOther(house.userKey),
      signed({ ...partsOf('subject_token'), key: other }, partsOf('subject_token').claims),
    ]) {
      await refusedWithoutTrace(
        house,
        () => send('subject_token', forged),
        { status: 400, error: 'invalid_request', reason: 'bad_signature' },
        () => send('subject_token', ofOther(other)),
      )
    }
    const answer = await send('subject_token', ofOther(other))
    expect(
      JSON.parse(Buffer.from((answer.body['access_token'] as unknown as string).split('.')[1]!, 'base64url').toString())
        .sub,
    ).toBe('other|alice')
  })

  it.each([
    ['Basic', { authorization: 'Basic eyJhbGciOiJub25lIn0.e30.' }],
    ['a tab after the scheme', { authorization: 'ClientAssertion\teyJhbGciOiJub25lIn0.e30.' }],
    ['two headers', { authorization: 'ClientAssertion a.b.c, ClientAssertion d.e.f' }],
  ])('A18 %s is no authentication at our own endpoints', async (_, headers) => {
    await refusedWithoutTrace(
      house,
      () => house.fetch('GET', '/tasks', { headers }),
      { status: 401, error: 'invalid_token', reason: 'bad_auth_scheme', stranger: true },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })

  it('A18 a token in the query is no authentication', async () => {
    await refusedWithoutTrace(
      house,
      () =>
        house.fetch('GET', `/tasks/task_AAAAAAAAAAAAAAAAAAAAAA?access_token=${research.assertion()}`, {
          headers: { authorization: `ClientAssertion ${research.assertion()}` },
        }),
      { status: 401, error: 'invalid_token', reason: 'bad_auth_scheme', stranger: true },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })

  it.each([
    ['P-384', { kty: 'EC', crv: 'P-384', x: 'AAAA', y: 'AAAA' }],
    ['off the curve', { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) }],
  ])('A17 a DPoP proof with a key %s is refused', async (_, jwk) => {
    await refusedWithoutTrace(
      house,
      () => research.exchange({ form: { audience: 'tickets' }, proof: { header: { jwk } } }),
      { status: 400, error: 'invalid_dpop_proof', reason: 'bad_key', stranger: true },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })

  it.each(['__proto__', 'constructor', 'toString', 'task_', 'task_../../x', 'x'.repeat(200)])(
    'A10 task_id %s is the id of no task',
    async (taskId) => {
      await refusedWithoutTrace(
        house,
        () => research.exchange({ form: { audience: 'tickets', task_id: taskId } }),
        { status: 400, error: 'invalid_request', reason: 'unknown_claim' },
        () => research.exchange({ form: { audience: 'tickets' } }),
      )
    },
  )

  it.each(['__proto__', 'constructor', 'toString'])('A10 scope %s is no scope', async (scope) => {
    await refusedWithoutTrace(
      house,
      () => research.exchange({ form: { audience: 'tickets', scope } }),
      { status: 400, error: 'invalid_scope', reason: 'bad_scope' },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })
})
