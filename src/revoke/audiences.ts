/** The audiences that a living token may be for: those of now, and those of before while a token of theirs may live. */
import { CLOCK_LEEWAY_SECONDS, MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import type { Json } from '../audit/log.ts'
import type { Bounded } from './containment.ts'

/** Issued in the last moment before a change, a token lives so long after it. */
const KEPT_MS = (MAX_TOKEN_LIFETIME_SECONDS + CLOCK_LEEWAY_SECONDS) * 1000
/** A record has room for so many several times over. */
const MOST_RECORDED = 1_000

export interface Audiences {
  /** Each once; one that was bound otherwise before is bound by whatever takes longer. */
  all(): readonly Bounded[]
  /** These were in force until now. */
  left(before: readonly Bounded[]): void
  /** For the record of a configuration that was loaded: what a restart with another one must not forget. */
  toRecord(): { readonly [name: string]: Json }
}

export interface AudiencesDeps {
  readonly monotonic: () => number
  readonly current: () => readonly Bounded[]
  /** What the last configuration that was loaded before this start said of itself, and how many milliseconds ago. */
  readonly recorded?: { readonly details: { readonly [name: string]: Json }; readonly age: number } | undefined
}

export function createAudiences({ monotonic, current, recorded }: AudiencesDeps): Audiences {
  let earlier: { readonly bounded: readonly Bounded[]; readonly until: number }[] = []
  const keep = (bounded: readonly Bounded[], forMs: number) => {
    if (bounded.length > 0) earlier.push({ bounded, until: monotonic() + Math.min(forMs, KEPT_MS) })
  }
  if (recorded) {
    const { audiences, audiences_before: before } = recorded.details
    // The process that stopped may have issued until a moment ago by what it had loaded last.
    keep(read(audiences), KEPT_MS)
    keep(read(before), KEPT_MS - recorded.age)
  }
  const left = (): readonly Bounded[] => {
    earlier = earlier.filter(({ until }) => monotonic() < until)
    return union(earlier.flatMap(({ bounded }) => bounded))
  }

  return {
    all: () => union([...current(), ...left()]),
    left: (before) => keep(before, KEPT_MS),
    toRecord: () => {
      const before = left()
      return { audiences: written(current()), ...(before.length === 0 ? {} : { audiences_before: written(before) }) }
    },
  }
}

function union(some: readonly Bounded[]): readonly Bounded[] {
  const all = new Map<string, Bounded>()
  for (const each of some) {
    const place = `${each.tool} ${each.audience}`
    const other = all.get(place)
    all.set(place, other === undefined ? each : longer(other, each))
  }
  return [...all.values()]
}

/** Where a token of before is judged without the feed, no word of a verifier says that it is refused. */
const longer = (one: Bounded, other: Bounded): Bounded => ({
  ...one,
  by: one.by === other.by ? one.by : 'token_life',
  boundSeconds: Math.max(one.boundSeconds, other.boundSeconds),
})

const written = (audiences: readonly Bounded[]): Json =>
  audiences
    .slice(0, MOST_RECORDED)
    .map(({ tool, audience, by, boundSeconds }) => ({ tool, audience, by, bound_seconds: boundSeconds }))

/** A record of an older version says nothing of them. */
const read = (recorded: Json | undefined): readonly Bounded[] =>
  Array.isArray(recorded)
    ? (recorded as readonly { readonly [name: string]: Json }[]).map(
        ({ tool, audience, by, bound_seconds: bound }) => ({
          tool: String(tool),
          audience: String(audience),
          by: by === 'feed' ? 'feed' : 'token_life',
          boundSeconds: Number(bound),
        }),
      )
    : []
