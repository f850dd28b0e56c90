/**
 * Evidence with its holder's key in it (RFC 7800), and the proofs of that key that are no DPoP proofs: the proof of
 * draft-ietf-oauth-attestation-based-client-auth §5.1 and the Workload Proof Token of draft-ietf-wimse-wpt §2.
 */
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { accessTokenHash, targetOf } from '@errand/verifier/dpop.ts'
import { checkHeader, type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey, jwkThumbprint, type VerifyKey } from '@errand/verifier/signature.ts'
import { isJsonObject, type JsonValue } from '@errand/verifier/strict-json.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import type { EvidenceSlot } from './attestor.ts'
import { digestOf } from './remembered.ts'
import type { Windowed } from './windowed.ts'

/** A token from a header field of its own, and the proof that came with it. */
export interface HeldToken {
  /** `OAuth-Client-Attestation`, or `Workload-Identity-Token` (draft-ietf-wimse-workload-creds §4.1.1). */
  readonly field: 'attestation' | 'workload'
  readonly token: string
  /** `OAuth-Client-Attestation-PoP` or `Workload-Proof-Token`; without one, the DPoP proof is by its key. */
  readonly proof?: string
  /** The endpoint's absolute URL as the configuration knows it. */
  readonly url: string
}

export interface HolderKey {
  readonly key: VerifyKey
  /** RFC 7638 thumbprint. */
  readonly jkt: string
}

/** The key of `cnf`, as a JWK and a public one. */
export function readHolderKey(
  cnf: JsonValue | undefined,
  slot: EvidenceSlot,
  { algs, algRequired = false }: { readonly algs: readonly string[]; readonly algRequired?: boolean },
): Result<HolderKey> {
  const jwk = isJsonObject(cnf) ? cnf['jwk'] : undefined
  if (!isJsonObject(jwk)) return refuse('bad_claim', slot, { detail: 'cnf.jwk is required' })
  if (algRequired && jwk['alg'] === undefined) return refuse('bad_key', slot, { detail: 'cnf.jwk.alg is required' })
  const key = importVerifyKey(jwk, { algs })
  return key.ok
    ? ok({ key: key.value, jkt: jwkThumbprint(key.value.jwk) })
    : refuse(key.fault, slot, { detail: 'cnf.jwk is not fit for proofs' })
}

export interface ProofDeps {
  readonly now: () => number
  /** Our own issuer identifier: the audience of attestation proofs. */
  readonly issuer: string
  readonly challenges: Windowed
  readonly challengeRequired: boolean
  /** Greatest age of a proof, and longest life of one that says itself when it ends. */
  readonly proofLifetimeSeconds: number
}

/** What a proof uses up. */
export interface OneUse {
  readonly id: string
  readonly expiresAt: number
  /** Unix seconds. */
  readonly issuedAt?: number
}

/** What the holder has shown with this request, for the attestation result. */
export type Shown =
  | { readonly oneUse: OneUse; readonly standingId: string }
  | { readonly keyThumbprint: string; readonly challengeAsNonce: boolean }

/**
 * With a proof of its own, this presentation is one-use, and a DPoP key beside it may be another (draft §5.2): the
 * first one seen with `standingId`. Without, the DPoP proof must be by the holder's key, and an attestation challenge may
 * be its nonce (§7.3 step 5).
 */
export function proofOf(
  deps: ProofDeps,
  held: HeldToken,
  holder: HolderKey,
  { standingId, slot }: { readonly standingId: string; readonly slot: EvidenceSlot },
): Result<Shown> {
  if (held.proof === undefined) {
    return ok({ keyThumbprint: holder.jkt, challengeAsNonce: held.field === 'attestation' })
  }
  const read = held.field === 'attestation' ? readAttestationProof : readWorkloadProof
  const oneUse = read(deps, held, held.proof, holder, slot)
  return oneUse.ok ? ok({ oneUse: oneUse.value, standingId }) : oneUse
}

const JTI = /^[\x21-\x7e]{1,256}$/

function openProof(text: string, typ: string, { key }: HolderKey, slot: EvidenceSlot): Result<ParsedJws> {
  const jws = parseJws(text)
  if (!jws.ok) return refuse(jws.fault, slot)
  const header = checkHeader(jws.value.header, { typ: [typ], algs: [key.alg], kid: 'optional' })
  if (!header.ok) return refuse(header.fault, slot)
  const signed = checkSignature(jws.value, key)
  return signed.ok ? ok(jws.value) : refuse(signed.fault, slot)
}

/** §5.1, §7.2 of the draft. */
function readAttestationProof(
  { now: clock, issuer, challenges, challengeRequired, proofLifetimeSeconds }: ProofDeps,
  _held: HeldToken,
  text: string,
  holder: HolderKey,
  slot: EvidenceSlot,
): Result<OneUse> {
  const now = clock()
  const opened = openProof(text, TYP.clientAttestationProof, holder, slot)
  if (!opened.ok) return opened
  const { aud, jti, iat, exp, nbf, challenge } = opened.value.payload
  if (aud !== issuer) return refuse('wrong_audience', slot, { detail: 'aud must be the issuer identifier, one string' })
  if (typeof jti !== 'string' || !JTI.test(jti)) return refuse('bad_claim', slot, { detail: 'jti is required' })
  const made = readNumericDate(iat)
  if (!made.ok) return refuse(made.fault, slot)
  if (made.value > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', slot)
  if (made.value < now - proofLifetimeSeconds) return refuse('expired', slot)
  // Neither is of the draft any more; where they stand all the same, they hold (RFC 7519 §4.1).
  for (const date of [exp, nbf])
    if (date !== undefined && !readNumericDate(date).ok) return refuse('bad_numeric_date', slot)
  if (typeof exp === 'number' && exp <= now) return refuse('expired', slot)
  if (typeof nbf === 'number' && nbf > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', slot)
  const known = typeof challenge === 'string' && challenges.isOurs(challenge)
  if (challenge === undefined ? challengeRequired : !known) return refuse('attestation_challenge', slot)
  return ok({
    id: `pop:${digestOf([holder.jkt, jti])}`,
    // For as long as it could be accepted, also by a replica whose clock is behind.
    expiresAt: made.value + proofLifetimeSeconds + CLOCK_LEEWAY_SECONDS,
    issuedAt: made.value,
  })
}

/** draft-ietf-wimse-wpt §2. No access or transaction token travels in our headers: a proof of one is for another request. */
function readWorkloadProof(
  { now: clock, proofLifetimeSeconds }: ProofDeps,
  held: HeldToken,
  text: string,
  holder: HolderKey,
  slot: EvidenceSlot,
): Result<OneUse> {
  const now = clock()
  const opened = openProof(text, TYP.workloadProof, holder, slot)
  if (!opened.ok) return opened
  const { aud, exp, iat, nbf, jti, wth, ath, tth, oth } = opened.value.payload
  const target = typeof aud === 'string' ? targetOf(aud) : undefined
  if (target === undefined || target !== targetOf(held.url)) {
    return refuse('wrong_audience', slot, { detail: 'aud must be the URL of this endpoint' })
  }
  if (wth !== accessTokenHash(held.token) || ath !== undefined || tth !== undefined || oth !== undefined) {
    return refuse('context_mismatch', slot, { detail: 'the proof is made for another token' })
  }
  if (typeof jti !== 'string' || !JTI.test(jti)) return refuse('bad_claim', slot, { detail: 'jti is required' })
  const ends = readNumericDate(exp)
  if (!ends.ok) return refuse(ends.fault, slot)
  if (ends.value <= now) return refuse('expired', slot)
  for (const date of [iat, nbf]) {
    if (date === undefined) continue
    const read = readNumericDate(date)
    if (!read.ok) return refuse(read.fault, slot)
    if (read.value > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', slot)
  }
  if (ends.value > now + proofLifetimeSeconds + CLOCK_LEEWAY_SECONDS) {
    return refuse('evidence_lifetime', slot, { detail: `a proof may live ${proofLifetimeSeconds} s at most` })
  }
  return ok({
    id: `wpt:${digestOf([holder.jkt, jti])}`,
    expiresAt: ends.value + CLOCK_LEEWAY_SECONDS,
    // Where it does not say, as early as it could be.
    issuedAt: typeof iat === 'number' ? iat : ends.value - proofLifetimeSeconds,
  })
}
