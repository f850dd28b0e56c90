/**
 * Evidence with a key in it: a client attestation (draft-ietf-oauth-attestation-based-client-auth-10) and the proof of
 * its key, by a JWT of its own or by the DPoP proof of the request (§5.2). The registration names attester and subject;
 * the attestation itself names no issuer since -08.
 */
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { checkHeader, type HeaderRule } from '@errand/verifier/jws.ts'
import { SIGNATURE_ALGS } from '@errand/verifier/signature.ts'
import type { JWK } from 'jose'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { type AgentLookup, type Attestor, type EvidenceSlot, type Life, readLife } from './attestor.ts'
import { type HolderKey, type ProofDeps, proofOf, readHolderKey } from './held-token.ts'
import { readMeasurements } from './release.ts'
import { createRemembered, digestOf } from './remembered.ts'
import { createVerifyKeys } from './verify-keys.ts'
import type { Attester } from './workload-issuer.ts'

/** What attesters sign with, by their keys' one algorithm each. */
export const ATTESTATION_ALGS = SIGNATURE_ALGS
/** What holders prove with: the same keys make DPoP proofs. */
export const HOLDER_ALGS = ['ES256', 'EdDSA'] as const
/** §4. Keys are found by (attester, kid): §8.6 leaves the way open, and ours is kid with what is registered. */
const HEADER: HeaderRule = { typ: [TYP.clientAttestation], algs: ATTESTATION_ALGS, kid: 'required' }
const MAX_REMEMBERED = 10_000

export function createClientAttestation(
  deps: ProofDeps & {
    readonly agents: Pick<AgentLookup, 'byAttestedSubject'>
    readonly attesters: (name: string) => Attester | undefined
  },
): Attestor {
  const keys = createVerifyKeys({ algs: ATTESTATION_ALGS })
  /** Exact bytes, signature included → the key under which the signature was found good, and the holder's. */
  const good = createRemembered<{ readonly under: JWK; readonly holder: HolderKey }>(MAX_REMEMBERED)

  return {
    kind: 'client_attestation',
    tier: 'key',
    verify: async ({ slot, jws, held }) => {
      if (jws === undefined || held === undefined) return refuse('client_auth_required', slot)
      const header = checkHeader(jws.header, HEADER)
      if (!header.ok) return refuse(header.fault, slot)
      const { payload } = jws
      const sub = readSubjectText(payload['sub'])
      if (!sub.ok) return refuse(sub.fault, slot)

      const named = deps.agents.byAttestedSubject(sub.value)
      const attester = named && deps.attesters(named.attester)
      const jwk = await attester?.keys(header.value.kid!)
      const digest = digestOf([jws.text])
      const known = good.get(digest)
      const remembered = known !== undefined && known.under === jwk ? known : undefined
      if (remembered === undefined) {
        const verdict = keys.check(jws, jwk)
        if (named === undefined || attester === undefined) return refuse('unknown_client', slot)
        if (jwk === undefined) return refuse('unknown_kid', slot)
        if (verdict !== 'good') return refuse(verdict, slot)
      }
      if (named === undefined || attester === undefined || jwk === undefined) return refuse('unknown_client', slot)

      if (payload['iss'] !== undefined && attester.issuer !== undefined && payload['iss'] !== attester.issuer) {
        return refuse('untrusted_issuer', slot)
      }
      const life = freshLife(deps.now(), payload, attester, slot)
      if (!life.ok) return life
      const holder = remembered ? ok(remembered.holder) : readHolderKey(payload['cnf'], slot, { algs: HOLDER_ALGS })
      if (!holder.ok) return holder
      good.put(digest, { under: jwk, holder: holder.value })
      const measured = readMeasurements(payload, attester.imageDigestClaim, slot)
      if (!measured.ok) return measured
      const standingId = `attestation:${digestOf([jws.signingInput])}`
      const proof = proofOf(deps, held, holder.value, { standingId, slot })
      if (!proof.ok) return proof
      return ok({
        agent: named.agent,
        ...life.value,
        tier: attester.tier,
        alsoCalled: sub.value, // §7.5: client_id and sub are one
        principals: [`client_attestation:${digestOf([attester.name, sub.value])}`],
        ...proof.value,
        ...measured.value,
      })
    },
  }
}

/** §7.1 step 6: what is no longer fresh is asked for anew, whether it ran out or the attester's word is worth less long. */
function freshLife(
  now: number,
  payload: Parameters<typeof readLife>[0],
  { maxLifetimeSeconds, maxAgeSeconds }: Attester,
  slot: EvidenceSlot,
): Result<Life> {
  const life = readLife(payload, { now, maxLifetimeSeconds, slot })
  if (!life.ok) return life.refusal.reason === 'expired' ? refuse('attestation_stale', slot) : life
  if (maxAgeSeconds === undefined) return life
  const { issuedAt } = life.value
  if (issuedAt === undefined) return refuse('attestation_stale', slot)
  if (issuedAt < now - maxAgeSeconds) return refuse('attestation_stale', slot)
  return ok({ issuedAt, expiresAt: Math.min(life.value.expiresAt, issuedAt + maxAgeSeconds + 1) })
}
