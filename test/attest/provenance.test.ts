import { beforeAll, describe, expect, it } from 'vitest'
import { type ProvenanceRule, readTrustedRoot, verifyProvenance } from '../../src/attest/provenance.ts'
import { imageOf } from '../releases.ts'
import { BUILDER, createSigstore, IDENTITY, IDENTITY_ISSUER, REPOSITORY, SIGNED, statementOf } from './sigstore.ts'

const IMAGE = imageOf('research:1.0.0')

describe('the provenance of an image', () => {
  let sigstore: Awaited<ReturnType<typeof createSigstore>>
  let rule: ProvenanceRule
  beforeAll(async () => {
    sigstore = await createSigstore()
    const trust = readTrustedRoot(sigstore.trustedRoot())
    if (!trust.ok) throw new Error(trust.why)
    rule = {
      trust: trust.value,
      identity: IDENTITY,
      identityIssuer: IDENTITY_ISSUER,
      builder: BUILDER,
      repository: REPOSITORY,
    }
  })
  const judge = (bundle: string) => verifyProvenance(bundle, rule, IMAGE)

  it('says who built it', async () => {
    expect(judge(await sigstore.bundle(statementOf(IMAGE)))).toEqual({ ok: true, value: BUILDER })
  })

  it('F15 for another digest, builder, repository or kind of statement is none', async () => {
    for (const [statement, why] of [
      [statementOf(imageOf('research:1.0.1')), 'it is about another image'],
      [statementOf(IMAGE, { builder: `${BUILDER}-evil` }), 'another builder built it'],
      [statementOf(IMAGE, { repository: `${REPOSITORY}-fork` }), 'it was built from another repository'],
      [
        statementOf(IMAGE, { predicateType: 'https://slsa.dev/provenance/v0.2' }),
        'its statement is no SLSA provenance v1: predicateType',
      ],
      [{ ...statementOf(IMAGE), subject: [] }, 'its statement is no SLSA provenance v1: subject'],
      [{ ...statementOf(IMAGE), predicate: {} }, 'its statement is no SLSA provenance v1: predicate.buildDefinition'],
    ] as const)
      expect(judge(await sigstore.bundle(statement))).toEqual({ ok: false, why })
  })

  it('B7 by another identity is none, nor by one that only looks like it', async () => {
    const bundle = (options: object) => sigstore.bundle(statementOf(IMAGE), options)
    const other = { ok: false, why: 'it was signed by another identity' }
    expect(judge(await bundle({ identity: `${IDENTITY}x` }))).toEqual(other)
    expect(judge(await bundle({ identity: IDENTITY.replace('.yml', 'Xyml') }))).toEqual(other)
    expect(judge(await bundle({ identity: `https://evil.example/?${IDENTITY}` }))).toEqual(other)
    expect(judge(await bundle({ identityIssuer: 'https://token.actions.githubusercontent.com.evil.example' }))).toEqual(
      {
        ok: false,
        why: 'the identity that signed it is of another issuer',
      },
    )
  })

  it('that does not verify is none: another authority, key, time, log entry, or text', async () => {
    const statement = statementOf(IMAGE)
    const good = await sigstore.bundle(statement)
    const elsewhere = await createSigstore()
    const spoiled = (change: (bundle: Record<string, never>) => void): string => {
      const bundle = JSON.parse(good) as Record<string, never>
      change(bundle)
      return JSON.stringify(bundle)
    }
    const entryOf = (bundle: Record<string, never>) =>
      (bundle as unknown as { verificationMaterial: { tlogEntries: Record<string, unknown>[] } }).verificationMaterial
        .tlogEntries
    const envelopeOf = (bundle: Record<string, never>) =>
      (bundle as unknown as { dsseEnvelope: Record<string, unknown> }).dsseEnvelope
    for (const [what, bundle] of [
      ['another authority', await elsewhere.bundle(statement)],
      ['a key that the certificate does not hold', await sigstore.bundle(statement, { otherKey: true })],
      [
        'a time after the certificate',
        await sigstore.bundle(statement, { at: new Date(SIGNED.getTime() + 3_600_000) }),
      ],
      ['no log entry', spoiled((it) => entryOf(it).splice(0))],
      ['a log entry twice', spoiled((it) => entryOf(it).push(entryOf(it)[0]!))],
      ['another time in the entry', spoiled((it) => Object.assign(entryOf(it)[0]!, { integratedTime: '1795428001' }))],
      [
        'another payload',
        spoiled((it) =>
          Object.assign(envelopeOf(it), {
            payload: Buffer.from(JSON.stringify(statementOf(imageOf('x')))).toString('base64'),
          }),
        ),
      ],
      ['another kind of payload', await sigstore.bundle(statement, { payloadType: 'text/plain' })],
      ['no JSON', 'x'],
      ['a repeated member', `{"mediaType":"",${good.slice(1)}`],
      ['nothing', '{}'],
      ['two megabytes', 'x'.repeat(2_000_000)],
    ] as const) {
      const answer = judge(bundle)
      expect([what, answer.ok]).toEqual([what, false])
    }
    expect(judge(good).ok).toBe(true)
  })

  it('is asked for proof by each log that the trusted root names', async () => {
    const withCt = JSON.parse(sigstore.trustedRoot()) as { tlogs: unknown[]; ctlogs: unknown[] }
    withCt.ctlogs = withCt.tlogs
    const trust = readTrustedRoot(JSON.stringify(withCt))
    if (!trust.ok) throw new Error(trust.why)
    expect(verifyProvenance(await sigstore.bundle(statementOf(IMAGE)), { ...rule, trust: trust.value }, IMAGE)).toEqual(
      {
        ok: false,
        why: 'expected 1 SCTs, got 0',
      },
    )
  })

  it('has no trusted root without an authority, or without anybody who dates signatures', () => {
    expect(readTrustedRoot(sigstore.trustedRoot({ certificateAuthorities: [] }))).toEqual({
      ok: false,
      why: 'it names no certificate authority',
    })
    expect(readTrustedRoot(sigstore.trustedRoot({ tlogs: [] }))).toEqual({
      ok: false,
      why: 'it names no transparency log and no timestamp authority',
    })
    expect(readTrustedRoot('{')).toEqual({ ok: false, why: 'it is not strict JSON (bad_json)' })
    expect(
      readTrustedRoot(
        sigstore.trustedRoot({ certificateAuthorities: [{ certChain: { certificates: [{ rawBytes: 'AAAA' }] } }] }),
      ).ok,
    ).toBe(false)
  })
})
