/** Which index of which status list stands for which tokens. A port: adapters live in store/. */
import type { CheckedHop } from '@errand/verifier/shapes.ts'

export interface StatusRecord {
  /** `<generation>-<number>`: a store that lost what it held begins others. */
  readonly list: string
  readonly idx: number
  /** What its tokens have in common: the same text is the same kind of token. */
  readonly group: string
  /** As its first token was checked, the own hop first and without a jti. */
  readonly hops: readonly CheckedHop[]
  /** Ids of its tokens that a revocation named one by one. */
  readonly named: readonly string[]
  /** Unix seconds: no token with it ends later. */
  readonly until: number
}

export interface StatusRegistry {
  /** Durable when it resolves; false where the index is taken. Of simultaneous calls for one index one sees true. */
  take(record: StatusRecord): Promise<boolean>
  /** For tokens that end later: never shortened. False where it is not taken (any more). */
  keep(list: string, idx: number, until: number): Promise<boolean>
  /** One of its tokens was revoked by name. False where it is not taken (any more). */
  name(list: string, idx: number, jti: string): Promise<boolean>
  /** What was taken or changed after `place`, each as it is now, and the place to go on from. 0 is before all. */
  since(place: number): Promise<{ readonly records: readonly StatusRecord[]; readonly place: number }>
  /** Gives back every index whose last token ended before this moment. */
  prune(before: number): Promise<void>
}
