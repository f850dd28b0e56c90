/**
 * Evidence of tier `platform`: a JWT-SVID (SPIFFE JWT-SVID §4, draft-ietf-oauth-spiffe-client-auth). It is standing
 * evidence without a key in it, so it belongs to the first proof key that comes with it.
 */
import { checkHeader, type HeaderRule, type ParsedJws } from '@errand/verifier/jws.ts'
import type { JsonValue } from '@errand/verifier/strict-json.ts'
import type { JWK } from 'jose'
import { ok, refuse } from '../oauth/refusal.ts'
import { type AgentLookup, type Attestor, readLife } from './attestor.ts'
import { JWT_SVID_ALGS } from './bundle.ts'
import { readMeasurements } from './release.ts'
import { createRemembered, digestOf, ownText } from './remembered.ts'
import { readSpiffeId } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'
import { createVerifyKeys } from './verify-keys.ts'

/** §2.2, §2.3. Which key is meant must be said: keys are found by (trust domain, kid). */
const HEADER: HeaderRule = { typ: ['jwt', 'jose'], typOptional: true, algs: JWT_SVID_ALGS, kid: 'required' }
const MAX_JWT_SVID_LIFETIME_SECONDS = 3600
const MAX_REMEMBERED = 10_000

export function createJwtSvid(deps: {
  readonly now: () => number
  readonly issuer: string
  readonly agents: AgentLookup
  readonly trustDomains: (name: string) => TrustDomain | undefined
}): Attestor {
  const keys = createVerifyKeys({ algs: JWT_SVID_ALGS })
  /** By its id: the signature that was found good, to the character, and the key under which it was. */
  const good = createRemembered<{ readonly signature: string; readonly under: JWK }>(MAX_REMEMBERED)
  /** The ids of those that come again. */
  const ids = new WeakMap<ParsedJws, string>()
  // The signing input and not the text: another encoding of the signature is the same evidence.
  const idOf = (jws: ParsedJws): string => ids.get(jws) ?? `jwt-svid:${digestOf([jws.signingInput])}`
  const signatureOf = ({ text, signingInput }: ParsedJws): string => text.slice(signingInput.length + 1)

  return {
    kind: 'jwt_svid',
    tier: 'platform',
    verify: ({ slot, jws }) => {
      if (jws === undefined) return refuse('client_auth_required', slot)
      const header = checkHeader(jws.header, HEADER)
      if (!header.ok) return refuse(header.fault, slot)
      const id = readSpiffeId(jws.payload['sub'], deps.trustDomains)
      if (!id.ok) return refuse(id.fault, slot)
      const { trustDomain } = id.value
      const jwk = trustDomain.jwtKeys.find(({ kid }) => kid === header.value.kid)
      const standing = idOf(jws)
      const before = jwk === undefined ? undefined : good.get(standing)
      const remembered = before !== undefined && before.under === jwk && before.signature === signatureOf(jws)
      if (remembered) ids.set(jws, standing)
      else {
        const verdict = keys.check(jws, jwk)
        if (jwk === undefined) return refuse('unknown_kid', slot)
        if (verdict !== 'good') return refuse(verdict, slot)
      }

      if (!isSoleAudience(jws.payload['aud'], deps.issuer)) {
        return refuse('assertion_audience', slot, { detail: 'aud must be the issuer identifier and nothing else' })
      }
      const life = readLife(jws.payload, { now: deps.now(), maxLifetimeSeconds: MAX_JWT_SVID_LIFETIME_SECONDS, slot })
      // Recorded as verified, and run out since.
      if (!life.ok) return remembered && life.refusal.reason === 'expired' ? refuse('attestation_expired', slot) : life
      if (jwk !== undefined && !remembered) good.put(standing, { signature: ownText(signatureOf(jws)), under: jwk })
      const agent = deps.agents.bySpiffeId(id.value.id)
      if (agent === undefined) return refuse('unknown_client', slot)
      const measured = readMeasurements(jws.payload, trustDomain.imageDigestClaim, slot)
      if (!measured.ok) return measured
      return ok({
        agent,
        ...life.value,
        alsoCalled: agent.spiffeId, // draft-ietf-oauth-spiffe-client-auth §3
        standingId: standing,
        ...measured.value,
      })
    },
  }
}

/** SPIRE writes an array also for one value; a second value would let the other audience use it here (§6.2). */
const isSoleAudience = (aud: JsonValue | undefined, issuer: string): boolean =>
  aud === issuer || (Array.isArray(aud) && aud.length === 1 && aud[0] === issuer)
