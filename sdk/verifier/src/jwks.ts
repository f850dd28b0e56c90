/** The service's keys as the verifier knows them: fetched by their max-age, one purpose each, a bad set refused whole. */
import { sha256Base64url } from './crypto.ts'
import { type Fetch, fetchText, ServiceUnavailable } from './http.ts'
import { holdsSecret, importVerifyKey, type VerifyKey } from './signature.ts'
import { isJsonObject, parseStrictJson } from './strict-json.ts'
import { quietTimer } from './timer.ts'

/** The JWKS member `errand_use`: a key counts only for its one purpose. */
type KeyUse = 'token' | 'feed'
type KeyFault = 'unknown_kid' | 'key_scope' | 'bad_key' | 'alg_not_allowed'
type FoundKey = { readonly ok: true; readonly value: VerifyKey } | { readonly ok: false; readonly fault: KeyFault }

const MAX_BYTES = 262_144
/** A service rotates some of its purposes each second at most, and publishes a key until nothing it signed is alive. */
const MAX_KEYS = 1024
const DEFAULT_MAX_AGE_SECONDS = 300
const MAX_MAX_AGE_SECONDS = 86_400
/** However many unknown kids are presented, one fetch in so long. */
const COOLDOWN_MS = 10_000
/** With no set at all nothing can be accepted: then asking again is worth more. */
const EMPTY_COOLDOWN_MS = 1_000

/** A set that was announced is fetched within so long: not by thousands of verifiers at once. */
const ANNOUNCED_WITHIN_MS = 500

interface KeySet {
  readonly digest: string
  readonly keys: ReadonlyMap<string, { readonly use: string; readonly found: FoundKey }>
  readonly refreshAt: number
  readonly expiresAt: number
}

export interface Jwks {
  /** At once, where a set that is still good has the key; undefined where `find` must be waited for. */
  known(kid: string, use: KeyUse): FoundKey | undefined
  /** Throws `ServiceUnavailable` where there is no set that is still good. */
  find(kid: string, use: KeyUse): Promise<FoundKey>
  /** The service publishes the set with this digest: where ours is another, it is fetched; resolves when it is there. */
  announced(digest: string): Promise<void> | undefined
  /** Those of the set that is held. */
  kids(): readonly string[]
}

export interface JwksDeps {
  readonly url: string
  readonly fetch: Fetch
  readonly monotonic: () => number
  readonly random: () => number
  readonly timeoutMs: number
  readonly onProblem: (problem: unknown) => void
}

/** The keys of a set, or why all of it is refused. */
export function readKeySet(text: string): KeySet['keys'] | { readonly rejected: string } {
  const json = parseStrictJson(text, { maxBytes: MAX_BYTES, integersOnly: false })
  const list = json.ok && isJsonObject(json.value) ? json.value['keys'] : undefined
  if (!Array.isArray(list)) return { rejected: 'not a JWKS' }
  if (list.length > MAX_KEYS) return { rejected: 'too many keys' }
  const keys = new Map<string, { use: string; found: FoundKey }>()
  for (const jwk of list) {
    if (!isJsonObject(jwk)) return { rejected: 'not a JWKS' }
    if (holdsSecret(jwk)) return { rejected: 'a key that is not public' }
    const kid = jwk['kid']
    if (typeof kid !== 'string') return { rejected: 'a key without kid' }
    if (keys.has(kid)) return { rejected: 'one kid twice' }
    keys.set(kid, { use: typeof jwk['errand_use'] === 'string' ? jwk['errand_use'] : '', found: usable(jwk) })
  }
  return keys
}

function usable(jwk: { readonly [name: string]: unknown }): FoundKey {
  // A key that does not name its algorithm would let the header choose it.
  if (jwk['alg'] === undefined) return { ok: false, fault: 'alg_not_allowed' }
  if (jwk['use'] !== 'sig') return { ok: false, fault: 'key_scope' }
  const key = importVerifyKey(jwk, { algs: ['ES256'] })
  return key.ok ? key : { ok: false, fault: 'bad_key' }
}

export function createJwks({ url, fetch, monotonic, random, timeoutMs, onProblem }: JwksDeps): Jwks {
  let current: KeySet | undefined
  let attemptedAt = Number.NEGATIVE_INFINITY
  let unknownAt = Number.NEGATIVE_INFINITY
  let running: Promise<void> | undefined
  let problem: unknown

  async function load(anew: boolean): Promise<void> {
    // RFC 9111 §5.2.1.4: who looks for what is newer than our set does not want an old one from a cache.
    const headers: { 'cache-control'?: string } = anew ? { 'cache-control': 'no-cache' } : {}
    const answer = await fetchText(fetch, url, { timeoutMs, maxBytes: MAX_BYTES, headers: { ...headers } })
    if (answer.status !== 200)
      throw new ServiceUnavailable(`the JWKS answered ${answer.status}`, { status: answer.status })
    const keys = readKeySet(answer.text)
    if ('rejected' in keys) throw new ServiceUnavailable(`the JWKS is refused: ${keys.rejected}`)
    const lifeMs = freshMs(answer.headers)
    const at = monotonic()
    // Verifiers that started together do not come back together.
    current = {
      keys,
      digest: keySetDigest(answer.text),
      refreshAt: at + lifeMs * (0.5 + 0.3 * random()),
      expiresAt: at + lifeMs,
    }
  }

  /** Shared by everybody who waits for it; never rejects. */
  function refresh(anew = false): Promise<void> {
    if (!running) {
      attemptedAt = monotonic()
      running = load(anew)
        .then(
          () => {
            problem = undefined
          },
          (error: unknown) => {
            problem = error // the last good set serves until it expires by itself
            onProblem(error)
          },
        )
        .finally(() => {
          running = undefined
        })
    }
    return running
  }

  // Counted by itself: a verifier that has just started can still meet a key that is newer than its set.
  function mayAskForUnknown(): boolean {
    if (monotonic() - unknownAt < COOLDOWN_MS) return false
    unknownAt = monotonic()
    return true
  }

  const good = (at = monotonic()): KeySet | undefined => (current && at < current.expiresAt ? current : undefined)

  function known(kid: string, use: KeyUse): FoundKey | undefined {
    const at = monotonic()
    const set = good(at)
    const entry = set?.keys.get(kid)
    if (!set || !entry) return undefined
    if (at >= set.refreshAt && at - attemptedAt >= COOLDOWN_MS) void refresh()
    return entry.use === use ? entry.found : KEY_SCOPE
  }

  let lastAnnounced: { readonly digest: string; readonly at: number } | undefined

  return {
    known,
    kids: () => [...(good()?.keys.keys() ?? [])],
    announced(digest) {
      if (current === undefined || current.digest === digest) return undefined
      const at = monotonic()
      // One that a cache or another replica does not give us yet is asked for again now and then.
      if (lastAnnounced?.digest === digest && at - lastAnnounced.at < COOLDOWN_MS) return undefined
      lastAnnounced = { digest, at }
      return new Promise((resolve) => {
        quietTimer(() => refresh(true).then(resolve), random() * ANNOUNCED_WITHIN_MS)
      })
    },
    async find(kid, use) {
      const found = known(kid, use)
      if (found) return found
      if (running || (good() ? mayAskForUnknown() : monotonic() - attemptedAt >= EMPTY_COOLDOWN_MS))
        await refresh(good() !== undefined)
      if (!good()) throw new ServiceUnavailable('the keys of the service are not to be had', { cause: problem })
      return known(kid, use) ?? UNKNOWN
    },
  }
}

/** Of the body as it came: the service names it so in its feed. */
export const keySetDigest = (text: string): string => sha256Base64url(text).slice(0, 22)

const KEY_SCOPE: FoundKey = { ok: false, fault: 'key_scope' }
const UNKNOWN: FoundKey = { ok: false, fault: 'unknown_kid' }

/** RFC 9111 §4.2.1: max-age less the age it already had in shared caches. */
function freshMs(headers: Headers): number {
  const stated = /(?:^|[\s,])max-age=([0-9]{1,9})/i.exec(headers.get('cache-control') ?? '')
  const maxAge = Math.min(stated ? Number(stated[1]) : DEFAULT_MAX_AGE_SECONDS, MAX_MAX_AGE_SECONDS)
  const age = /^[0-9]{1,9}$/.test(headers.get('age') ?? '') ? Number(headers.get('age')) : 0
  return Math.max(maxAge - age, 1) * 1000
}
