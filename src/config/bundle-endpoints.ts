/**
 * SPIFFE bundles that are fetched while the service runs (SPIFFE Federation §5.1): polled as often as they ask for,
 * taken whole or not at all, never an older one after a newer one, and kept across restarts. The last good bundle
 * serves while its endpoint is away, for a day; after that nobody knows which of its keys were withdrawn.
 */
import { createHash } from 'node:crypto'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { readBundle } from '../attest/bundle.ts'
import type { BundleEndpoint, TrustDomain } from '../attest/trust-domain.ts'
import { validateX509Svid } from '../attest/x509/validate.ts'
import { PURPOSE } from '../attest/x509/path.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { type FetchJwks, type FetchTrust, whyNotFetched } from './fetch-jwks.ts'

/** §4.1.2 leaves the interval to the client where a bundle says none; bounded where it does. */
const DEFAULT_INTERVAL_SECONDS = 300
const MIN_INTERVAL_SECONDS = 5
const MAX_INTERVAL_SECONDS = 3600
const RETRY_SECONDS = 30
const MAX_UNCONFIRMED_SECONDS = 86_400
/** How old the confirmation on disk may be: a restart loses so much of the day at most. */
const KEEP_EVERY_SECONDS = 600

/** What is on disk of one trust domain. */
export interface KeptBundle {
  readonly url: string
  readonly text: string
  /** Unix seconds at which the endpoint last served it. */
  readonly confirmedAt: number
}

export interface KeptBundles {
  /** Undefined where there is none, or none that is whole and ours. */
  read(trustDomain: string): Promise<KeptBundle | undefined>
  write(trustDomain: string, bundle: KeptBundle): Promise<void>
}

export interface BundleState {
  readonly trustDomain: string
  readonly url: string
  readonly sequence?: number
  /** Unix seconds; absent where nothing good was ever fetched. */
  readonly confirmedAt?: number
  /** Why the newest attempt changed nothing. */
  readonly problem?: string
}

export interface BundleChange {
  readonly trustDomain: string
  readonly sequence?: number
  /** SHA-256 of the document, hex. */
  readonly digest: string
  /** Kids and thumbprints that it holds. */
  readonly keys: readonly string[]
}

export interface BundleEndpoints {
  /**
   * The trust domain with the keys that hold now. Throws `Unavailable('jwks_rejected')` where there are none: nothing
   * can be said of its workloads then, good or bad.
   */
  live(domain: TrustDomain): TrustDomain
  /** Asks every endpoint whose time has come. Never throws. */
  poll(): Promise<void>
  states(): readonly BundleState[]
}

interface Held {
  readonly text: string
  readonly domain: TrustDomain
  readonly interval: number
  readonly confirmedAt: number
  readonly keptAt: number
}

interface Entry {
  held?: Held | undefined
  problem?: string | undefined
  nextAt: number
  restored: boolean
  busy?: Promise<void> | undefined
  merged?: { readonly from: TrustDomain; readonly held: TrustDomain; readonly value: TrustDomain } | undefined
}

export function createBundleEndpoints(deps: {
  readonly fetch: FetchJwks
  readonly now: () => number
  /** From 0 to 1: replicas that started together do not ask together. */
  readonly random: () => number
  readonly domains: () => readonly TrustDomain[]
  readonly kept: KeptBundles
  /** The change is on record before it takes effect; where it cannot be, it does not. */
  readonly recorded: (change: BundleChange) => Promise<void>
  /** Told once for each new problem, and with undefined when it is over. */
  readonly onProblem: (trustDomain: string, problem: string | undefined) => void
}): BundleEndpoints {
  const { now } = deps
  /** By name and address: another address has another history. */
  const entries = new Map<string, Entry>()

  const entryOf = ({ name }: TrustDomain, { url }: BundleEndpoint): Entry => {
    const key = `${name} ${url}`
    const known = entries.get(key)
    if (known) return known
    const made: Entry = { nextAt: Number.NEGATIVE_INFINITY, restored: false }
    entries.set(key, made)
    return made
  }

  function live(domain: TrustDomain): TrustDomain {
    const { bundleEndpoint } = domain
    if (bundleEndpoint === undefined) return domain
    const entry = entryOf(domain, bundleEndpoint)
    const { held } = entry
    // A file that is newer than what was fetched was put there by a person.
    if (held === undefined || isAhead(domain, held.domain)) {
      if (isEmpty(domain)) throw unusable(domain, 'no bundle was fetched yet')
      return domain
    }
    if (Math.abs(now() - held.confirmedAt) > MAX_UNCONFIRMED_SECONDS) {
      throw unusable(domain, 'its endpoint has confirmed no bundle for a day')
    }
    if (entry.merged?.from !== domain || entry.merged.held !== held.domain) {
      const { jwtKeys, witKeys, x509Anchors, sequence } = held.domain
      const value = { ...domain, jwtKeys, witKeys, x509Anchors, ...(sequence === undefined ? {} : { sequence }) }
      entry.merged = { from: domain, held: held.domain, value }
    }
    return entry.merged.value
  }

  /** What was held before the restart: taken over for what remains of its day. */
  async function restore(domain: TrustDomain, { url }: BundleEndpoint, entry: Entry): Promise<void> {
    entry.restored = true
    const kept = await deps.kept.read(domain.name)
    if (kept === undefined || kept.url !== url || entry.held !== undefined) return
    const read = readBundle(kept.text, sourceOf(domain))
    if (!read.ok) return
    const { text, confirmedAt } = kept
    entry.held = { text, confirmedAt, keptAt: confirmedAt, domain: read.value, interval: intervalOf(read.refreshHint) }
  }

  async function refresh(domain: TrustDomain, endpoint: BundleEndpoint, entry: Entry): Promise<void> {
    const { text } = await deps.fetch(endpoint.url, trustOf(endpoint))
    const at = now()
    const { held } = entry
    if (held?.text === text) {
      entry.held = await keep(domain, endpoint, { ...held, confirmedAt: at })
      return
    }
    const read = readBundle(text, sourceOf(domain))
    if (!read.ok) throw new Error(`jwks_rejected: ${read.problem}`)
    const before = [held?.domain.sequence, domain.sequence].filter((each) => each !== undefined)
    const { sequence } = read.value
    if (before.length > 0 && (sequence === undefined || sequence < Math.max(...before))) {
      throw new Error(`jwks_rejected: spiffe_sequence goes back from ${Math.max(...before)} to ${sequence ?? 'none'}`)
    }
    refuseForeign(read.value, held)
    await deps.recorded({
      trustDomain: domain.name,
      digest: createHash('sha256').update(text).digest('hex'),
      keys: keyNames(read.value),
      ...(sequence === undefined ? {} : { sequence }),
    })
    // Endpoints that are new together are asked together.
    refuseForeign(read.value, held)
    const interval = intervalOf(read.refreshHint)
    const next = { text, domain: read.value, interval, confirmedAt: at, keptAt: Number.NEGATIVE_INFINITY }
    // In force also where it cannot be kept: what was withdrawn must not serve because a disk is full.
    entry.held = next
    entry.held = await keep(domain, endpoint, next)
  }

  async function keep({ name }: TrustDomain, { url }: BundleEndpoint, held: Held): Promise<Held> {
    if (Math.abs(held.confirmedAt - held.keptAt) < KEEP_EVERY_SECONDS) return held
    await deps.kept.write(name, { url, text: held.text, confirmedAt: held.confirmedAt })
    return { ...held, keptAt: held.confirmedAt }
  }

  /**
   * A key of two trust domains could speak for both: an endpoint that begins with another's keys is the wrong endpoint.
   * Later only what a person put in a file stands against it, or whoever repeats a partner's next key before the partner
   * itself was asked would keep that one from changing its keys.
   */
  function refuseForeign(bundle: TrustDomain, held: Held | undefined): void {
    const own = new Set(keyNames(bundle))
    const foreign = deps.domains().find((other) => {
      const { bundleEndpoint } = other
      const fetched = held || !bundleEndpoint ? undefined : entryOf(other, bundleEndpoint).held?.domain
      const known = [...keyNames(other), ...(fetched ? keyNames(fetched) : [])]
      return other.name !== bundle.name && known.some((key) => own.has(key))
    })
    if (foreign) throw new Error(`jwks_rejected: it holds a key of the trust domain ${foreign.name}`)
  }

  function trustOf({ authorities, spiffeId }: BundleEndpoint): FetchTrust {
    if (spiffeId === undefined) return authorities === undefined ? {} : { authorities }
    const trustDomains = (name: string): TrustDomain | undefined => {
      const domain = deps.domains().find((each) => each.name === name)
      if (domain === undefined) return undefined
      // The root is for agents; the endpoint is a server beside them.
      const { pathRoot: _, ...whole } = live(domain)
      return whole
    }
    return {
      objection: ([leaf, ...intermediates]) => {
        if (leaf === undefined) return 'the endpoint showed no certificate'
        const purpose = PURPOSE.serverAuth
        const verdict = validateX509Svid({ leaf, intermediates, trustDomains, now: now(), purpose })
        if (!verdict.ok) return `the certificate of the endpoint is refused (${verdict.fault})`
        return verdict.value.spiffeId === spiffeId ? undefined : 'the endpoint is another workload'
      },
    }
  }

  function note(domain: TrustDomain, entry: Entry, problem: string | undefined): void {
    if (entry.problem === problem) return
    entry.problem = problem
    deps.onProblem(domain.name, problem)
  }

  async function ask(domain: TrustDomain, endpoint: BundleEndpoint, entry: Entry): Promise<void> {
    if (!entry.restored) await restore(domain, endpoint, entry)
    try {
      await refresh(domain, endpoint, entry)
      note(domain, entry, undefined)
      // Earlier than it asks for, never later.
      entry.nextAt = now() + (entry.held?.interval ?? DEFAULT_INTERVAL_SECONDS) * (0.9 + 0.1 * deps.random())
    } catch (error) {
      note(domain, entry, whyNotFetched(error))
      const retry = Math.min(RETRY_SECONDS, entry.held?.interval ?? RETRY_SECONDS)
      entry.nextAt = now() + retry * (0.5 + 0.5 * deps.random())
    }
  }

  return {
    live,
    async poll() {
      await Promise.all(
        deps.domains().map(async (domain) => {
          const { bundleEndpoint: endpoint } = domain
          if (endpoint === undefined) return
          const entry = entryOf(domain, endpoint)
          const wait = entry.nextAt - now()
          // A clock that was set back must not make it wait until then.
          if (entry.busy === undefined && wait > 0 && wait <= MAX_INTERVAL_SECONDS) return
          entry.busy ??= ask(domain, endpoint, entry).finally(() => {
            entry.busy = undefined
          })
          await entry.busy
        }),
      )
    },
    states: () =>
      deps.domains().flatMap((domain) => {
        const { name, bundleEndpoint } = domain
        if (bundleEndpoint === undefined) return []
        const { held, problem } = entryOf(domain, bundleEndpoint)
        const sequence = held?.domain.sequence
        return [
          {
            trustDomain: name,
            url: bundleEndpoint.url,
            ...(sequence === undefined ? {} : { sequence }),
            ...(held === undefined ? {} : { confirmedAt: held.confirmedAt }),
            ...(problem === undefined ? {} : { problem }),
          },
        ]
      }),
  }
}

const sourceOf = ({ name, file }: TrustDomain) => ({ name, file })

const isEmpty = ({ jwtKeys, witKeys, x509Anchors }: TrustDomain): boolean =>
  jwtKeys.length + witKeys.length + x509Anchors.length === 0

/** A bundle without a number is behind every one that has one: it would be refused as going back if it came now. */
const isAhead = (file: TrustDomain, fetched: TrustDomain): boolean =>
  file.sequence !== undefined && (fetched.sequence === undefined || file.sequence > fetched.sequence)

const intervalOf = (hint: number | undefined): number =>
  hint === undefined || hint === 0
    ? DEFAULT_INTERVAL_SECONDS
    : Math.min(MAX_INTERVAL_SECONDS, Math.max(MIN_INTERVAL_SECONDS, hint))

const unusable = ({ name }: TrustDomain, why: string): Unavailable =>
  new Unavailable('jwks_rejected', `no usable bundle of ${name}: ${why}`, { retryAfterSeconds: MIN_INTERVAL_SECONDS })

const keyNames = ({ jwtKeys, witKeys, x509Anchors }: TrustDomain): readonly string[] => [
  ...[...jwtKeys, ...witKeys].map((key) => jwkThumbprint({ ...key })),
  ...x509Anchors.map((der) => createHash('sha256').update(der).digest('base64url')),
]
