/**
 * Provenance of an image: a Sigstore bundle around an in-toto statement (SLSA provenance v1), verified offline against a
 * trusted root that the operator pinned. Who signed, who built, from which repository: each is compared as exact text,
 * for a pattern lets in what its author did not think of (CVE-2026-22772).
 */
import { bundleFromJSON } from '@sigstore/bundle'
import { TrustedRoot } from '@sigstore/protobuf-specs'
import { type TrustMaterial, toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify'
import { parseStrictObject } from '@errand/verifier/strict-json.ts'
import { z } from 'zod'

const MAX_BUNDLE_BYTES = 1_048_576
const MAX_TRUSTED_ROOT_BYTES = 262_144
const LIMITS = { maxDepth: 32, maxMembers: 20_000, integersOnly: false }

export interface ProvenanceRule {
  readonly trust: TrustMaterial
  /** Subject alternative name of the signing certificate. */
  readonly identity: string
  /** Who issued the token by which that certificate was had. */
  readonly identityIssuer: string
  readonly builder: string
  readonly repository: string
}

type Answer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string }
const no = (why: string) => ({ ok: false, why }) as const

/** A trusted root as `cosign trusted-root create` and Sigstore's own repository write it. */
export function readTrustedRoot(text: string): Answer<TrustMaterial> {
  if (text.length > MAX_TRUSTED_ROOT_BYTES) return no(`it is above ${MAX_TRUSTED_ROOT_BYTES} bytes`)
  const json = parseStrictObject(text, LIMITS)
  if (!json.ok) return no(`it is not strict JSON (${json.fault})`)
  try {
    const trust = toTrustMaterial(TrustedRoot.fromJSON(json.value))
    if (trust.certificateAuthorities.length === 0) return no('it names no certificate authority')
    if (trust.tlogs.length + trust.timestampAuthorities.length === 0)
      return no('it names no transparency log and no timestamp authority')
    return { ok: true, value: trust }
  } catch (error) {
    return no(messageOf(error))
  }
}

// What a statement says beyond these is not ours to judge (in-toto: unknown fields are ignored); these are.
const text = z.string().min(1).max(2048)
const statementSchema = z.looseObject({
  _type: z.enum(['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1']),
  subject: z
    .array(z.looseObject({ digest: z.record(z.string().max(64), z.string().max(256)) }))
    .min(1)
    .max(256),
  predicateType: z.literal('https://slsa.dev/provenance/v1'),
  predicate: z.looseObject({
    buildDefinition: z.looseObject({
      externalParameters: z.looseObject({
        workflow: z.looseObject({ repository: text }).optional(), // GitHub Actions
        source: text.optional(), // GitLab
      }),
    }),
    runDetails: z.looseObject({ builder: z.looseObject({ id: text }) }),
  }),
})

/** Answers who built the image of this digest (`sha256:…`). */
export function verifyProvenance(bundleText: string, rule: ProvenanceRule, image: string): Answer<string> {
  if (bundleText.length > MAX_BUNDLE_BYTES) return no(`it is above ${MAX_BUNDLE_BYTES} bytes`)
  const json = parseStrictObject(bundleText, LIMITS)
  if (!json.ok) return no(`it is not strict JSON (${json.fault})`)
  let payload: Uint8Array
  try {
    const bundle = bundleFromJSON(json.value)
    if (bundle.content.$case !== 'dsseEnvelope') return no('it holds no attestation')
    const { dsseEnvelope } = bundle.content
    if (dsseEnvelope.payloadType !== 'application/vnd.in-toto+json') return no('it holds no in-toto statement')
    const { trust } = rule
    const signer = new Verifier(trust, {
      // A private instance may have no logs; what the pinned root has, each bundle must be in.
      ctlogThreshold: trust.ctlogs.length > 0 ? 1 : 0,
      tlogThreshold: trust.tlogs.length > 0 ? 1 : 0,
      timestampThreshold: 1,
    }).verify(toSignedEntity(bundle))
    const { subjectAlternativeName, extensions } = signer.identity ?? {}
    if (subjectAlternativeName !== rule.identity) return no('it was signed by another identity')
    if (extensions?.issuer !== rule.identityIssuer) return no('the identity that signed it is of another issuer')
    payload = dsseEnvelope.payload
  } catch (error) {
    return no(messageOf(error))
  }
  const statement = parseStrictObject(payload, LIMITS)
  if (!statement.ok) return no(`its statement is not strict JSON (${statement.fault})`)
  const read = statementSchema.safeParse(statement.value)
  if (!read.success) return no(`its statement is no SLSA provenance v1: ${read.error.issues[0]?.path.join('.')}`)
  const { subject, predicate } = read.data
  if (!subject.some(({ digest }) => `sha256:${digest['sha256']}` === image)) return no('it is about another image')
  const { id } = predicate.runDetails.builder
  if (id !== rule.builder) return no('another builder built it')
  const { workflow, source } = predicate.buildDefinition.externalParameters
  if ((workflow?.repository ?? source) !== rule.repository) return no('it was built from another repository')
  return { ok: true, value: id }
}

/** The library throws for everything that does not hold. */
const messageOf = (error: unknown): string => (error instanceof Error ? error.message.slice(0, 200) : 'unknown fault')
