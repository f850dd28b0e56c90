/**
 * Which registered release an agent runs, how sure that is, and how long it stays so: what the agent states is its
 * word, what its platform says of the image is evidence, and evidence counts for less as it grows older.
 */
import { CLOCK_LEEWAY_SECONDS, type Tier } from '@errand/verifier/claims.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { ok, type Reason, type Result, refuse, type Slot } from '../oauth/refusal.ts'
import { DIGEST, type Manifest } from './release-manifest.ts'

export interface Release {
  /** By which tokens, policies and revocations name it. */
  readonly id: string
  readonly manifest: Manifest
  /** `kid` of the release signer. */
  readonly signer: string
  /** Unix seconds. */
  readonly signedAt: number
  /** Who built the image, where a provenance that is registered for the agent says so. */
  readonly builder?: string
  /** Where it was read, for messages. */
  readonly file: string
}

/** What an agent's registration says of its releases. */
export interface ReleaseRule {
  /** Without a registered release it gets no token. */
  readonly required: boolean
  /** What was signed longer ago measures nothing any more. */
  readonly maxAgeSeconds?: number
  /** By id. */
  readonly registered: ReadonlyMap<string, Release>
}

/** From which age on evidence counts for the next lower tier. */
export interface EvidenceAges {
  readonly measuredSeconds?: number
  readonly platformSeconds?: number
}

/** What a platform says of the code that runs, in evidence that it signed. */
export interface Measurements {
  /** `sha256:…` */
  readonly imageDigest?: string
}

export interface Measuring {
  readonly rule: ReleaseRule | undefined
  readonly ages: EvidenceAges | undefined
  /** What this kind of evidence is worth by itself. */
  readonly tier: Tier
  /** Ids that the agent gave, in its evidence and beside it. */
  readonly stated: readonly (string | undefined)[]
  readonly measurements: Measurements | undefined
  readonly issuedAt: number | undefined
  readonly now: number
}

export type Measured =
  | {
      readonly ok: true
      readonly release?: string
      readonly tier: Tier
      /** What it would be, were the evidence fresh. */
      readonly fresh: Tier
      /** Why the tier is not what fresh evidence would have. */
      readonly aged?: string
    }
  | { readonly ok: false; readonly reason: Reason; readonly detail: string }

export function measure(it: Measuring): Measured {
  const { rule, measurements } = it
  const [stated, other] = it.stated.filter((id) => id !== undefined)
  if (other !== undefined && other !== stated)
    return { ok: false, reason: 'context_mismatch', detail: 'the evidence and the request name two releases' }
  const image = measurements?.imageDigest
  let release: Release | undefined
  if (stated !== undefined) {
    release = rule?.registered.get(stated)
    if (release === undefined)
      return { ok: false, reason: 'release_unknown', detail: 'no release of this id is registered for the agent' }
    const own = release.manifest.image
    // F15: the same tag, another image. Compared as bytes.
    if (image !== undefined && own !== image)
      return {
        ok: false,
        reason: 'measurement_changed',
        detail: `the image is ${image}, in the release ${own ?? 'none'}`,
      }
  } else if (rule !== undefined && image !== undefined) {
    const fitting = [...rule.registered.values()].filter(({ manifest }) => manifest.image === image)
    if (fitting.length === 0)
      return { ok: false, reason: 'measurement_changed', detail: `the image ${image} is that of no registered release` }
    // Of several the agent must say which; until then it is measured as none of them.
    if (fitting.length === 1) release = fitting[0]
  }
  const vouched = release !== undefined && image !== undefined && it.tier === 'platform'
  const fresh = vouched ? 'measured' : it.tier
  const { tier, aged } = agedTier(fresh, release, it)
  return { ok: true, fresh, tier, ...(release ? { release: release.id } : {}), ...(aged === undefined ? {} : { aged }) }
}

function agedTier(
  fresh: Tier,
  release: Release | undefined,
  { rule, ages, issuedAt, now }: Measuring,
): { readonly tier: Tier; readonly aged?: string } {
  // Evidence that does not say when it was issued is older than any bound.
  const age = issuedAt === undefined ? Number.POSITIVE_INFINITY : now - issuedAt
  const olderThan = (bound: number | undefined): bound is number => bound !== undefined && age > bound
  let tier = fresh
  let aged: string | undefined
  if (tier === 'measured') {
    const maxAge = rule?.maxAgeSeconds
    const signed = release === undefined ? 0 : now - release.signedAt
    // A date in the future would make it young for ever.
    if (maxAge !== undefined && (signed > maxAge || signed < -CLOCK_LEEWAY_SECONDS)) {
      tier = 'platform'
      aged = `its release was not signed within the last ${maxAge} s`
    } else if (olderThan(ages?.measuredSeconds)) {
      tier = 'platform'
      aged = `evidence older than ${ages!.measuredSeconds} s counts as platform`
    }
  }
  if (tier === 'platform' && olderThan(ages?.platformSeconds)) {
    tier = 'key'
    aged = `evidence older than ${ages!.platformSeconds} s counts as key`
  }
  return { tier, ...(aged === undefined ? {} : { aged }) }
}

/** What a platform says of the image, in the claim at the configured path. */
export function readMeasurements(
  payload: JsonObject,
  path: readonly string[] | undefined,
  slot: Slot,
): Result<{ readonly measurements?: Measurements }> {
  const imageDigest = path && readImageDigest(payload, path)
  if (imageDigest === false) return refuse('bad_claim', slot, { detail: 'the image digest is not sha256:<hex>' })
  return ok(imageDigest === undefined ? {} : { measurements: { imageDigest } })
}

/** Undefined where it says nothing, false where it says it wrongly. */
export function readImageDigest(payload: unknown, path: readonly string[]): string | undefined | false {
  let at = payload
  for (const name of path) {
    if (typeof at !== 'object' || at === null || Array.isArray(at) || !Object.hasOwn(at, name)) return undefined
    at = (at as { readonly [name: string]: unknown })[name]
  }
  if (at === undefined || at === null) return undefined
  return typeof at === 'string' && DIGEST.test(at) ? at : false
}
