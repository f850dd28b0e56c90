/** What only a caller that has proven who it is may read of a refusal, and how it reads on the wire. */
import type { Constraint, ToolAuthorization } from '@errand/verifier/claims.ts'
import type { NextAction } from './refusals/words.ts'

/** What to ask for instead: the parameter of the request to put in place of the one that was sent. */
export type Narrower =
  | { readonly scope: string }
  | { readonly authorization_details: readonly Omit<ToolAuthorization, 'effect'>[] }

/** One operand of the intersection at which one operation was lost. */
export interface Lost {
  readonly tool: string
  readonly operation: string
  readonly operand: string
  /** What the operand has instead: a stage, or constraints on the arguments. */
  readonly had?: string | readonly Constraint[]
  readonly leastChange: string
}

export interface Explanation {
  /** `dec_…`: `errand explain` shows the whole decision. */
  readonly decisionId?: string
  /** The policy or check that decided. */
  readonly rule?: string
  /** Scope values that were asked for and are not granted. */
  readonly missing?: readonly string[]
  readonly lost?: readonly Lost[]
  /** The most of what was asked for that is permitted. */
  readonly narrower?: Narrower
  /** What a program may do; without it, what the words of the reason say. */
  readonly nextAction?: NextAction
  /** The same as a sentence for a person. */
  readonly next?: string
}

/** Losses that are told; the others are counted. */
const MOST_LOST = 20

/** The members of an answer. */
export interface Explained {
  readonly rule?: string
  readonly missing?: readonly string[]
  readonly lost?: readonly {
    readonly tool: string
    readonly operation: string
    readonly operand: string
    readonly had?: string | readonly Constraint[]
    readonly least_change: string
  }[]
  readonly lost_more?: number
  readonly narrower?: Narrower
  readonly next_action?: NextAction
  readonly next?: string
}

export function explained({ rule, missing, lost, narrower, nextAction, next }: Explanation): Explained {
  return {
    ...(rule === undefined ? {} : { rule }),
    ...(missing === undefined ? {} : { missing }),
    ...(lost === undefined || lost.length === 0
      ? {}
      : {
          lost: lost.slice(0, MOST_LOST).map(({ tool, operation, operand, had, leastChange }) => ({
            tool,
            operation,
            operand,
            ...(had === undefined ? {} : { had }),
            least_change: leastChange,
          })),
          ...(lost.length > MOST_LOST ? { lost_more: lost.length - MOST_LOST } : {}),
        }),
    ...(narrower === undefined ? {} : { narrower }),
    ...(nextAction === undefined ? {} : { next_action: nextAction }),
    ...(next === undefined ? {} : { next }),
  }
}
