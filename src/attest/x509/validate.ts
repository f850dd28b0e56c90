/** An X.509-SVID: a valid path to an anchor of its own trust domain, and then the rules of SPIFFE X509-SVID §4, §5. */
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { type SpiffeIdFault, readSpiffeId } from '../spiffe-id.ts'
import type { TrustDomain } from '../trust-domain.ts'
import { type Certificate, KEY_USAGE, parseCertificate, type X509Fault } from './certificate.ts'
import { keyObject } from './keys.ts'
import { MAX_PATH_CERTIFICATES, PURPOSE, validatePath } from './path.ts'

export interface X509Svid {
  readonly spiffeId: string
  readonly trustDomain: TrustDomain
  /** RFC 7638 thumbprint of the certified key. */
  readonly spkiThumbprint: string
  /** SHA-256 of the certificate, base64url (RFC 8705 §3.1). */
  readonly thumbprint: string
  /** When the whole path is valid, Unix seconds, both ends included. */
  readonly notBefore: number
  readonly notAfter: number
  /** When the certificate itself was issued. */
  readonly issuedAt: number
}

export interface X509SvidQuestion {
  /** DER. */
  readonly leaf: Uint8Array
  readonly intermediates: readonly Uint8Array[]
  readonly trustDomains: (name: string) => TrustDomain | undefined
  /** Unix seconds. */
  readonly now: number
  /** What it must serve for; `clientAuth` by default. */
  readonly purpose?: string
}

export type X509SvidVerdict =
  | { readonly ok: true; readonly value: X509Svid }
  | { readonly ok: false; readonly fault: X509Fault | SpiffeIdFault }

export function validateX509Svid({
  leaf,
  intermediates,
  trustDomains,
  now,
  purpose,
}: X509SvidQuestion): X509SvidVerdict {
  const no = (fault: X509Fault | SpiffeIdFault) => ({ ok: false, fault }) as const
  if (intermediates.length + 1 > MAX_PATH_CERTIFICATES) return no('x509_policy')
  const parsed = parseCertificate(leaf)
  if (!parsed.ok) return no(parsed.fault)
  const fault = leafFault(parsed.value)
  if (fault !== undefined) return no(fault)
  const uri = onlyUri(parsed.value)
  if (uri === undefined) return no('x509_san')
  const id = readSpiffeId(uri, trustDomains)
  if (!id.ok) return no(id.fault === 'bad_subject' ? 'x509_san' : id.fault)

  const { trustDomain } = id.value
  const path = validatePath({
    leaf,
    intermediates,
    anchors: trustDomain.x509Anchors,
    now,
    purpose: purpose ?? PURPOSE.clientAuth,
  })
  if (!path.ok) return no(path.fault)
  const key = keyObject(parsed.value.key)
  if (key === undefined) return no('x509_policy')
  return {
    ok: true,
    value: {
      spiffeId: id.value.id,
      trustDomain,
      spkiThumbprint: jwkThumbprint({ ...key.export({ format: 'jwk' }) }),
      thumbprint: parsed.value.thumbprint,
      notBefore: path.value.notBefore,
      notAfter: path.value.notAfter,
      issuedAt: parsed.value.notBefore,
    },
  }
}

/** §4.1, §4.3: a leaf signs handshakes and nothing else; key usage is there and critical. */
function leafFault({ ca, keyUsage }: Certificate): X509Fault | undefined {
  if (ca) return 'x509_ca'
  if (keyUsage === undefined || !keyUsage.critical) return 'x509_key_usage'
  const { bits } = keyUsage
  if ((bits & KEY_USAGE.digitalSignature) === 0) return 'x509_key_usage'
  return (bits & (KEY_USAGE.keyCertSign | KEY_USAGE.cRLSign)) === 0 ? undefined : 'x509_key_usage'
}

/** §2: exactly one URI; names of other forms may stand beside it. */
function onlyUri({ alternativeNames }: Certificate): string | undefined {
  const uris = alternativeNames.flatMap((name) => (name.kind === 'uri' ? [name.value] : []))
  return uris.length === 1 ? uris[0] : undefined
}
