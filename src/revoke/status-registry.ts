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
  /** For tokens of its group that end later: never shortened. False where others have it by now, or nobody. */
  keep(of: Pick<StatusRecord, 'list' | 'idx' | 'group'>, until: number): Promise<boolean>
  /** A token that gets it and ends then, so that everybody finds the index by its id. Durable when it resolves. */
  enter(jti: string, list: string, idx: number, until: number): Promise<void>
  /** A token was revoked by its id: the index that it has says so. Undefined where no token with an index has this id. */
  name(jti: string): Promise<Pick<StatusRecord, 'list' | 'idx'> | undefined>
  /** What was taken or changed after `place`, each as it is now, and the place to go on from. 0 is before all. */
  since(place: number): Promise<{ readonly records: readonly StatusRecord[]; readonly place: number }>
  /** Forgets the tokens that ended before this moment, and gives back every index whose last token did. */
  prune(before: number): Promise<void>
}
