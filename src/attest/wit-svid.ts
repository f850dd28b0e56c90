/**
 * Evidence of tier `platform` with a key in it: a SPIFFE WIT-SVID (a Workload Identity Token of
 * draft-ietf-wimse-workload-creds), and the proof of its key: by a Workload Proof Token, by the proof of a client
 * attestation (draft-ietf-oauth-spiffe-client-auth), or by the DPoP proof of the request.
 */
import { checkHeader, type HeaderRule } from '@errand/verifier/jws.ts'
import type { JWK } from 'jose'
import { ok, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { type AgentLookup, type Attestor, readLife } from './attestor.ts'
import { JWT_SVID_ALGS } from './bundle.ts'
import { type HolderKey, type ProofDeps, proofOf, readHolderKey } from './held-token.ts'
import { readMeasurements } from './release.ts'
import { createRemembered, digestOf } from './remembered.ts'
import { readSpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'
import { createVerifyKeys } from './verify-keys.ts'

/** WIT-SVID §2: a kid and a type are required, and the algorithms are those of JWT-SVIDs. */
const HEADER: HeaderRule = { typ: [TYP.workloadIdentity], algs: JWT_SVID_ALGS, kid: 'required' }
/** Its key makes it live as long as an X.509-SVID may (WIT-SVID, Appendix C). */
const MAX_WIT_SVID_LIFETIME_SECONDS = 25 * 3600
const MAX_REMEMBERED = 10_000

export function createWitSvid(
  deps: ProofDeps & {
    readonly agents: Pick<AgentLookup, 'bySpiffeId'>
    readonly trustDomains: (name: string) => TrustDomain | undefined
  },
): Attestor {
  const keys = createVerifyKeys({ algs: JWT_SVID_ALGS })
  /** Exact bytes, signature included → the key under which the signature was found good, and the holder's. */
  const good = createRemembered<{ readonly under: JWK; readonly holder: HolderKey }>(MAX_REMEMBERED)

  return {
    kind: 'wit_svid',
    tier: 'platform',
    verify: ({ slot, jws, held }) => {
      if (jws === undefined || held === undefined) return refuse('client_auth_required', slot)
      const header = checkHeader(jws.header, HEADER)
      if (!header.ok) return refuse(header.fault, slot)
      const { payload } = jws
      const id = readSpiffeId(payload['sub'], deps.trustDomains)
      if (!id.ok) return refuse(id.fault, slot)
      const jwk = id.value.trustDomain.witKeys.find(({ kid }) => kid === header.value.kid)
      const digest = digestOf([jws.text])
      const known = good.get(digest)
      const remembered = known !== undefined && known.under === jwk ? known : undefined
      if (remembered === undefined) {
        const verdict = keys.check(jws, jwk)
        if (jwk === undefined) return refuse('unknown_kid', slot)
        if (verdict !== 'good') return refuse(verdict, slot)
      }
      // §3.8: its proof says whom it is for; with an audience it would be another kind of token.
      if (payload['aud'] !== undefined) return refuse('bad_claim', slot, { detail: 'a WIT-SVID has no aud' })
      const life = readLife(payload, { now: deps.now(), maxLifetimeSeconds: MAX_WIT_SVID_LIFETIME_SECONDS, slot })
      // Recorded as verified, and run out since.
      if (!life.ok) return remembered && life.refusal.reason === 'expired' ? refuse('attestation_expired', slot) : life
      const holder = remembered
        ? ok(remembered.holder)
        : readHolderKey(payload['cnf'], slot, { algs: JWT_SVID_ALGS, algRequired: true })
      if (!holder.ok) return holder
      if (jwk !== undefined) good.put(digest, { under: jwk, holder: holder.value })
      const agent = deps.agents.bySpiffeId(id.value.id)
      if (agent === undefined) return refuse('unknown_client', slot)
      const measured = readMeasurements(payload, id.value.trustDomain.imageDigestClaim, slot)
      if (!measured.ok) return measured
      const standingId = `wit-svid:${digestOf([jws.signingInput])}`
      const proof = proofOf(deps, held, holder.value, { standingId, slot })
      if (!proof.ok) return proof
      return ok({
        agent,
        ...life.value,
        alsoCalled: agent.spiffeId, // draft-ietf-oauth-spiffe-client-auth §3
        ...proof.value,
        ...measured.value,
      })
    },
  }
}
