/** Evidence of tier `platform`: an X.509-SVID over mTLS (draft-ietf-oauth-spiffe-client-auth, RFC 8705 §2.1). */
import { ok, refuse } from '../oauth/refusal.ts'
import type { AgentLookup, Attestor } from './attestor.ts'
import { createRemembered, digestOf } from './remembered.ts'
import type { TrustDomain } from './trust-domain.ts'
import { MAX_CERTIFICATE_BYTES } from './x509/certificate.ts'
import { MAX_PATH_CERTIFICATES } from './x509/path.ts'
import { validateX509Svid, type X509Svid } from './x509/validate.ts'

/** A day, and an hour for issuers that date back. */
const MAX_X509_SVID_LIFETIME_SECONDS = 25 * 3600
const MAX_REMEMBERED = 10_000

export function createX509Svid(deps: {
  readonly now: () => number
  readonly agents: AgentLookup
  readonly trustDomains: (name: string) => TrustDomain | undefined
}): Attestor {
  const valid = createRemembered<X509Svid>(MAX_REMEMBERED)

  return {
    kind: 'x509_svid',
    tier: 'platform',
    verify: ({ slot, chain = [] }) => {
      const [leaf, ...intermediates] = chain
      if (leaf === undefined) return refuse('client_auth_required', slot)
      if (chain.length > MAX_PATH_CERTIFICATES || chain.some((der) => der.length > MAX_CERTIFICATE_BYTES)) {
        return refuse('x509_policy', slot)
      }
      const now = deps.now()
      const digest = digestOf(chain)
      let svid = valid.get(digest)
      if (svid !== undefined && deps.trustDomains(svid.trustDomain.name) !== svid.trustDomain) svid = undefined
      if (svid !== undefined && (now < svid.notBefore || now > svid.notAfter)) {
        // It was good earlier on this connection; a connection kept alive does not keep its certificate alive.
        return refuse('peer_invalid', slot)
      }
      if (svid === undefined) {
        const verdict = validateX509Svid({ leaf, intermediates, trustDomains: deps.trustDomains, now })
        if (!verdict.ok) return refuse(verdict.fault, slot)
        svid = verdict.value
        valid.put(digest, svid)
      }
      if (svid.notAfter - svid.issuedAt > MAX_X509_SVID_LIFETIME_SECONDS) {
        return refuse('evidence_lifetime', slot, {
          detail: `an X.509-SVID may live ${MAX_X509_SVID_LIFETIME_SECONDS} s at most`,
        })
      }
      const agent = deps.agents.bySpiffeId(svid.spiffeId)
      if (agent === undefined) return refuse('unknown_client', slot)
      return ok({
        agent,
        alsoCalled: agent.spiffeId, // draft-ietf-oauth-spiffe-client-auth §3
        // Valid through notAfter (RFC 5280 §4.1.2.5), so it stops counting one second later.
        expiresAt: svid.notAfter + 1,
        issuedAt: svid.issuedAt,
        keyThumbprint: svid.spkiThumbprint,
        certificateThumbprint: svid.thumbprint,
      })
    },
  }
}
