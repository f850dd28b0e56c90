/**
 * Evidence of tier `key`: a client certificate of RFC 8705. `tls_client_auth` (§2.1) is a valid path to an authority of
 * the agent's own registration and the one name registered there; `self_signed_tls_client_auth` (§2.2) is exactly one
 * of the registered certificates, whoever signed it.
 */
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import type { Attestor, Evidence, Proven } from './attestor.ts'
import type { AgentRegistration } from './registration.ts'
import { createRemembered, digestOf } from './remembered.ts'
import {
  type Certificate,
  KEY_USAGE,
  MAX_CERTIFICATE_BYTES,
  parseCertificate,
  type X509Fault,
} from './x509/certificate.ts'
import { type ExpectedName, hasName } from './x509/expected-name.ts'
import { keyObject } from './x509/keys.ts'
import { MAX_PATH_CERTIFICATES, PURPOSE, validatePath } from './x509/path.ts'

/** What a registration says of `tls_client_auth`. */
export interface TlsClientAuth {
  /** DER: the authorities that may certify this agent, and no other. */
  readonly anchors: readonly Uint8Array[]
  readonly name: ExpectedName
}

/** A certificate of `self_signed_tls_client_auth`, read when the configuration was. */
export interface OwnCertificate {
  /** SHA-256 of the whole, base64url. */
  readonly thumbprint: string
  readonly notBefore: number
  readonly notAfter: number
  /** RFC 7638 thumbprint of its key. */
  readonly keyThumbprint: string
}

export function readOwnCertificate(der: Uint8Array): OwnCertificate | string {
  const certificate = parseCertificate(der)
  if (!certificate.ok) return `a certificate in it cannot be read (${certificate.fault})`
  const { thumbprint, notBefore, notAfter } = certificate.value
  const keyThumbprint = keyThumbprintOf(certificate.value)
  if (keyThumbprint === undefined) return 'the key of a certificate in it is too weak or unsupported'
  return { thumbprint, notBefore, notAfter, keyThumbprint }
}

/** Why a certificate cannot be an authority of `tls_client_auth`; undefined where it can. */
export function authorityProblem(der: Uint8Array): string | undefined {
  const certificate = parseCertificate(der)
  if (!certificate.ok) return `a certificate in it cannot be read (${certificate.fault})`
  if (!certificate.value.ca) return 'a certificate in it is no CA'
  return certificate.value.key.family === undefined
    ? 'the key of a certificate in it is too weak or unsupported'
    : undefined
}

interface Deps {
  readonly now: () => number
  readonly agents: { byClientId(clientId: string): AgentRegistration | undefined }
}

const MAX_REMEMBERED = 10_000

interface Validated {
  readonly by: TlsClientAuth
  readonly proven: Omit<Proven, 'agent'>
  readonly notBefore: number
  readonly notAfter: number
}

export function createTlsClientAuth(deps: Deps): Attestor {
  /** Exact bytes under one registration → what they proved. */
  const valid = createRemembered<Validated>(MAX_REMEMBERED)

  const validate = (chain: readonly Uint8Array[], by: TlsClientAuth): Validated | X509Fault => {
    const [leaf, ...intermediates] = chain
    const parsed = parseCertificate(leaf!)
    if (!parsed.ok) return parsed.fault
    const { ca, keyUsage, thumbprint, notBefore: issuedAt } = parsed.value
    if (ca) return 'x509_ca'
    if (keyUsage !== undefined && (keyUsage.bits & KEY_USAGE.digitalSignature) === 0) return 'x509_key_usage'
    const path = validatePath({
      leaf: leaf!,
      intermediates,
      anchors: by.anchors,
      now: deps.now(),
      purpose: PURPOSE.clientAuth,
    })
    if (!path.ok) return path.fault
    if (!hasName(parsed.value, by.name)) return 'x509_subject'
    const keyThumbprint = keyThumbprintOf(parsed.value)
    if (keyThumbprint === undefined) return 'x509_policy'
    const {
      leaf: { subject },
      authorities,
      notBefore,
      notAfter,
    } = path.value
    // Valid through notAfter (RFC 5280 §4.1.2.5), so it stops counting one second later.
    const life = { expiresAt: notAfter + 1, issuedAt }
    // A name that passes to another agent begins a new life there, as a SPIFFE id does: the certificate's own name from
    // each authority that vouched for it, however the registration spells the one and whichever of the others it names.
    const { form, value } = by.name
    const name = form === 'subject_dn' ? subject.bytes : value
    const principals = authorities.map(
      (by) => `tls_client_auth:${digestOf([form, name, by.subject.bytes, by.key.spki])}`,
    )
    const proven = { ...life, keyThumbprint, certificateThumbprint: thumbprint, principals }
    return { by, notBefore, notAfter, proven }
  }

  return {
    kind: 'tls_client_auth',
    tier: 'key',
    verify: (evidence) => {
      const presented = presentedBy(deps, evidence)
      if (!presented.ok) return presented
      const { slot } = evidence
      const { agent, chain } = presented.value
      const by = agent.tlsClientAuth
      if (by === undefined) return refuse('evidence_not_registered', slot)
      const now = deps.now()
      const digest = digestOf([agent.clientId, ...chain])
      const known = valid.get(digest)
      // The registration is another object after each reload, and then all is judged anew.
      const remembered = known?.by === by ? known : undefined
      // It was good earlier on this connection; a connection kept alive does not keep its certificate alive.
      if (remembered && outside(remembered, now)) return refuse('peer_invalid', slot)
      const verdict = remembered ?? validate(chain, by)
      if (typeof verdict === 'string') return refuse(verdict, slot)
      valid.put(digest, verdict)
      return ok({ agent, ...verdict.proven })
    },
  }
}

export function createSelfSignedTlsClientAuth(deps: Deps): Attestor {
  const seen = createRemembered<true>(MAX_REMEMBERED)

  return {
    kind: 'self_signed_tls_client_auth',
    tier: 'key',
    verify: (evidence) => {
      const presented = presentedBy(deps, evidence)
      if (!presented.ok) return presented
      const { slot } = evidence
      const { agent, chain } = presented.value
      const leaf = parseCertificate(chain[0]!)
      if (!leaf.ok) return refuse(leaf.fault, slot)
      // §2.2: the handshake proves the key; which certificate it is decides, and nothing that stands in it.
      const own = agent.ownCertificates?.find(({ thumbprint }) => thumbprint === leaf.value.thumbprint)
      if (own === undefined) return refuse('x509_untrusted', slot)
      const digest = digestOf([agent.clientId, own.thumbprint])
      if (outside(own, deps.now())) {
        return refuse(seen.get(digest) ? 'peer_invalid' : 'x509_validity', slot)
      }
      seen.put(digest, true)
      return ok({
        agent,
        expiresAt: own.notAfter + 1,
        issuedAt: own.notBefore,
        keyThumbprint: own.keyThumbprint,
        certificateThumbprint: own.thumbprint,
      })
    },
  }
}

function presentedBy(
  { agents }: Deps,
  { slot, chain = [], clientId }: Evidence,
): Result<{ agent: AgentRegistration; chain: readonly Uint8Array[] }> {
  if (chain.length === 0) return refuse('client_auth_required', slot)
  if (chain.length > MAX_PATH_CERTIFICATES || chain.some((der) => der.length > MAX_CERTIFICATE_BYTES)) {
    return refuse('x509_policy', slot)
  }
  // RFC 8705 §2: the client is the one that client_id names; the certificate must then be that client's.
  const agent = clientId === undefined ? undefined : agents.byClientId(clientId)
  return agent === undefined ? refuse('unknown_client', slot) : ok({ agent, chain })
}

const outside = ({ notBefore, notAfter }: { notBefore: number; notAfter: number }, now: number): boolean =>
  now < notBefore || now > notAfter

function keyThumbprintOf({ key }: Certificate): string | undefined {
  const object = key.family === undefined ? undefined : keyObject(key)
  return object && jwkThumbprint({ ...object.export({ format: 'jwk' }) })
}
