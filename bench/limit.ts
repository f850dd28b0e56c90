/**
 * What no implementation can leave out of our exchange: the cryptography of the same requests over bare node:http. One
 * signature, the DPoP proof by a known key (imported where it is new), evidence and subject token verified where they
 * are new, and the digests. Nothing is parsed or decided that the cryptography does not need.
 */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  hash,
  type JsonWebKey,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto'

export interface LimitKeys {
  readonly signing: JsonWebKey
  /** Public keys of whoever attests the agent, and of the user's issuer. */
  readonly evidence: JsonWebKey
  readonly subject: JsonWebKey
}

export function limitOf(keys: LimitKeys, answer: string): (body: string, proof: string) => string {
  const signing = createPrivateKey({ key: keys.signing, format: 'jwk' })
  const evidenceKey = createPublicKey({ key: keys.evidence, format: 'jwk' })
  const subjectKey = createPublicKey({ key: keys.subject, format: 'jwk' })
  const nonceKey = Buffer.alloc(32, 7)
  const payload = Buffer.from('c'.repeat(1000))
  const seen = new Set<string>()
  const proofKeys = new Map<string, KeyObject>()

  const holds = (token: string, key: KeyObject): void => {
    const end = token.lastIndexOf('.')
    const signature = Buffer.from(token.slice(end + 1), 'base64url')
    const input = Buffer.from(token.slice(0, end), 'latin1')
    if (!verify('sha256', input, { key, dsaEncoding: 'ieee-p1363' }, signature)) throw new Error('a bad signature')
  }
  const holdsOnce = (token: string, key: KeyObject): void => {
    const digest = hash('sha256', token, 'base64url')
    if (seen.has(digest)) return
    holds(token, key)
    if (seen.size > 10_000) seen.clear()
    seen.add(digest)
  }
  const proofKey = (header: string): KeyObject => {
    const known = proofKeys.get(header)
    if (known) return known
    const { jwk } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { jwk: JsonWebKey }
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    hash('sha256', JSON.stringify(jwk), 'base64url') // its thumbprint
    if (proofKeys.size > 10_000) proofKeys.clear()
    proofKeys.set(header, key)
    return key
  }
  const member = (body: string, name: string): string => {
    const start = body.indexOf(`${name}=`) + name.length + 1
    const end = body.indexOf('&', start)
    return body.slice(start, end < 0 ? undefined : end)
  }

  return (body, proof) => {
    holdsOnce(member(body, 'client_assertion'), evidenceKey)
    holdsOnce(member(body, 'subject_token'), subjectKey)
    holds(proof, proofKey(proof.slice(0, proof.indexOf('.'))))
    createHmac('sha256', nonceKey).update('a window and a client').digest()
    hash('sha256', payload, 'hex') // the leaf of its audit record
    sign('sha256', payload, { key: signing, dsaEncoding: 'ieee-p1363' })
    return answer
  }
}
