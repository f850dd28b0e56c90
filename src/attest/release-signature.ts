/** A signed release manifest: compact JWS (RFC 7515) over the canonical text, by a release signer of that agent. */
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { readCompactJws, checkHeader, type HeaderRule } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey } from '@errand/verifier/signature.ts'
import type { JWK } from 'jose'
import { TYP } from '../oauth/words.ts'
import { type Manifest, MANIFEST_BOUNDS, readManifest } from './release-manifest.ts'

const ALGS = ['ES256', 'EdDSA'] as const
const HEADER: HeaderRule = { typ: [TYP.release], algs: ALGS, kid: 'required' }
/** The text in base64url, and room for header and signature. */
export const MAX_SIGNED_BYTES = Math.ceil((MANIFEST_BOUNDS.bytes * 4) / 3) + 4096

export type SignedRelease =
  | {
      readonly ok: true
      readonly manifest: Manifest
      readonly id: string
      /** `kid` of the signer. */
      readonly signer: string
      /** Unix seconds. In the header: what is signed again a year later is the same release. */
      readonly signedAt: number
    }
  | { readonly ok: false; readonly why: string }

/** `signersOf` names the release signers of an agent; undefined where there is no such agent. */
export function readSignedRelease(
  text: string,
  signersOf: (agent: string) => readonly JWK[] | undefined,
): SignedRelease {
  const no = (why: string): SignedRelease => ({ ok: false, why })
  const jws = readCompactJws(text.trim(), { maxBytes: MAX_SIGNED_BYTES })
  if (!jws.ok) return no(`it is no compact JWS (${jws.fault})`)
  const header = checkHeader(jws.value.header, HEADER)
  if (!header.ok) return no(`its header is not that of a signed release (${header.fault})`)
  const signedAt = readNumericDate(jws.value.header['iat'])
  if (!signedAt.ok) return no('its header does not say when it was signed (iat)')
  // Whose keys may have signed it is in the manifest: read, and not yet believed.
  const read = readManifest(jws.value.payloadBytes)
  if (!read.ok) return no(`the manifest cannot be read: ${read.why}`)
  const { manifest, id } = read
  const signers = signersOf(manifest.agent)
  if (signers === undefined) return no(`there is no agent "${manifest.agent}" with release signers`)
  const jwk = signers.find(({ kid }) => kid === header.value.kid)
  if (jwk === undefined) return no(`the key ${header.value.kid} is no release signer of ${manifest.agent}`)
  const key = importVerifyKey(jwk, { algs: ALGS })
  if (!key.ok) return no(`the key ${header.value.kid} is not fit for use`)
  const good = checkSignature(jws.value, key.value)
  return good.ok
    ? { ok: true, manifest, id, signer: header.value.kid!, signedAt: signedAt.value }
    : no(`the signature does not hold (${good.fault})`)
}
