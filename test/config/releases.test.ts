/** Releases in the configuration: signed by the right signer, beside their provenance, or refused with the file's name. */
import { describe, expect, it } from 'vitest'
import { BUILDER, createSigstore, IDENTITY, IDENTITY_ISSUER, REPOSITORY, statementOf } from '../attest/sigstore.ts'
import { idOf, imageOf, manifestOf, newSigner, SIGNED_AT, signRelease } from '../releases.ts'
import { GOOD, load, problemsOf } from './folder.ts'

const AGENT = 'config/agents/research.yaml'
const signer = newSigner()
const first = manifestOf()
const agentWith = (lines: string) => `${GOOD[AGENT]!}${lines}`
const RELEASE = 'release:\n  keys_file: releases/ci.pub.jwk\n'
const base = {
  [AGENT]: agentWith(RELEASE),
  'keys/releases/ci.pub.jwk': signer.file,
  'config/releases/1.jws': signRelease(first, signer),
}

describe('releases', () => {
  it('are registered for the agent that they name', async () => {
    const second = manifestOf({ version: '2' })
    const loaded = await load({
      ...base,
      [AGENT]: agentWith(
        `${RELEASE}  required: true\n  max_age_seconds: 86400\nevidence_age: { measured_seconds: 60 }\n`,
      ),
      'config/releases/2.jws': `${signRelease(second, signer)}\n`,
      'config/releases/.hidden': 'x',
      'config/releases/1.jws~': 'x',
    })
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    const research = loaded.snapshot.agents.byClientId('research')!
    expect(research.evidenceAges).toEqual({ measuredSeconds: 60 })
    expect(research.release).toEqual({
      required: true,
      maxAgeSeconds: 86_400,
      registered: new Map(
        [first, second].map((manifest, index) => [
          idOf(manifest),
          {
            id: idOf(manifest),
            manifest,
            signer: 'ci-1',
            signedAt: SIGNED_AT,
            file: `config/releases/${index + 1}.jws`,
          },
        ]),
      ),
    })
  })

  it('change the digest of the configuration', async () => {
    const [one, two] = [
      await load(base),
      await load({ ...base, 'config/releases/2.jws': signRelease(manifestOf({ version: '2' }), signer) }),
    ]
    expect(one.ok && two.ok && one.snapshot.digest !== two.snapshot.digest).toBe(true)
  })

  const refused: readonly [string, Readonly<Record<string, string>>, string][] = [
    [
      'by another signer',
      { 'config/releases/1.jws': signRelease(first, newSigner('ci-1')) },
      'config/releases/1.jws  the signature does not hold (bad_signature)  [release_rejected]',
    ],
    [
      'by a signer nobody registered',
      { 'config/releases/1.jws': signRelease(first, newSigner('x')) },
      'config/releases/1.jws  the key x is no release signer of research  [release_rejected]',
    ],
    [
      'of an agent that does not exist',
      { 'config/releases/1.jws': signRelease(manifestOf({ agent: 'other' }), signer) },
      'config/releases/1.jws  there is no agent "other" with release signers  [release_rejected]',
    ],
    [
      'of an agent without release signers',
      { [AGENT]: GOOD[AGENT]! },
      'config/releases/1.jws  there is no agent "research" with release signers  [release_rejected]',
    ],
    [
      'twice',
      { 'config/releases/2.jws': signRelease(first, signer) },
      `config/releases/2.jws  the release ${idOf(first)} already stands in config/releases/1.jws  [duplicate]`,
    ],
    [
      'that are not signed',
      { 'config/releases/2.json': '{}' },
      'config/releases/2.json  only .jws files are read in releases/, and .sigstore.json files of the same name beside them  [bad_value]',
    ],
    [
      'that are huge',
      { 'config/releases/1.jws': 'x'.repeat(2_000_000) },
      'config/releases/1.jws  the file is above 1052672 bytes  [too_large]',
    ],
    [
      'with a signer’s private key',
      { 'keys/releases/ci.pub.jwk': JSON.stringify({ ...JSON.parse(signer.file), d: 'AAAA' }) },
      'a private key is published',
    ],
    ['without any signer', { [AGENT]: agentWith('release: {}\n') }, 'release needs the public key of a signer'],
    [
      'with a bundle that nobody verifies',
      { 'config/releases/1.sigstore.json': '{}' },
      'config/releases/1.sigstore.json  research has no release.provenance to verify it by  [release_rejected]',
    ],
    [
      'with a bundle of nothing',
      { 'config/releases/9.sigstore.json': '{}' },
      'config/releases/9.sigstore.json  only .jws files are read',
    ],
    [
      'of a tier that nothing reaches',
      { [AGENT]: agentWith(`${RELEASE}minimum_tier: measured\n`) },
      'none of its kinds of evidence says which image runs: set image_digest_claim at its issuer',
    ],
    [
      'that a tier needs and nobody registers',
      { [AGENT]: agentWith('minimum_tier: measured\n'), 'config/releases/1.jws': '' },
      'measured needs registered releases',
    ],
  ]
  for (const [what, changed, why] of refused)
    it(`${what} are refused`, async () => {
      const problems = await problemsOf({ ...base, ...changed })
      const told = problems.map(({ file, message, code }) => `${file}  ${message}  [${code}]`)
      expect(
        told.some((line) => line.includes(why)),
        told.join('\n'),
      ).toBe(true)
    })

  it('F15 with provenance are taken only where somebody vouches for the image', async () => {
    const sigstore = await createSigstore()
    const provenance = `  provenance:
    trusted_root_file: sigstore/root.json
    identity: ${IDENTITY}
    identity_issuer: ${IDENTITY_ISSUER}
    builder: ${BUILDER}
    repository: ${REPOSITORY}
`
    const files = {
      ...base,
      [AGENT]: agentWith(RELEASE + provenance),
      'keys/sigstore/root.json': sigstore.trustedRoot(),
      'config/releases/1.sigstore.json': await sigstore.bundle(statementOf(first.image!)),
    }
    const loaded = await load(files)
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    const [release] = loaded.snapshot.agents.byClientId('research')!.release!.registered.values()
    expect(release?.builder).toBe(BUILDER)
    for (const [changed, file, why] of [
      [
        { 'config/releases/1.sigstore.json': undefined },
        'config/releases/1.jws',
        'research needs the provenance of the image beside it: .sigstore.json',
      ],
      [
        { 'config/releases/1.sigstore.json': await sigstore.bundle(statementOf(imageOf('other'))) },
        'config/releases/1.sigstore.json',
        'it is about another image',
      ],
      [
        { 'config/releases/1.jws': signRelease(manifestOf({ image: undefined }), signer) },
        'config/releases/1.sigstore.json',
        'the manifest names no image, so it has no provenance',
      ],
      [{ 'keys/sigstore/root.json': '{}' }, AGENT, 'sigstore/root.json: it names no certificate authority'],
      [{ 'keys/sigstore/root.json': undefined }, AGENT, 'keys/sigstore/root.json does not exist'],
    ] as const) {
      const problems = await problemsOf({ ...files, ...changed })
      expect(problems.map((problem) => [problem.file, problem.message])).toContainEqual([file, why])
    }
  })
})
