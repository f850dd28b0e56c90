/**
 * What the replicas of one service tell one another of what each hears alone: small, and over soon after it is no longer
 * repeated. Its port: one process alone needs none.
 */
import type { Epoch } from '@errand/verifier/epoch.ts'

export interface ToldByReplica {
  /** Of the process: a restart tells all of it anew. */
  readonly run: string
  /** Nobody had talked to it before this run: it had recorded nothing. */
  readonly first: boolean
  /** The log was read so far before its words were gathered: whoever it hears of later was told of that. */
  readonly covers: Epoch
}

export interface OtherReplica extends ToldByReplica {
  readonly id: string
  /** Moves each time it tells something, be it nothing. */
  readonly beat: number
  /** By whom they are about; those that are new since the last time. */
  readonly words: ReadonlyMap<string, string>
}

export interface Replicas {
  /**
   * Tells the others what is new here, takes back what is over, and answers what each of them has told; all of it where it
   * or this process began anew. Of others that are `gone` it takes back all, unless they have told something since.
   */
  exchange(
    mine: ToldByReplica & {
      readonly words: ReadonlyMap<string, string>
      readonly over: readonly string[]
      readonly gone?: readonly string[]
    },
  ): Promise<readonly OtherReplica[]>
  /** What each of the others answers; undefined where one did not in time. `run`: of this process. */
  ask(question: string, run: string): Promise<ReadonlyMap<string, string | undefined>>
  /** Answers the others from now on. */
  answer(by: (question: string) => Promise<string>, onError: (error: unknown) => void): Promise<void>
}
