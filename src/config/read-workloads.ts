/** issuers/*.yaml of the kinds workload_oidc and attester, and what agents' files say of them. */
import type { AgentRegistration } from '../attest/registration.ts'
import type { Attester, WorkloadIssuer } from '../attest/workload-issuer.ts'
import { type ClaimCondition, type ClaimValue, combinationsIn, MAX_COMBINATIONS } from '../attest/workload-rules.ts'
import { didYouMean } from '../policy/suggest.ts'
import { urlProblem } from './addresses.ts'
import { type KeysContext, readIssuerKeys } from './issuer-keys.ts'
import type { Reporter } from './reporter.ts'
import type { AgentFile } from './agent-file.ts'
import type { AttesterFile, WorkloadOidcFile } from './issuer-file.ts'
import { createTokenReview, type PostReview } from './token-review.ts'

export interface WorkloadContext extends KeysContext {
  /** Our own issuer identifier: the audience of workload tokens where none is written. */
  readonly issuer: string
  readonly now: () => number
  /** Path inside the keys folder → contents, anew at each call. */
  readonly readKeyFile: (file: string) => Promise<string>
  readonly postReview: PostReview
}

export async function readWorkloadOidc(source: WorkloadOidcFile, context: WorkloadContext): Promise<WorkloadIssuer> {
  const { keyFiles, issuer, now, readKeyFile, postReview, report } = context
  // Compared and never fetched: a cluster calls itself by a name that only it can resolve, or by no URL at all.
  if (source.issuer === issuer) report(['issuer'], 'bad_value', 'this is our own issuer identifier')
  const review = source.token_review
  if (review !== undefined) {
    const fault = reviewUrlProblem(review.api_server)
    if (fault !== undefined) report(['token_review', 'api_server'], 'url_forbidden', `${review.api_server} ${fault}`)
    const authority = await keyFiles.text(review.ca_file)
    if (!authority.ok) report(['token_review', 'ca_file'], authority.code, authority.message, authority.suggestion)
    // No part of the configuration: the cluster writes it anew every hour.
    await readKeyFile(review.token_file).catch(() => {
      if (keyFiles.allowMissing) return
      report(['token_review', 'token_file'], 'file_missing', `${review.token_file} cannot be read`)
    })
  }
  return {
    name: source.name,
    issuer: source.issuer,
    keys: await readIssuerKeys(source, context),
    algorithms: source.algorithms,
    audiences: source.audiences ?? [issuer],
    maxLifetimeSeconds: source.max_token_lifetime_seconds,
    ...(source.image_digest_claim === undefined ? {} : { imageDigestClaim: source.image_digest_claim }),
    ...(review === undefined
      ? {}
      : {
          review: createTokenReview({
            apiServer: review.api_server,
            cacheSeconds: review.cache_seconds,
            authority: () => readKeyFile(review.ca_file),
            bearer: () => readKeyFile(review.token_file),
            post: postReview,
            now,
          }),
        }),
  }
}

/** A private address is what it should be: the destination is written by the operator, and proven by its authority. */
function reviewUrlProblem(url: string): string | undefined {
  if (!url.startsWith('https://')) return 'must begin with https://'
  const fault = urlProblem(url, { development: false })
  return fault === 'names a private or loopback address' ? undefined : fault
}

export async function readAttester(source: AttesterFile, context: KeysContext): Promise<Attester> {
  return {
    name: source.name,
    ...(source.issuer === undefined ? {} : { issuer: source.issuer }),
    keys: await readIssuerKeys(source, context),
    maxLifetimeSeconds: source.max_lifetime_seconds,
    ...(source.image_digest_claim === undefined ? {} : { imageDigestClaim: source.image_digest_claim }),
    ...(source.max_age_seconds === undefined ? {} : { maxAgeSeconds: source.max_age_seconds }),
    tier: source.tier,
  }
}

/** What an agent's file says of its workload tokens and attestations. */
export function readWorkloadEvidence(
  source: AgentFile,
  {
    issuers,
    attesters,
    report,
  }: {
    /** Name → `iss`. */
    readonly issuers: ReadonlyMap<string, string>
    readonly attesters: readonly Attester[]
    readonly report: Reporter
  },
): Pick<AgentRegistration, 'workload' | 'attestedBy'> {
  const names = [...issuers.keys()]
  const attesterNames = attesters.map(({ name }) => name)
  for (const [kind, member, entries] of [
    ['workload_oidc', 'workload', source.workload],
    ['client_attestation', 'attested_by', source.attested_by],
  ] as const) {
    const used = source.evidence.includes(kind)
    if (used && entries.length === 0) report(['evidence'], 'missing_key', `${kind} needs ${member}`)
    if (!used && entries.length > 0) {
      report([member], 'bad_value', `${member} needs ${kind} in evidence`)
    }
  }
  const workload = source.workload.map((rule, index) => {
    const issuer = issuers.get(rule.issuer)
    if (issuer === undefined) {
      report(
        ['workload', index, 'issuer'],
        'unknown_reference',
        `there is no issuer of kind workload_oidc called "${rule.issuer}"`,
        didYouMean(rule.issuer, names).suggestion,
      )
    }
    const conditions = conditionsIn(rule.claims)
    if (combinationsIn(conditions) > MAX_COMBINATIONS) {
      report(['workload', index, 'claims'], 'bad_limit', `its lists make more than ${MAX_COMBINATIONS} combinations`)
      return { issuer: '', conditions: [] }
    }
    return { issuer: issuer ?? '', conditions }
  })
  const attestedBy = source.attested_by.map(({ attester, subject = source.client_id }, index) => {
    if (!attesterNames.includes(attester)) {
      report(
        ['attested_by', index, 'attester'],
        'unknown_reference',
        `there is no issuer of kind attester called "${attester}"`,
        didYouMean(attester, attesterNames).suggestion,
      )
    }
    return { attester, subject }
  })
  return {
    ...(workload.length === 0 ? {} : { workload: workload.filter(({ issuer }) => issuer !== '') }),
    ...(attestedBy.length === 0 ? {} : { attestedBy }),
  }
}

type Written = ClaimValue | readonly ClaimValue[] | { readonly [name: string]: Written }

/** Members inside members become paths. */
function conditionsIn(claims: unknown, path: readonly string[] = []): readonly ClaimCondition[] {
  return Object.entries(claims as { readonly [name: string]: Written }).flatMap(([name, written]) => {
    const at = [...path, name]
    if (Array.isArray(written)) return [{ path: at, oneOf: [...new Set(written as readonly ClaimValue[])] }]
    return typeof written === 'object' ? conditionsIn(written, at) : [{ path: at, oneOf: [written] }]
  })
}
