/** Tokens by which others vouch for an agent, and the proofs of the keys in them: good unless told otherwise. */
import { createHash, randomUUID } from 'node:crypto'
import { type JWK, SignJWT } from 'jose'
import { ISSUER, type SigningKey } from './house.ts'
import { NOW } from './pki.ts'

type Change = Record<string, unknown>

/** `undefined` takes a member out. */
export const sign = (key: SigningKey, claims: Change, header: Change): Promise<string> =>
  new SignJWT(JSON.parse(JSON.stringify(claims)) as Change)
    .setProtectedHeader({ alg: String(key.jwk.alg), ...(JSON.parse(JSON.stringify(header)) as Change) })
    .sign(key.privateKey)

export const publicOf = ({ jwk }: SigningKey): JWK => {
  const { kid: _, ...rest } = jwk
  return rest
}

export const CLUSTER = 'https://kubernetes.default.svc.cluster.local'
/** As a Kubernetes API server writes it into a projected volume. */
export const serviceAccountToken = (key: SigningKey, claims: Change = {}, header: Change = {}): Promise<string> =>
  sign(
    key,
    {
      iss: CLUSTER,
      sub: 'system:serviceaccount:agents:research',
      aud: [ISSUER],
      iat: NOW - 5,
      nbf: NOW - 5,
      exp: NOW + 3500,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace: 'agents',
        node: { name: 'node-1', uid: 'n-1' },
        pod: { name: 'research-0', uid: 'p-1' },
        serviceaccount: { name: 'research', uid: 's-1' },
      },
      ...claims,
    },
    { kid: key.jwk.kid, ...header },
  )

export const attestation = (
  attester: SigningKey,
  holder: SigningKey,
  claims: Change = {},
  header: Change = {},
): Promise<string> =>
  sign(
    attester,
    { sub: 'research', iat: NOW - 5, exp: NOW + 3600, cnf: { jwk: publicOf(holder) }, ...claims },
    { typ: 'oauth-client-attestation+jwt', kid: attester.jwk.kid, ...header },
  )

export const attestationProof = (
  holder: SigningKey,
  challenge: string | undefined,
  claims: Change = {},
  header: Change = {},
): Promise<string> =>
  sign(
    holder,
    { aud: ISSUER, jti: randomUUID(), iat: NOW, challenge, ...claims },
    { typ: 'oauth-client-attestation-pop+jwt', ...header },
  )

export const witSvid = (issuer: SigningKey, holder: SigningKey, claims: Change = {}, header: Change = {}) =>
  sign(
    issuer,
    {
      sub: 'spiffe://company.example/agents/research',
      iat: NOW - 5,
      exp: NOW + 3600,
      jti: randomUUID(),
      cnf: { jwk: publicOf(holder) },
      ...claims,
    },
    { typ: 'wit+jwt', kid: issuer.jwk.kid, ...header },
  )

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url')

export const workloadProof = (holder: SigningKey, wit: string, url: string, claims: Change = {}, header: Change = {}) =>
  sign(
    holder,
    { aud: url, exp: NOW + 60, jti: randomUUID(), wth: sha256(wit), ...claims },
    { typ: 'wpt+jwt', ...header },
  )
