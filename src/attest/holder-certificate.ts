/**
 * A client certificate as proof of a key and of nothing else (RFC 8705 §3): standing evidence that comes without a DPoP
 * proof belongs to the first certificate seen with it, whoever signed that one.
 */
import { createRemembered, digestOf } from './remembered.ts'
import { MAX_CERTIFICATE_BYTES, parseCertificate } from './x509/certificate.ts'

const MAX_REMEMBERED = 10_000

/** Its thumbprint (RFC 8705 §3.1), where it can be read, is valid now and has a key that is strong enough. */
export type HolderCertificate = (chain: readonly Uint8Array[] | undefined) => string | undefined

export function createHolderCertificate({ now }: { readonly now: () => number }): HolderCertificate {
  const known = createRemembered<{ thumbprint: string; notBefore: number; notAfter: number }>(MAX_REMEMBERED)

  return (chain) => {
    const leaf = chain?.[0]
    if (leaf === undefined || leaf.length > MAX_CERTIFICATE_BYTES) return undefined
    const digest = digestOf([leaf])
    let certificate = known.get(digest)
    if (certificate === undefined) {
      const parsed = parseCertificate(leaf)
      if (!parsed.ok || parsed.value.key.family === undefined) return undefined
      const { thumbprint, notBefore, notAfter } = parsed.value
      certificate = { thumbprint, notBefore, notAfter }
      known.put(digest, certificate)
    }
    // On each request: a connection kept alive does not keep its certificate alive.
    return now() < certificate.notBefore || now() > certificate.notAfter ? undefined : certificate.thumbprint
  }
}
