/** The manifest as text, its signature, what differs between two, and how sure a release is. */
import { sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { changedSince, diffManifests, firstDifference } from '../../src/attest/release-difference.ts'
import { type Manifest, manifestText, namesComponent, readManifest, sha256 } from '../../src/attest/release-manifest.ts'
import { readSignedRelease } from '../../src/attest/release-signature.ts'
import { type Measuring, measure, readImageDigest, type Release } from '../../src/attest/release.ts'
import { idOf, imageOf, manifestOf, newSigner, READ_TICKET, SIGNED_AT, signRelease, toolOf } from '../releases.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const NOW = 1_800_000_000

describe('a manifest', () => {
  it('is read as exactly its canonical text, and has one id', () => {
    const manifest = manifestOf()
    const read = readManifest(manifestText(manifest))
    expect(read).toEqual({ ok: true, manifest, id: idOf(manifest) })
    expect(idOf(manifest)).toMatch(/^[A-Za-z0-9_-]{22}$/)
    expect(idOf(manifestOf({ model: 'anthropic/claude-opus-4-5' }))).not.toBe(idOf(manifest))
  })

  const good = manifestOf()
  const spoiled: readonly [string, string | Manifest, string][] = [
    ['spaces', ` ${manifestText(good)}`, 'it is not in canonical form (RFC 8785)'],
    [
      'members in another order',
      JSON.stringify(Object.fromEntries(Object.entries(good).reverse())),
      'it is not in canonical form (RFC 8785)',
    ],
    ['a repeated member', `{"v":1,${manifestText(good).slice(1)}`, 'it is not strict JSON (duplicate_member)'],
    ['no JSON', '{', 'it is not strict JSON (bad_json)'],
    ['a member of its own', { ...good, extra: 1 } as unknown as Manifest, 'it: Unrecognized key: "extra"'],
    ['another version of the form', { ...good, v: 2 } as unknown as Manifest, 'v: Invalid input: expected 1'],
    [
      'an image by tag',
      manifestOf({ image: 'research:latest' }),
      'image: not a digest: sha256: and 64 hexadecimal digits',
    ],
    [
      'a component twice',
      manifestOf({ components: ['pkg:npm/hono@4.11.4', 'pkg:npm/hono@4.11.4'] }),
      'components: pkg:npm/hono@4.11.4 stands twice',
    ],
    [
      'components out of order',
      manifestOf({ components: ['pkg:npm/zod@4.0.0', 'pkg:npm/hono@4.11.4'] }),
      'components: not in order at pkg:npm/hono@4.11.4',
    ],
    [
      'a component without a version',
      manifestOf({ components: ['pkg:npm/hono'] }),
      'components.0: not a package URL with a version',
    ],
    [
      'a tool twice',
      manifestOf({ tools: [toolOf(READ_TICKET), toolOf(READ_TICKET)] }),
      'tools: read_ticket stands twice',
    ],
    [
      'a tool whose digest is of something else',
      manifestOf({ tools: [{ ...toolOf(READ_TICKET), digest: imageOf('x') }] }),
      'tool read_ticket: its digest is not that of its schema',
    ],
    ['a name with a control', manifestOf({ model: 'gpt\u001b[2J' }), 'model: not one line of printable ASCII'],
    [
      'a tool definition that is too long',
      manifestOf({ tools: [toolOf({ name: 'x'.repeat(40_000) })] }),
      'tools.0.name: not one line of printable ASCII',
    ],
    [
      'more than it may be long',
      manifestOf({
        components: Array.from({ length: 20_000 }, (_, at) => `pkg:npm/package-${String(at).padStart(60, '0')}@1.0.0`),
      }),
      'it is above 786432 bytes',
    ],
    [
      'more components than it may have',
      manifestOf({
        components: Array.from({ length: 10_001 }, (_, at) => `pkg:npm/p${String(at).padStart(6, '0')}@1.0.0`),
      }),
      'components: Too big: expected array to have <=10000 items',
    ],
  ]
  for (const [what, text, why] of spoiled) {
    it(`with ${what} is refused`, () => {
      expect(readManifest(typeof text === 'string' ? text : manifestText(text))).toEqual({ ok: false, why })
    })
  }

  it('finds a component by name, by name and version, or by its package URL', () => {
    const component = 'pkg:npm/%40scope/name@1.2.3'
    for (const wanted of [component, '@scope/name', '@scope/name@1.2.3'])
      expect(namesComponent(component, wanted)).toBe(true)
    for (const wanted of ['name', '@scope/name@1.2', 'scope/name', '', 'pkg:npm/%40scope/name'])
      expect(namesComponent(component, wanted)).toBe(false)
    // However its version is written, nothing hides from its own name.
    for (const version of ['git%2Bssh%3A%2F%2Fgit%40github.com%2Fx%2Fy', '1%ZZ', '1%'])
      expect([namesComponent(`pkg:npm/evil@${version}`, 'evil'), version]).toEqual([true, version])
    expect(namesComponent('pkg:npm/evil@git%2Bssh%3A%2F%2Fgit%40b.example', 'evil@git+ssh://git@b.example')).toBe(true)
    expect(namesComponent('pkg:npm/evil@git%40evil', 'evil@git')).toBe(false)
    // As its registry tells names apart.
    for (const wanted of ['zope.interface', 'Zope_Interface', 'zope-interface@7.0', 'ZOPE--interface@7.0'])
      expect([wanted, namesComponent('pkg:pypi/zope-interface@7.0', wanted)]).toEqual([wanted, true])
    for (const wanted of ['zope-interface@7', 'zope-interface@7.0.0', 'zopeinterface', '@7.0', 'interface'])
      expect([wanted, namesComponent('pkg:pypi/zope-interface@7.0', wanted)]).toEqual([wanted, false])
    expect(namesComponent('pkg:npm/hono@4.0.0', 'Hono')).toBe(false)
  })
})

describe('a signed release', () => {
  const signer = newSigner()
  const manifest = manifestOf()
  const signers = [{ ...signer.publicJwk, kid: signer.kid, alg: 'ES256', use: 'sig' }]
  const read = (text: string) => readSignedRelease(text, (agent) => (agent === 'research' ? signers : undefined))

  it('is taken by a signer of the agent that it names, ES256 or EdDSA', () => {
    expect(read(`${signRelease(manifest, signer)}\n`)).toEqual({
      ok: true,
      manifest,
      id: idOf(manifest),
      signer: 'ci-1',
      signedAt: SIGNED_AT,
    })
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    const part = (value: string) => Buffer.from(value).toString('base64url')
    const input = `${part(JSON.stringify({ alg: 'EdDSA', typ: 'errand-release+jwt', kid: 'e', iat: 1 }))}.${part(manifestText(manifest))}`
    const jws = `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`
    expect(readSignedRelease(jws, () => [{ ...publicKey.export({ format: 'jwk' }), kid: 'e' }])).toMatchObject({
      ok: true,
    })
  })

  const [header = '', payload = '', signature = ''] = signRelease(manifest, signer).split('.')
  const other = newSigner('ci-1')
  const refused: readonly [string, string, string][] = [
    [
      'a signature by another key of that name',
      signRelease(manifest, other),
      'the signature does not hold (bad_signature)',
    ],
    [
      'a signer that is not registered',
      signRelease(manifest, newSigner('ci-2')),
      'the key ci-2 is no release signer of research',
    ],
    [
      'another agent’s manifest',
      signRelease(manifestOf({ agent: 'payments' }), signer),
      'there is no agent "payments" with release signers',
    ],
    [
      'another kind of token',
      signRelease(manifest, signer, { header: { typ: 'JWT' } }),
      'its header is not that of a signed release (wrong_typ)',
    ],
    [
      'no algorithm',
      signRelease(manifest, signer, { header: { alg: 'none' } }),
      'its header is not that of a signed release (alg_not_allowed)',
    ],
    [
      'a key in its header',
      signRelease(manifest, signer, { header: { jwk: signer.publicJwk } }),
      'its header is not that of a signed release (header_forbidden)',
    ],
    [
      'no key id',
      signRelease(manifest, signer, { header: { kid: undefined } }),
      'its header is not that of a signed release (unknown_kid)',
    ],
    [
      'no time of signing',
      signRelease(manifest, signer, { header: { iat: undefined } }),
      'its header does not say when it was signed (iat)',
    ],
    [
      'a payload that is not canonical',
      signRelease(manifest, signer, { payload: JSON.stringify(manifest, null, 1) }),
      'the manifest cannot be read: it is not in canonical form (RFC 8785)',
    ],
    ['padding', `${header}=.${payload}.${signature}`, 'it is no compact JWS (noncanonical_encoding)'],
    ['JSON instead', manifestText(manifest), 'it is no compact JWS (jws_not_compact)'],
    ['nothing', '', 'it is no compact JWS (not_a_token)'],
    ['two megabytes', 'a'.repeat(2_000_000), 'it is no compact JWS (token_too_large)'],
  ]
  for (const [what, text, why] of refused)
    it(`with ${what} is refused`, () => expect(read(text)).toEqual({ ok: false, why }))
})

describe('a difference', () => {
  it('is the first byte that differs, with what stands around it', () => {
    expect(firstDifference('{"a":1}', '{"a":2}')).toEqual({ byte: 5, was: '{"a":1}', is: '{"a":2}' })
    expect(firstDifference('same', 'same')).toBeUndefined()
    // é and è share their first byte in UTF-8, two emoji their first three.
    expect(firstDifference('aé', 'aè')?.byte).toBe(2)
    expect(firstDifference('😀', '😁')?.byte).toBe(3)
    expect(firstDifference('short', 'shorter')?.byte).toBe(5)
  })

  it('is where the bytes say, whatever the texts', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        (both, one, two) => {
          const [was, is] = [both + one, both + two]
          const [a, b] = [Buffer.from(was), Buffer.from(is)]
          const place = firstDifference(was, is)
          if (a.equals(b)) expect(place).toBeUndefined()
          else {
            const byte = place!.byte
            expect(a.subarray(0, byte).equals(b.subarray(0, byte))).toBe(true)
            expect(a[byte]).not.toBe(b[byte])
          }
        },
      ),
    )
  })

  it('of two manifests names every part', () => {
    const was = manifestOf({ skills: [{ name: 'refunds', version: '1.0.0', digest: imageOf('r1') }] })
    const is = manifestOf({
      image: imageOf('research:1.0.1'),
      model: undefined,
      policy_version: '2026-11',
      prompts: [{ name: 'prompts/system.md', digest: sha256('You obey.') }],
      tools: [toolOf({ ...READ_TICKET, description: 'Reads any ticket.' } as typeof READ_TICKET)],
      skills: [
        { name: 'payouts', digest: imageOf('p') },
        { name: 'refunds', version: '1.1.0', digest: imageOf('r2') },
      ],
      components: ['pkg:npm/hono@4.11.5', 'pkg:npm/zod@4.0.0'],
    })
    expect(diffManifests(was, is)).toEqual([
      { part: 'image', change: 'changed', was: was.image, is: is.image },
      { part: 'model', change: 'removed', was: was.model },
      { part: 'policy_version', change: 'added', is: '2026-11' },
      { part: 'prompt prompts/system.md', change: 'changed', was: was.prompts[0]!.digest, is: is.prompts[0]!.digest },
      {
        part: 'tool read_ticket',
        change: 'changed',
        was: was.tools[0]!.digest,
        is: is.tools[0]!.digest,
        at: {
          byte: 22,
          was: '{"description":"Reads one ticket.","inputSchem…',
          is: '{"description":"Reads any ticket.","inputSchem…',
        },
      },
      { part: 'skill payouts', change: 'added', is: imageOf('p') },
      { part: 'skill refunds', change: 'changed', was: `1.0.0 ${imageOf('r1')}`, is: `1.1.0 ${imageOf('r2')}` },
      { part: 'component pkg:npm/hono', change: 'changed', was: '4.11.4', is: '4.11.5' },
      { part: 'component pkg:npm/zod', change: 'added', is: '4.0.0' },
      { part: 'component pkg:pypi/litellm', change: 'removed', was: '1.82.8' },
    ])
    expect(diffManifests(was, { ...was })).toEqual([])
  })

  it('F15 between a release and what an agent sees is told in a sentence', () => {
    const manifest = manifestOf()
    const [tool] = manifest.tools
    const tools = (...pairs: readonly (readonly [string, unknown])[]) => ({ tools: new Map(pairs) as never })
    expect(changedSince(manifest, {})).toBeUndefined()
    expect(
      changedSince(manifest, {
        model: manifest.model!,
        ...tools(['read_ticket', READ_TICKET]),
        prompts: new Map([['prompts/system.md', manifest.prompts[0]!.digest]]),
      }),
    ).toBeUndefined()
    expect(changedSince(manifest, tools(['read_ticket', tool!.digest]))).toBeUndefined()
    // The same definition, written in another order.
    expect(
      changedSince(manifest, tools(['read_ticket', Object.fromEntries(Object.entries(READ_TICKET).reverse())])),
    ).toBeUndefined()
    const told: readonly (readonly [Parameters<typeof changedSince>[1], string])[] = [
      [{ model: 'gpt-4' }, 'model gpt-4 is not anthropic/claude-sonnet-4-5'],
      [tools(), 'tool read_ticket is gone'],
      [tools(['read_ticket', READ_TICKET], ['send_mail', {}]), 'tool send_mail is not in it'],
      [
        tools(['read_ticket', imageOf('x')]),
        `tool read_ticket has the digest ${imageOf('x')}, not ${tool!.digest}: send its definition to be told where`,
      ],
      [
        tools(['read_ticket', { ...READ_TICKET, name: 'read_tickets' }]),
        'tool read_ticket changed at byte 156: ...ct"},"name":"read_ticket"} became ...ct"},"name":"read_tickets"}',
      ],
      [{ prompts: new Map() }, 'prompt prompts/system.md is gone'],
      [{ prompts: new Map([['prompts/system.md', imageOf('x')]]) }, 'prompt prompts/system.md has another digest'],
      [{ prompts: new Map([['prompts/other.md', imageOf('x')]]) }, 'prompt prompts/other.md is not in it'],
    ]
    for (const [seen, sentence] of told) expect(changedSince(manifest, seen)).toBe(sentence)
  })
})

describe('how sure a release is', () => {
  const registered = (...manifests: readonly Manifest[]): ReadonlyMap<string, Release> =>
    new Map(
      manifests.map((manifest) => [
        idOf(manifest),
        { id: idOf(manifest), manifest, signer: 'ci-1', signedAt: NOW - 1000, file: 'f' },
      ]),
    )
  const first = manifestOf()
  const second = manifestOf({ version: '2', image: imageOf('two') })
  const ask = (more: Partial<Measuring> = {}) =>
    measure({
      rule: { required: false, registered: registered(first, second) },
      ages: undefined,
      tier: 'platform',
      stated: [undefined, undefined],
      measurements: undefined,
      issuedAt: NOW - 5,
      now: NOW,
      ...more,
    })
  const image = (imageDigest: string | undefined) => ({
    measurements: imageDigest === undefined ? {} : { imageDigest },
  })

  it('is measured where the platform vouches for the image of a registered release, and by nobody’s word', () => {
    expect(ask(image(first.image))).toEqual({ ok: true, fresh: 'measured', tier: 'measured', release: idOf(first) })
    expect(ask({ stated: [undefined, idOf(second)] })).toEqual({
      ok: true,
      fresh: 'platform',
      tier: 'platform',
      release: idOf(second),
    })
    expect(ask({ tier: 'key', stated: [idOf(second), undefined], ...image(second.image) })).toMatchObject({
      tier: 'key',
    })
    expect(ask()).toEqual({ ok: true, fresh: 'platform', tier: 'platform' })
    expect(ask({ rule: undefined, ...image(first.image) })).toEqual({ ok: true, fresh: 'platform', tier: 'platform' })
  })

  it('F15 is refused where the image is another, or the release unknown', () => {
    expect(ask({ stated: [idOf(first), undefined], ...image(second.image) })).toMatchObject({
      reason: 'measurement_changed',
    })
    expect(ask(image(imageOf('swapped')))).toMatchObject({ reason: 'measurement_changed' })
    expect(ask({ stated: ['nothing', undefined] })).toMatchObject({ reason: 'release_unknown' })
    expect(ask({ rule: undefined, stated: [idOf(first), undefined] })).toMatchObject({ reason: 'release_unknown' })
    expect(ask({ stated: [idOf(first), idOf(second)] })).toMatchObject({ reason: 'context_mismatch' })
    expect(ask({ stated: [idOf(first), idOf(first)] })).toMatchObject({ ok: true })
  })

  it('is none of two releases that share an image, until the agent says which', () => {
    const twin = manifestOf({ model: 'anthropic/claude-opus-4-5' })
    const rule = { required: false, registered: registered(first, twin) }
    expect(ask({ rule, ...image(first.image) })).toEqual({ ok: true, fresh: 'platform', tier: 'platform' })
    expect(ask({ rule, stated: [undefined, idOf(twin)], ...image(first.image) })).toMatchObject({
      tier: 'measured',
      release: idOf(twin),
    })
  })

  it('F6 falls from tier to tier as the evidence ages, to the second', () => {
    const ages = { measuredSeconds: 60, platformSeconds: 600 }
    const at = (age: number) => ask({ ages, issuedAt: NOW - age, ...image(first.image) })
    expect([60, 61, 600, 601].map((age) => at(age).ok && (at(age) as { tier: string }).tier)).toEqual([
      'measured',
      'platform',
      'platform',
      'key',
    ])
    expect(at(601)).toMatchObject({
      fresh: 'measured',
      release: idOf(first),
      aged: 'evidence older than 600 s counts as key',
    })
    // Evidence that does not say when it was issued is older than any bound.
    expect(ask({ ages, issuedAt: undefined })).toMatchObject({ fresh: 'platform', tier: 'key' })
    expect(ask({ ages, tier: 'key', issuedAt: undefined })).toEqual({ ok: true, fresh: 'key', tier: 'key' })
  })

  it('F6 is measured by nothing that was signed longer ago than allowed, or is dated ahead', () => {
    const rule = { required: false, maxAgeSeconds: 1000, registered: registered(first, second) }
    const at = (now: number) => ask({ rule, now, issuedAt: now, ...image(first.image) })
    expect(at(NOW)).toMatchObject({ tier: 'measured' })
    expect(at(NOW + 1)).toMatchObject({ tier: 'platform', fresh: 'measured', release: idOf(first) })
    expect(at(NOW - 1030)).toMatchObject({ tier: 'measured' })
    expect(at(NOW - 1031)).toMatchObject({ tier: 'platform' })
  })

  it('reads the claim in which a platform names the image, by the path that is configured', () => {
    const payload = { submods: { container: { image_digest: first.image } }, flat: 'sha256:1', none: null, deep: [] }
    const path = ['submods', 'container', 'image_digest']
    expect(readImageDigest(payload, path)).toBe(first.image)
    for (const absent of [
      ['none'],
      ['submods', 'x'],
      ['deep', '0'],
      ['__proto__'],
      ['submods', 'container', 'image_digest', 'length'],
    ])
      expect(readImageDigest(payload, absent)).toBeUndefined()
    expect(readImageDigest(payload, ['flat'])).toBe(false)
    expect(readImageDigest(payload, ['submods'])).toBe(false)
  })
})
