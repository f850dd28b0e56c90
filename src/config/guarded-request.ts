/**
 * One request to where the configuration says, and to nowhere else (SECURITY-CASES I). The address is judged when the
 * socket connects, so what was checked is what is connected to; redirects are not followed, the answer is bounded.
 */
import { lookup as dnsLookup } from 'node:dns'
import http, { type IncomingHttpHeaders } from 'node:http'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'
import { chainOf } from '../attest/client-certificate.ts'
import { isLoopbackHttp, isPublicAddress, urlProblem } from './addresses.ts'

const MAX_BYTES = 262_144
const TIMEOUT_MS = 2_000

/** By whom the server's certificate must be vouched for, where not by the system's authorities. */
export interface FetchTrust {
  /** DER: these and no other. */
  readonly authorities?: readonly Uint8Array[]
  /** Judges the chain that the server showed (DER, leaf first); whatever it objects to is not spoken with. */
  readonly objection?: (chain: readonly Uint8Array[]) => string | undefined
}
export interface GuardedRequest {
  readonly uri: string
  readonly trust?: FetchTrust
  /** Sent by POST; without it, GET. */
  readonly body?: { readonly type: string; readonly text: string }
  readonly headers?: Readonly<Record<string, string>>
}

export interface GuardedAnswer {
  readonly status: number
  readonly text: string
  readonly headers: IncomingHttpHeaders
}

/** Throws where there is no answer within bounds. A redirect is none. */
export type SendGuarded = (request: GuardedRequest) => Promise<GuardedAnswer>

export interface Reach {
  /** Admits one loopback destination over http; everything else is https to a public address. */
  readonly development: boolean
  /** The configuration says of this destination that its address may be private. */
  readonly privately?: boolean
  readonly resolve?: Resolve
  /** Which addresses a name may lead to. */
  readonly mayReach?: (address: string) => boolean
}

/** Resolves once, checks, and connects to exactly what was checked. */
export type Resolve = (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

const resolveByDns: Resolve = (hostname) =>
  new Promise((done, fail) =>
    dnsLookup(hostname, { all: true }, (error, addresses) => (error ? fail(error) : done(addresses))),
  )

export const createGuardedRequest =
  ({ development, privately, resolve, mayReach = privately ? () => true : isPublicAddress }: Reach): SendGuarded =>
  ({ uri, trust = {}, body, headers = {} }) =>
    new Promise((done, fail) => {
      // Literal addresses and local names end here; other names are judged by what they resolve to, below.
      const fault = urlProblem(uri, { development, privately })
      if (fault !== undefined) return fail(new Error(`url_forbidden: ${fault}`))
      const url = new URL(uri)
      const loopback = isLoopbackHttp(uri)

      const request = (loopback ? http : https).request(
        url,
        {
          method: body ? 'POST' : 'GET',
          headers: {
            accept: 'application/json',
            'accept-encoding': 'identity',
            ...(body ? { 'content-type': body.type, 'content-length': Buffer.byteLength(body.text) } : {}),
            ...headers,
          },
          agent: false,
          signal: AbortSignal.timeout(TIMEOUT_MS),
          ...(loopback ? {} : { lookup: guardedLookup(mayReach, resolve), ...tlsOf(trust) }),
        },
        (response) => {
          const stop = (message: string) => {
            response.destroy()
            fail(new Error(message))
          }
          const status = response.statusCode ?? 0
          if (status >= 300 && status < 400) return stop('redirect_refused')
          // We asked for none: a compressed answer is not unpacked, so it cannot grow.
          if ((response.headers['content-encoding'] ?? 'identity') !== 'identity')
            return stop('fetch_limits: compressed answer')
          if (Number(response.headers['content-length'] ?? 0) > MAX_BYTES) return stop('fetch_limits: above 256 KB')
          const chunks: Buffer[] = []
          let size = 0
          response.on('data', (chunk: Buffer) => {
            size += chunk.length
            if (size > MAX_BYTES) stop('fetch_limits: above 256 KB')
            else chunks.push(chunk)
          })
          response.on('error', fail)
          response.on('end', () =>
            done({ status, text: Buffer.concat(chunks).toString('utf8'), headers: response.headers }),
          )
        },
      )
      request.on('error', (error) =>
        fail(
          error.name === 'AbortError' || error.name === 'TimeoutError' ? new Error('fetch_limits: above 2 s') : error,
        ),
      )
      const { objection } = trust
      const send = () => void request.end(body?.text)
      if (objection === undefined) return send()
      if (loopback) return void request.destroy(new Error('jwks_untrusted: no certificate over http'))
      // The request is written only when the peer has been judged: a connection that is not the one meant learns nothing.
      request.once('socket', (socket) =>
        socket.once('secureConnect', () => {
          const why = objectionOf(objection, socket as TLSSocket)
          if (why === undefined) send()
          else request.destroy(new Error(`jwks_untrusted: ${why}`))
        }),
      )
    })

/** Nobody stands behind an event of a socket: what was thrown there would end the process, and the server chose when. */
function objectionOf(objection: NonNullable<FetchTrust['objection']>, socket: TLSSocket): string | undefined {
  try {
    return objection(chainOf(socket) ?? [])
  } catch (error) {
    return error instanceof Error ? error.message : 'the certificate could not be judged'
  }
}

function tlsOf({ authorities, objection }: FetchTrust): https.RequestOptions {
  if (objection !== undefined) return { rejectUnauthorized: false }
  return authorities === undefined ? {} : { ca: authorities.map(pemOf) }
}

const pemOf = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE-----\n`

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | { address: string; family: number }[],
  family?: number,
) => void

/** node:net connects to what this answers and to nothing else. */
export function guardedLookup(mayReach: (address: string) => boolean, resolve: Resolve = resolveByDns) {
  return (hostname: string, options: { all?: boolean | undefined }, callback: LookupCallback): void => {
    resolve(hostname).then(
      (addresses) => {
        // One private address among public ones is an attack, not an accident.
        if (addresses.length === 0 || !addresses.every(({ address }) => mayReach(address))) {
          return callback(new Error('url_forbidden: resolves to an address that is not public'), '', 4)
        }
        if (options.all) callback(null, [...addresses])
        else callback(null, addresses[0]!.address, addresses[0]!.family)
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 4),
    )
  }
}
