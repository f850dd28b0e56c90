/** Fetches the keys of issuers from where the configuration says, and from nowhere else (SECURITY-CASES I, B5, B8). */
import type { JWK } from '../attest/registration.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { createGuardedRequest, type FetchTrust, type Reach } from './guarded-request.ts'
import { type KeyAlgorithm, readPublicKeys } from './jwks.ts'

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
export type { FetchTrust }
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

/** `development` admits one loopback destination over http; everything else is https to a public address. */
export function createFetchJwks(reach: Reach): FetchJwks {
  const request = createGuardedRequest(reach)
  return async (uri, trust = {}) => {
    const { status, text, headers } = await request({ uri, trust })
    if (status !== 200) throw new Error(`status ${status}`)
    const maxAge = /(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])/.exec(headers['cache-control'] ?? '')?.[1]
    const time = Date.parse(headers.date ?? '') / 1000
    return {
      text,
      ...(maxAge === undefined ? {} : { maxAgeSeconds: Number(maxAge) }),
      ...(Number.isNaN(time) ? {} : { time }),
    }
  }
}
