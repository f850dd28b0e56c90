/**
 * A client assertion by a registered key (RFC 7523bis): one use, our issuer as its sole audience, and the same work
 * and the same answer whether the client is unknown, its key is, or the signature is wrong.
 */
import { checkHeader, type HeaderRule, type ParsedJws } from '@errand/verifier/jws.ts'
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import type { JWK } from 'jose'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { type EvidenceSlot, readLife } from './attestor.ts'
import { RELEASE_ID } from './release-manifest.ts'
import { digestOf } from './remembered.ts'
import { createVerifyKeys } from './verify-keys.ts'

const ALGS = ['ES256', 'EdDSA'] as const
const HEADER: HeaderRule = {
  typ: ['jwt', TYP.clientAuthentication], // RFC 7523bis §4
  typOptional: true,
  algs: ALGS,
  kid: 'optional',
}
const MAX_ASSERTION_LIFETIME_SECONDS = 300
const JTI = /^[\x21-\x7e]{1,256}$/

export interface VerifiedAssertion<C> {
  readonly client: C
  readonly expiresAt: number
  readonly issuedAt?: number
  readonly oneUse: { readonly id: string; readonly expiresAt: number; readonly issuedAt?: number }
  /** RFC 7638 thumbprint of the key that signed it. */
  readonly keyThumbprint: string
  /** Id of the release that the client says it is. */
  readonly statedRelease?: string
}

interface HoldsKeys {
  readonly clientId: string
  readonly keys: readonly JWK[]
}

export interface ClientAssertions {
  verify<C extends HoldsKeys>(
    jws: ParsedJws,
    slot: EvidenceSlot,
    clientOf: (clientId: string) => C | undefined,
  ): Result<VerifiedAssertion<C>>
}

export function createClientAssertions(deps: {
  readonly now: () => number
  readonly issuer: string
}): ClientAssertions {
  const keys = createVerifyKeys({ algs: ALGS })

  return {
    verify: (jws, slot, clientOf) => {
      const header = checkHeader(jws.header, HEADER)
      if (!header.ok) return refuse(header.fault, slot)
      const { payload } = jws
      const sub = readSubjectText(payload['sub'])
      if (!sub.ok) return refuse(sub.fault, slot)

      const client = clientOf(sub.value)
      const jwk = client && keyFor(client.keys, header.value.kid)
      const verdict = keys.check(jws, jwk)
      if (client === undefined) return refuse('unknown_client', slot)
      if (jwk === undefined) return refuse('unknown_kid', slot)
      if (verdict !== 'good') return refuse(verdict, slot)

      // RFC 7523 §3: for client authentication issuer and subject are the client.
      if (payload['iss'] !== sub.value)
        return refuse('untrusted_issuer', slot, { detail: 'iss and sub must both be the client_id' })
      // RFC 7523bis §4: the issuer identifier alone, as a string.
      if (payload['aud'] !== deps.issuer) {
        return refuse('assertion_audience', slot, { detail: 'aud must be the issuer identifier, one string' })
      }
      const life = readLife(payload, { now: deps.now(), maxLifetimeSeconds: MAX_ASSERTION_LIFETIME_SECONDS, slot })
      if (!life.ok) return life
      const { jti } = payload
      if (typeof jti !== 'string' || !JTI.test(jti)) return refuse('bad_claim', slot, { detail: 'jti is required' })
      const { release } = payload
      if (release !== undefined && (typeof release !== 'string' || !RELEASE_ID.test(release))) {
        return refuse('bad_claim', slot, { detail: 'release is the id of a release: 22 characters of base64url' })
      }
      return ok({
        client,
        ...life.value,
        // By (iss, jti): the same assertion under another encoding of its signature is the same assertion.
        oneUse: {
          id: `assertion:${digestOf([sub.value, jti])}`,
          expiresAt: life.value.expiresAt + CLOCK_LEEWAY_SECONDS,
          ...(life.value.issuedAt === undefined ? {} : { issuedAt: life.value.issuedAt }),
        },
        keyThumbprint: jwkThumbprint({ ...jwk }),
        ...(release === undefined ? {} : { statedRelease: release }),
      })
    },
  }
}

/** Without a kid, the only key; with several there is no telling which is meant. */
function keyFor(keys: readonly JWK[], kid: string | undefined): JWK | undefined {
  if (kid === undefined) return keys.length === 1 ? keys[0] : undefined
  return keys.find((key) => key.kid === kid)
}
