/** What issuing, introspection and reading subject tokens ask of the revocation log: one atomic question. */
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop, HopFacts } from '@errand/verifier/shapes.ts'

export interface RevocationCheck {
  /** Hops that exist already, with the epoch each was checked at: dead if an entry after that matches. */
  readonly hops: readonly CheckedHop[]
  /** The hop about to be issued: refused if a ban matches it. Its `rev` will be the epoch answered. */
  readonly issuing?: HopFacts
}

export interface RevocationAnswer {
  /** The epoch that was checked, read in the same step as every entry and ban. */
  readonly epoch: Epoch
  /** Id (`rev_…`) of the entry that kills one of the hops; index 0 is the token's own hop. */
  readonly dead?: { readonly entry: string; readonly hop: number }
  /** Id of the ban or suspension that matches the hop about to be issued, and the dimensions it matches on. */
  readonly banned?: { readonly entry: string; readonly dimensions: readonly string[]; readonly suspended?: true }
  /**
   * What was done to tasks and matches the hop about to be issued, or one behind it: it must be judged by a task that was
   * read after these entries. Not told any more when no exchange is under way that began before.
   */
  readonly contained?: readonly Contained[]
}

export interface Contained {
  readonly entry: string
  /** The containment that this is, or closes: a task that shows it was read after it. */
  readonly by: string
}

export interface Revocations {
  /** Reads every entry and ban that could match, and the current epoch, together. */
  check(question: RevocationCheck): Promise<RevocationAnswer>
}
