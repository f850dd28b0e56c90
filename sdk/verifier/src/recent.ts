/** Remembers what was used lately, up to a bound, in two generations: taking the oldest out costs nothing. */

export interface Recent<T> {
  get(name: string): T | undefined
  put(name: string, value: T): void
}

/**
 * At most `max`. A map from which the oldest is deleted one by one has to walk over all it has deleted to find the
 * next oldest; here the older half goes at once, but for what was asked for since it became that.
 */
export function createRecent<T>(max: number): Recent<T> {
  const half = Math.max(1, Math.floor(max / 2))
  let young = new Map<string, T>()
  let old: ReadonlyMap<string, T> = new Map()
  const put = (name: string, value: T): void => {
    if (young.size >= half && !young.has(name)) {
      old = young
      young = new Map()
    }
    young.set(name, value)
  }
  return {
    get(name) {
      const known = young.get(name)
      if (known !== undefined) return known
      const older = old.get(name)
      if (older !== undefined) put(name, older)
      return older
    },
    put,
  }
}
