/**
 * Evidence of tier `platform`: an OIDC token that a platform gives to its workload (a Kubernetes projected service-account
 * token, a CI system's or a cloud's identity token). Standing evidence without a key in it, so it belongs to the first
 * proof key that comes with it. Which kind of issuer signed it, the configuration says and nothing in the token.
 */
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { checkHeader } from '@errand/verifier/jws.ts'
import { SIGNATURE_ALGS } from '@errand/verifier/signature.ts'
import type { JsonValue } from '@errand/verifier/strict-json.ts'
import type { JWK } from 'jose'
import { ok, refuse } from '../oauth/refusal.ts'
import { type AgentLookup, type Attestor, readLife } from './attestor.ts'
import { readMeasurements } from './release.ts'
import { createRemembered, digestOf } from './remembered.ts'
import { createVerifyKeys } from './verify-keys.ts'
import type { WorkloadIssuer } from './workload-issuer.ts'

const MAX_REMEMBERED = 10_000

export function createWorkloadOidc(deps: {
  readonly now: () => number
  readonly agents: Pick<AgentLookup, 'byWorkload'>
  readonly workloadIssuers: (iss: string) => WorkloadIssuer | undefined
}): Attestor {
  const keys = createVerifyKeys({ algs: SIGNATURE_ALGS })
  /** Exact bytes, signature included → the key under which the signature was found good. */
  const good = createRemembered<JWK>(MAX_REMEMBERED)

  return {
    kind: 'workload_oidc',
    tier: 'platform',
    verify: async ({ slot, jws }) => {
      if (jws === undefined) return refuse('client_auth_required', slot)
      const { payload } = jws
      const issuer = typeof payload['iss'] === 'string' ? deps.workloadIssuers(payload['iss']) : undefined
      if (issuer === undefined) return refuse('untrusted_issuer', slot)
      // Issuers in use write `JWT` or nothing; which key is meant must be said (B: by issuer and kid).
      const header = checkHeader(jws.header, {
        typ: ['jwt'],
        typOptional: true,
        algs: issuer.algorithms,
        kid: 'required',
      })
      if (!header.ok) return refuse(header.fault, slot)
      const jwk = await issuer.keys(header.value.kid!)
      const digest = digestOf([jws.text])
      const remembered = jwk !== undefined && good.get(digest) === jwk
      if (!remembered) {
        const verdict = keys.check(jws, jwk)
        if (jwk === undefined) return refuse('unknown_kid', slot)
        if (verdict !== 'good') return refuse(verdict, slot)
      }

      const audience = soleAudience(payload['aud'])
      if (audience === undefined || !issuer.audiences.includes(audience)) {
        return refuse('assertion_audience', slot, {
          detail: 'aud must be the audience that is registered for this issuer',
        })
      }
      const { maxLifetimeSeconds } = issuer
      const life = readLife(payload, { now: deps.now(), maxLifetimeSeconds, slot })
      // Recorded as verified, and run out since.
      if (!life.ok) return remembered && life.refusal.reason === 'expired' ? refuse('attestation_expired', slot) : life
      const sub = readSubjectText(payload['sub'])
      if (!sub.ok) return refuse(sub.fault, slot)
      if (jwk !== undefined) good.put(digest, jwk)
      const match = deps.agents.byWorkload(issuer.issuer, payload)
      if (match === undefined) return refuse('unknown_client', slot)
      const measured = readMeasurements(payload, issuer.imageDigestClaim, slot)
      if (!measured.ok) return measured
      // The last of all: only a good token of a registered agent makes us ask.
      const reviewed = await issuer.review?.({ token: jws.text, audience, subject: sub.value, slot })
      if (reviewed?.ok === false) return reviewed
      const standingId = `workload:${digestOf([jws.signingInput])}`
      return ok({ ...match, ...life.value, ...measured.value, standingId })
    },
  }
}

/** A second audience could use the token here as well. */
function soleAudience(aud: JsonValue | undefined): string | undefined {
  const only = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud
  return typeof only === 'string' ? only : undefined
}
