/** Objects that close over tokens and keys show only what may be shown, however they are printed. */

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/** Gives `members` a `toJSON`, `toString` and `util.inspect` that show `shown()` alone, and freezes it. */
export function opaque<T extends object>(label: string, shown: () => object, members: T): Readonly<T> {
  const text = (): string => `${label} ${JSON.stringify(shown())}`
  Object.defineProperties(members, {
    toJSON: { value: shown },
    toString: { value: text },
    [INSPECT]: { value: text },
  })
  return Object.freeze(members)
}
