/** Evidence of agents for whom others vouch: their platform, an attester, or SPIFFE with a key of the workload's own. */
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Credential, type Evidence, type PresentContext, type Provided, provided } from './evidence.ts'
import { type PrivateJwk, readPrivateKey, sha256 } from './jws.ts'
import { opaque } from './opaque.ts'

/**
 * A token that the platform gives to its workloads: a Kubernetes projected service-account token, a GitHub or GitLab job
 * token, a cloud's identity token. Its audience is the issuer; tier `platform`.
 *
 * @example
 * ```ts
 * import { createAgent, workloadToken } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'https://errand.example.com',
 *   evidence: workloadToken({ file: '/var/run/secrets/errand/token' }),
 * })
 * ```
 */
export function workloadToken(
  source:
    | {
        /** Read anew for each request: the platform renews it. */
        readonly file: string
      }
    | { readonly token: Provided<string> },
): Evidence {
  const read = 'file' in source ? () => readFile(source.file, 'utf8') : () => provided(source.token)
  return opaque('Evidence', () => ({ kind: 'workload_oidc' }), {
    kind: 'workload_oidc' as const,
    async present(): Promise<Credential> {
      const jwt = (await read()).trim()
      return { assertion: { type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer', jwt } }
    },
  })
}

/**
 * A client attestation (draft-ietf-oauth-attestation-based-client-auth) with the key that it attests: each DPoP proof is
 * made by that key and stands for its proof too, and tokens are bound to it.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { clientAttestation, createAgent } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'https://errand.example.com',
 *   evidence: clientAttestation({
 *     attestation: () => readFile('/run/agent/attestation.jwt', 'utf8'),
 *     key: await readFile('/run/agent/instance.jwk', 'utf8'),
 *   }),
 * })
 * ```
 */
export function clientAttestation(options: {
  /** Give a function where the attester renews it; the key stays the same. */
  readonly attestation: Provided<string>
  /** A private JWK, or the contents of a JWK or PEM file: EC P-256 or Ed25519. */
  readonly key: PrivateJwk | string
}): Evidence {
  const proofKey = readPrivateKey(options.key)
  return opaque('Evidence', () => ({ kind: 'client_attestation', thumbprint: proofKey.thumbprint }), {
    kind: 'client_attestation' as const,
    proofKey,
    async present(): Promise<Credential> {
      return { headers: { 'oauth-client-attestation': (await provided(options.attestation)).trim() } }
    },
  })
}

const PROOF_LIFETIME_SECONDS = 30

/**
 * A SPIFFE WIT-SVID with the workload's key, which makes a proof token for each request (draft-ietf-wimse-wpt). Tokens
 * are bound to a DPoP key of their own, so the SVID and its key may rotate; tier `platform`.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { createAgent, witSvid } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'https://errand.example.com',
 *   evidence: witSvid({
 *     read: async () => ({
 *       svid: await readFile('/run/spire/wit.jwt', 'utf8'),
 *       key: await readFile('/run/spire/wit.jwk', 'utf8'),
 *     }),
 *   }),
 * })
 * ```
 */
export function witSvid(options: {
  /** Both together, for each request: one is no use without the other. */
  readonly read: () => Promise<{ readonly svid: string; readonly key: PrivateJwk | string }>
}): Evidence {
  return opaque('Evidence', () => ({ kind: 'wit_svid' }), {
    kind: 'wit_svid' as const,
    async present({ now, url }: PresentContext): Promise<Credential> {
      const { svid, key } = await options.read()
      const wit = svid.trim()
      const { origin, pathname } = new URL(url)
      const proof = readPrivateKey(key).sign(
        { typ: 'wpt+jwt' },
        {
          aud: `${origin}${pathname}`,
          exp: Math.floor(now) + PROOF_LIFETIME_SECONDS,
          jti: randomUUID(),
          wth: sha256(wit),
        },
      )
      return { headers: { 'workload-identity-token': wit, 'workload-proof-token': proof } }
    },
  })
}
