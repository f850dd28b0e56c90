/** How an agent proves what it is; one function per kind of evidence. */
import { randomUUID } from 'node:crypto'
import { badArgument } from './errors.ts'
import { type PrivateJwk, readPrivateKey, type SigningKey } from './jws.ts'
import { secureUrl } from './metadata.ts'
import { mtlsTransport } from './mtls.ts'
import { opaque } from './opaque.ts'
import type { Transport } from './transport.ts'

/** A value, or where to read it each time it is needed (SVIDs are short-lived and rotated). */
export type Provided<T> = T | (() => T | Promise<T>)

export interface Credential {
  /** `client_assertion_type` and `client_assertion`, where the evidence is an assertion. */
  readonly assertion?: { readonly type: string; readonly jwt: string }
  /** Header fields, where the evidence travels in its own. */
  readonly headers?: { readonly [name: string]: string }
  /** Where the evidence is the connection itself, the id it is claimed for. */
  readonly clientId?: string
}

export interface PresentContext {
  readonly issuer: string
  readonly now: number
  /** The endpoint that it is presented to. */
  readonly url: string
}

/** Made by `privateKeyJwt` and the functions beside it; shows nothing of what it holds. */
export interface Evidence {
  readonly kind:
    | 'private_key_jwt'
    | 'jwt_svid'
    | 'x509_svid'
    | 'join_token'
    | 'tls_client_auth'
    | 'workload_oidc'
    | 'client_attestation'
    | 'wit_svid'
  /** Fresh for each request: what is one-use is made anew. */
  present(context: PresentContext): Promise<Credential>
  /** Present where the evidence holds a key, and proofs must be made by it. */
  readonly proofKey?: SigningKey
  /** Present where the evidence is a client certificate. */
  readonly transport?: Transport
  /** Where mTLS is spoken, if not where the service's metadata says. */
  readonly mtlsEndpoint?: string
}

export const provided = async <T>(value: Provided<T>): Promise<T> =>
  typeof value === 'function' ? (value as () => T | Promise<T>)() : value

const ASSERTION_LIFETIME_SECONDS = 60

/**
 * A key registered for the agent (`private_key_jwt`, RFC 7523): tier `key`.
 *
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs'
 * import { createAgent, privateKeyJwt } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'http://127.0.0.1:4460',
 *   evidence: privateKeyJwt({ clientId: 'research', key: readFileSync('keys/agents/research.jwk', 'utf8') }),
 * })
 * ```
 */
export function privateKeyJwt(options: {
  readonly clientId: string
  /** A private JWK, or the contents of a JWK or PEM file: EC P-256 or Ed25519. */
  readonly key: PrivateJwk | string
  /** Defaults to the JWK's `kid`, then to the key's RFC 7638 thumbprint. */
  readonly kid?: string
}): Evidence {
  const { clientId } = options
  const key = readPrivateKey(options.key, options.kid)
  return opaque('Evidence', () => ({ kind: 'private_key_jwt', clientId }), {
    kind: 'private_key_jwt' as const,
    async present({ issuer, now }: { issuer: string; now: number }): Promise<Credential> {
      const iat = Math.floor(now)
      const jwt = key.sign(
        { typ: 'client-authentication+jwt', kid: key.kid },
        // RFC 7523bis: the issuer is the sole audience, as a string.
        {
          iss: clientId,
          sub: clientId,
          aud: issuer,
          jti: randomUUID(),
          iat,
          exp: iat + ASSERTION_LIFETIME_SECONDS,
        },
      )
      return { assertion: { type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer', jwt } }
    },
  })
}

/**
 * A SPIFFE JWT-SVID whose audience is the issuer: tier `platform`. Give a function where something renews it.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { createAgent, jwtSvid } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'http://127.0.0.1:4460',
 *   evidence: jwtSvid({ svid: () => readFile('/run/spire/errand.jwt', 'utf8') }),
 * })
 * ```
 */
export function jwtSvid(options: { readonly svid: Provided<string> }): Evidence {
  return opaque('Evidence', () => ({ kind: 'jwt_svid' }), {
    kind: 'jwt_svid' as const,
    async present(): Promise<Credential> {
      const jwt = (await provided(options.svid)).trim()
      return { assertion: { type: 'urn:ietf:params:oauth:client-assertion-type:jwt-spiffe', jwt } }
    },
  })
}

/**
 * A SPIFFE X.509-SVID, presented over mTLS at the service's `mtls_endpoint_aliases`: tier `platform`.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { createAgent, x509Svid } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'https://errand.example.com',
 *   evidence: x509Svid({
 *     clientId: 'research',
 *     cert: () => readFile('/run/spire/svid.pem', 'utf8'),
 *     key: () => readFile('/run/spire/svid.key', 'utf8'),
 *   }),
 * })
 * ```
 */
export function x509Svid(options: CertificateOptions): Evidence {
  return overMtls('x509_svid', options)
}

/**
 * A client certificate of RFC 8705, over mTLS: what the agent's registration names, by `tls_client_auth` (a subject or
 * alternative name under an authority) or by `self_signed_tls_client_auth` (this very certificate). Tier `key`.
 *
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs'
 * import { createAgent, tlsClientAuth } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'https://errand.example.com',
 *   evidence: tlsClientAuth({
 *     clientId: 'research',
 *     cert: readFileSync('client.pem', 'utf8'),
 *     key: readFileSync('client.key', 'utf8'),
 *   }),
 * })
 * ```
 */
export function tlsClientAuth(options: CertificateOptions): Evidence {
  return overMtls('tls_client_auth', options)
}

export interface CertificateOptions {
  readonly clientId: string
  /** PEM: the certificate, then its intermediates. */
  readonly cert: Provided<string>
  readonly key: Provided<string>
  /** PEM of the authorities that the service's certificate must come from; the system's where absent. */
  readonly ca?: string
  /** Base URL of the mTLS listener, where the metadata cannot name it. */
  readonly mtlsEndpoint?: string
}

function overMtls(kind: 'x509_svid' | 'tls_client_auth', options: CertificateOptions): Evidence {
  const { clientId, ca, mtlsEndpoint } = options
  if (mtlsEndpoint !== undefined && secureUrl(mtlsEndpoint)?.protocol !== 'https:') {
    throw badArgument('mtlsEndpoint must be an https URL')
  }
  return opaque('Evidence', () => ({ kind, clientId }), {
    kind,
    ...(mtlsEndpoint === undefined ? {} : { mtlsEndpoint }),
    transport: mtlsTransport(async () => ({
      cert: await provided(options.cert),
      key: await provided(options.key),
      ...(ca === undefined ? {} : { ca }),
    })),
    async present(): Promise<Credential> {
      return { clientId }
    },
  })
}
