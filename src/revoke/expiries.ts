/** How many of something end at which second. Each is counted in once and out once: nothing is walked to know the sum. */
export interface Expiries {
  total: number
  /** Unix seconds, ascending from `head` on, and how many end there. */
  readonly at: number[]
  readonly count: number[]
  head: number
}

/** One that ends at `at`, or none. */
export const newExpiries = (at?: number): Expiries =>
  at === undefined ? { total: 0, at: [], count: [], head: 0 } : { total: 1, at: [at], count: [1], head: 0 }

export function addExpiry(it: Expiries, at: number): void {
  it.total += 1
  let place = it.at.length
  // Mostly the last second or the next: what is like it lives as long.
  while (place > it.head && it.at[place - 1]! > at) place -= 1
  if (place > it.head && it.at[place - 1] === at) it.count[place - 1]! += 1
  else if (place === it.at.length) {
    it.at.push(at)
    it.count.push(1)
  } else {
    it.at.splice(place, 0, at)
    it.count.splice(place, 0, 1)
  }
}

/** What ends at `now` or before is over. */
export function expire(it: Expiries, now: number): void {
  while (it.head < it.at.length && it.at[it.head]! <= now) {
    it.total -= it.count[it.head]!
    it.head += 1
  }
  if (it.head === it.at.length) clearExpiries(it)
  else if (it.head > 32) {
    it.at.splice(0, it.head)
    it.count.splice(0, it.head)
    it.head = 0
  }
}

export function clearExpiries(it: Expiries): void {
  it.total = 0
  it.at.length = 0
  it.count.length = 0
  it.head = 0
}

/** When the last of them ends. */
export const latestExpiry = (it: Expiries): number | undefined => (it.total === 0 ? undefined : it.at.at(-1))
