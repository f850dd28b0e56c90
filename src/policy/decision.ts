/** Facts in, decision with its reasons out. */
import type { AttestationKind, Constraint, Grant, Tier } from '@errand/verifier/claims.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { NextAction } from '../oauth/refusals/words.ts'
import type { Tool } from './tool.ts'

/**
 * The operands of the intersection, in the order in which a loss is attributed. Records hold one sign for each in this
 * order (`OperationVerdict.passed`): a new operand goes to the end.
 */
export const OPERANDS = ['tool', 'subject', 'ceiling', 'stage', 'task', 'parent', 'policy'] as const
export type Operand = (typeof OPERANDS)[number]

export interface DecisionFacts {
  readonly agent: AgentRegistration
  readonly attestation: {
    readonly kind: AttestationKind
    /** At the age that the evidence has now. */
    readonly tier: Tier
    /** Id of the release. */
    readonly release?: string
    /** Unix seconds at which the evidence was issued, where it says so. */
    readonly issuedAt?: number
  }
  readonly subject: {
    readonly id: string
    readonly issuer: string
    readonly groups: readonly string[]
    readonly claims: { readonly [name: string]: string | number | boolean | readonly string[] }
    readonly autonomous: boolean
  }
  readonly task: {
    readonly environment: string
    readonly dataClassification: string
    /** Actors in the chain, 1 for the first. */
    readonly depth: number
  }
  /** How the token will be bound. */
  readonly senderConstraint: 'dpop' | 'mtls' | 'bearer'
  /** Unix seconds; enters Cedar's context only where a policy reads it. */
  readonly now: number
}

export interface DecisionQuestion {
  readonly facts: DecisionFacts
  readonly tools: readonly Tool[]
  /** What is asked for; absent asks for the largest permitted set on `tools`. */
  readonly requested?: readonly Grant[]
  /**
   * The authority operands; an absent one does not narrow (a root task has no parent, an autonomous one no subject).
   */
  readonly operands: {
    readonly subject?: readonly Grant[]
    readonly ceiling: readonly Grant[]
    readonly task?: readonly Grant[]
    readonly parent?: readonly Grant[]
  }
  /**
   * Judge every operand, also after one at which an operation was lost, and find what is left of what was asked for:
   * for refusals and tables. What is permitted is the same without.
   */
  readonly whole?: true
}

/** One operand at which an operation, or part of its arguments, was lost. */
export interface Loss {
  readonly operand: Operand
  /** What the operand has instead: the agent's stage, or the constraints there. Never the user's. */
  readonly had?: string | readonly Constraint[]
  /** The least change that would let it pass this operand, as a sentence. */
  readonly leastChange: string
  /** Who could make that change. */
  readonly action: NextAction
}

/** Why one operation was permitted or refused: a row of the table that `errand explain` prints. */
export interface OperationVerdict {
  readonly tool: string
  readonly operation: string
  readonly effect?: string
  readonly permitted: boolean
  /** The first operand at which it (or part of what was asked of its arguments) was lost. */
  readonly lostAt?: Operand
  /** Ids of the policies that determined it; empty is default deny. */
  readonly policies: readonly string[]
  /** `@reason` annotations of the determining policies. */
  readonly reasons: readonly string[]
  /** The least change that would let it pass the operand at which it was lost first, as a sentence. */
  readonly leastChange?: string
  /** For each of OPERANDS: `1` passed, `0` lost, `.` not asked, `-` not there (a root task has no parent). */
  readonly passed: string
  /** Every operand at which it was lost, in order; only the first where the question was not `whole`. */
  readonly losses: readonly Loss[]
  /** Constraints on this operation, by operand; where the question was `whole`. */
  readonly constraints?: Partial<Readonly<Record<Operand, readonly Constraint[]>>>
}

export interface Decision {
  readonly permitted: readonly Grant[]
  readonly verdicts: readonly OperationVerdict[]
  /** What is left of what was asked for where not all of it is permitted: asked alone, it is. With `whole` only. */
  readonly narrower?: readonly Grant[]
  /** True where everything that was asked for is permitted (or, with nothing asked, something is). */
  readonly allowed: boolean
  /** Caps and requirements of the determining permits. */
  readonly obligations: {
    readonly maxLifetimeSeconds?: number
    readonly senderConstraint?: 'dpop' | 'mtls'
  }
  /** Ids of all policies that determined it. */
  readonly policies: readonly string[]
  /** Short digest of the policy set that decided: the claim `pol`. */
  readonly policyDigest: string
}

export type Decide = (question: DecisionQuestion) => Decision
