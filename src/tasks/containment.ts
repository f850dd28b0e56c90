/** What a containment took from a task for good. The authority of a task that is read is what it left. */
import type { Grant } from '@errand/verifier/claims.ts'

export interface Taken {
  /** Names of tools: all their operations. */
  readonly tools: readonly string[]
  /** `<tool>:<operation>` */
  readonly operations: readonly string[]
}

export interface Containment extends Taken {
  /** The revocation that took it. */
  readonly by: string
}

type Named = Pick<Grant, 'tool' | 'operation'>

export const takes = ({ tools, operations }: Taken, { tool, operation }: Named): boolean =>
  tools.includes(tool) || operations.includes(`${tool}:${operation}`)

export const leftOf = (authority: readonly Grant[], contained: readonly Containment[]): readonly Grant[] =>
  authority.filter((grant) => !contained.some((each) => takes(each, grant)))
