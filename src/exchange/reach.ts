/**
 * What an agent may know of: the tools and operations of its own ceiling. Beyond them, what exists and what does not
 * are one and the same to it, in every answer and in the record of it (SECURITY-CASES D21).
 */
import type { Effect, Grant } from '@errand/verifier/claims.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { type Decision, type Loss, OPERANDS, type OperationVerdict } from '../policy/decision.ts'
import { didYouMean } from '../policy/suggest.ts'
import type { Tool } from '../policy/tool.ts'
import type { Directory } from './directory.ts'

export interface Reach {
  byName(name: string): Tool | undefined
  byAudience(audience: string): Tool | undefined
  effectOf(tool: string, operation: string): Effect | undefined
}

type Ceiling = readonly Grant[]

const holds = (ceiling: Ceiling, tool: string, operation?: string): boolean =>
  ceiling.some((grant) => grant.tool === tool && (operation === undefined || grant.operation === operation))

export function reachOf(tools: Directory['tools'], ceiling: Ceiling): Reach {
  const within = (tool: Tool | undefined) => (tool && holds(ceiling, tool.name) ? tool : undefined)
  return {
    byName: (name) => within(tools.byName(name)),
    byAudience: (audience) => within(tools.byAudience(audience)),
    effectOf: (tool, operation) =>
      holds(ceiling, tool, operation) ? tools.byName(tool)?.operations.get(operation)?.effect : undefined,
  }
}

/** The decision as its agent may read it. */
export function withinReach(decision: Decision, agent: AgentRegistration, asked: boolean): Decision {
  const known = ({ tool, operation }: OperationVerdict) => holds(agent.ceiling, tool, operation)
  if (decision.verdicts.every(known)) return decision
  return {
    ...decision,
    // Nothing in particular was asked for: then an operation out of reach was not asked for either.
    verdicts: decision.verdicts
      .filter((verdict) => asked || known(verdict))
      .map((verdict) => (known(verdict) ? verdict : beyond(verdict, agent))),
  }
}

function beyond({ tool, operation }: OperationVerdict, agent: AgentRegistration): OperationVerdict {
  const loss = lossBeyond(`${tool}:${operation}`, agent)
  return {
    tool,
    operation,
    permitted: false,
    lostAt: loss.operand,
    policies: [],
    reasons: [],
    leastChange: loss.leastChange,
    passed: OPERANDS.map((operand) => (operand === loss.operand ? '0' : '.')).join(''),
    losses: [loss],
  }
}

export const lossBeyond = (scope: string, agent: AgentRegistration): Loss => ({
  operand: 'ceiling',
  leastChange: nextStep(scope, agent),
  action: 'ask_person',
})

/** The same sentence, and true, whether there is such an operation or not; a suggestion comes out of the agent's own ceiling. */
function nextStep(scope: string, { ceiling, file }: AgentRegistration): string {
  const own = ceiling.map((grant) => `${grant.tool}:${grant.operation}`)
  const { suggestion } = didYouMean(scope, own)
  return `\`${scope}\` is not in the ceiling in ${file}; if the tool has this operation, add it there${suggestion === undefined ? '' : `; or ${suggestion}`}`
}
