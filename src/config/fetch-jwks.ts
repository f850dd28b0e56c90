/**
 * Fetches the keys of user issuers from where the configuration says, and from nowhere else (SECURITY-CASES I, B5, B8).
 * The address is judged when the socket connects, so what was checked is what is connected to.
 */
import { lookup as dnsLookup } from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'
import { chainOf } from '../attest/client-certificate.ts'
import type { JWK } from '../attest/registration.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { isLoopbackHttp, isPublicAddress, urlProblem } from './addresses.ts'
import { type KeyAlgorithm, readPublicKeys } from './jwks.ts'

const MAX_BYTES = 262_144
const TIMEOUT_MS = 2_000
/** At most one fetch per issuer in this time, whatever kids are asked for. */
const COOLDOWN_SECONDS = 30
/** Where there is no usable set at all, nobody of this issuer is served: asked again sooner. */
const EMPTY_COOLDOWN_SECONDS = 3
/** How long a set counts where the answer does not say, and at most and at least where it does. */
const DEFAULT_LIFE_SECONDS = 600
const MAX_LIFE_SECONDS = 86_400
const MIN_LIFE_SECONDS = 60

export interface Fetched {
  readonly text: string
  /** From Cache-Control, where it says. */
  readonly maxAgeSeconds?: number
  /** From Date, where it says. Unix seconds. */
  readonly time?: number
}
/** By whom the server's certificate must be vouched for, where not by the system's authorities. */
export interface FetchTrust {
  /** DER: these and no other. */
  readonly authorities?: readonly Uint8Array[]
  /** Judges the chain that the server showed (DER, leaf first); whatever it objects to is not spoken with. */
  readonly objection?: (chain: readonly Uint8Array[]) => string | undefined
}
export type FetchJwks = (uri: string, trust?: FetchTrust) => Promise<Fetched>

export interface RemoteKeys {
  /** The lookup of one issuer: its state outlives a reload of the configuration. */
  of(uri: string, algorithms: readonly KeyAlgorithm[], trust?: FetchTrust): (kid: string) => Promise<JWK | undefined>
}

interface KeySet {
  readonly byKid: ReadonlyMap<string, JWK>
  /** When it should be fetched anew, and when it no longer counts even if that fails. Unix seconds. */
  readonly freshUntil: number
  readonly expiresAt: number
}

export function createRemoteKeys({
  fetch,
  now,
  onRefused = () => {},
}: {
  readonly fetch: FetchJwks
  readonly now: () => number
  /** Told why a set was refused: the last good one serves until its own expiry. */
  readonly onRefused?: (uri: string, why: string) => void
}): RemoteKeys {
  const lookups = new Map<string, (kid: string) => Promise<JWK | undefined>>()

  function createLookup(uri: string, algorithms: readonly KeyAlgorithm[], trust: FetchTrust) {
    let current: KeySet | undefined
    let untrusted = false
    let lastTry = Number.NEGATIVE_INFINITY
    let inFlight: Promise<void> | undefined

    async function refresh(): Promise<void> {
      try {
        const { text, maxAgeSeconds } = await fetch(uri, trust)
        untrusted = false
        const read = readPublicKeys(JSON.parse(text), algorithms)
        if (!read.ok) return onRefused(uri, read.why)
        const life = Math.min(MAX_LIFE_SECONDS, Math.max(MIN_LIFE_SECONDS, maxAgeSeconds ?? DEFAULT_LIFE_SECONDS))
        const at = now()
        current = {
          byKid: new Map(read.keys.map((key) => [key.kid!, key])),
          freshUntil: at + life,
          expiresAt: at + Math.max(life, 3600),
        }
      } catch (error) {
        const why = whyNotFetched(error)
        untrusted = why.startsWith(UNTRUSTED)
        onRefused(uri, why)
      }
    }

    return async (kid: string) => {
      const at = now()
      const usable = current !== undefined && at < current.expiresAt
      const known = usable ? current?.byKid.get(kid) : undefined
      const cooldown = usable ? COOLDOWN_SECONDS : EMPTY_COOLDOWN_SECONDS
      // An unknown kid may be a new one; asking again is bounded by the cooldown, so strangers cannot make us a client.
      const wanted = known === undefined || current === undefined || at >= current.freshUntil
      // A clock that was set back must not make it wait until then.
      if (wanted && (inFlight || Math.abs(at - lastTry) >= cooldown)) {
        if (!inFlight) {
          lastTry = at
          inFlight = refresh().finally(() => {
            inFlight = undefined
          })
        }
        // A key that is known serves while its set is fetched anew.
        if (known === undefined) await inFlight
      }
      if (current === undefined || now() >= current.expiresAt) {
        throw new Unavailable(untrusted ? 'jwks_untrusted' : 'jwks_rejected', `no usable keys from ${uri}`, {
          retryAfterSeconds: EMPTY_COOLDOWN_SECONDS,
        })
      }
      return current.byKid.get(kid)
    }
  }

  return {
    of(uri, algorithms, trust = {}) {
      const pinned = trust.authorities?.map((der) => Buffer.from(der).toString('base64'))
      const key = JSON.stringify([uri, algorithms, pinned])
      const known = lookups.get(key)
      if (known) return known
      const created = createLookup(uri, algorithms, trust)
      lookups.set(key, created)
      return created
    },
  }
}

const UNTRUSTED = 'jwks_untrusted: '

/** OpenSSL's codes for a peer that is not vouched for, under the name that the refusals have for it. */
export function whyNotFetched(error: unknown): string {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown }
  const text = typeof message === 'string' ? message.slice(0, 200) : 'not fetched'
  const unvouched = typeof code === 'string' && /CERT|ALTNAME|SELF_SIGNED|UNABLE_TO/.test(code)
  return unvouched ? `${UNTRUSTED}${text}` : text
}

/** Resolves once, checks, and connects to exactly what was checked. */
export type Resolve = (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

const resolveByDns: Resolve = (hostname) =>
  new Promise((done, fail) =>
    dnsLookup(hostname, { all: true }, (error, addresses) => (error ? fail(error) : done(addresses))),
  )

/** `development` admits one loopback destination over http; everything else is https to a public address. */
export const createFetchJwks =
  ({
    development,
    resolve = resolveByDns,
    mayReach = isPublicAddress,
  }: {
    readonly development: boolean
    readonly resolve?: Resolve
    /** Which addresses a name may lead to. */
    readonly mayReach?: (address: string) => boolean
  }): FetchJwks =>
  (uri, trust = {}) =>
    new Promise((done, fail) => {
      // Literal addresses and local names end here; other names are judged by what they resolve to, below.
      const fault = urlProblem(uri, { development })
      if (fault !== undefined) return fail(new Error(`url_forbidden: ${fault}`))
      const url = new URL(uri)
      const loopback = isLoopbackHttp(uri)

      const request = (loopback ? http : https).request(
        url,
        {
          method: 'GET',
          headers: { accept: 'application/json', 'accept-encoding': 'identity' },
          agent: false,
          signal: AbortSignal.timeout(TIMEOUT_MS),
          ...(loopback ? {} : { lookup: guardedLookup(resolve, mayReach), ...tlsOf(trust) }),
        },
        (response) => {
          const stop = (message: string) => {
            response.destroy()
            fail(new Error(message))
          }
          const status = response.statusCode ?? 0
          if (status >= 300 && status < 400) return stop('redirect_refused')
          if (status !== 200) return stop(`status ${status}`)
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
          response.on('end', () => {
            const maxAge = /(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])/.exec(
              response.headers['cache-control'] ?? '',
            )?.[1]
            const time = Date.parse(response.headers.date ?? '') / 1000
            done({
              text: Buffer.concat(chunks).toString('utf8'),
              ...(maxAge === undefined ? {} : { maxAgeSeconds: Number(maxAge) }),
              ...(Number.isNaN(time) ? {} : { time }),
            })
          })
        },
      )
      request.on('error', (error) =>
        fail(
          error.name === 'AbortError' || error.name === 'TimeoutError' ? new Error('fetch_limits: above 2 s') : error,
        ),
      )
      const { objection } = trust
      if (objection === undefined) return void request.end()
      if (loopback) return void request.destroy(new Error('jwks_untrusted: no certificate over http'))
      // The request is written only when the peer has been judged: a connection that is not the one meant learns nothing.
      request.once('socket', (socket) =>
        socket.once('secureConnect', () => {
          const why = objectionOf(objection, socket as TLSSocket)
          if (why === undefined) request.end()
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
function guardedLookup(resolve: Resolve, mayReach: (address: string) => boolean) {
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
