/** The least change that would let an operation pass where it was lost, as a sentence, and who could make it. */
import type { Effect, Grant } from '@errand/verifier/claims.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { NextAction } from '../oauth/refusals/words.ts'
import type { Authority } from './authority.ts'
import type { DecisionFacts, Operand } from './decision.ts'
import { operationId } from './identifier.ts'
import { stageFor } from './stage.ts'
import { didYouMean } from './suggest.ts'
import type { Tool } from './tool.ts'

/** Fewer arguments are the agent's to ask for; rights, ceilings and stages are changed by people. */
export function actionFor({ lostAt, part }: Extract<Authority, { lostAt: Operand }>): NextAction {
  if (part === 'arguments') return 'ask_narrower'
  switch (lostAt) {
    case 'tool':
      return 'fix_request'
    case 'task':
      return 'open_task'
    case 'parent':
      return 'ask_parent'
    default:
      return 'ask_person'
  }
}

export function missingOperation({ tool: toolName, operation }: Grant, tool: Tool | undefined): string {
  if (!tool) return `\`${toolName}\` is not the tool that this token is for: ask with its own resource`
  const meant = didYouMean(operation, tool.operations.keys()).suggestion
  return `\`${operationId(toolName, operation)}\` is not an operation of ${tool.file}${meant === undefined ? '' : `: ${meant}`}`
}

/**
 * The least change that would permit it, as a sentence. It is told to agents that never saw the user's token, and stands
 * in the audit log in clear: who the user is, and in which groups, is not for them.
 */
export function changeFor(
  { lostAt, part }: Extract<Authority, { lostAt: Operand }>,
  { tool: toolName, operation }: Grant,
  at: { readonly effect: Effect; readonly file: string },
  { agent, subject }: Pick<DecisionFacts, 'agent' | 'subject'>,
): string {
  const scope = `\`${operationId(toolName, operation)}\``
  const asksLess = part === 'arguments' ? `ask for fewer arguments of ${scope}, or ` : ''
  switch (lostAt) {
    case 'tool':
      return `ask for arguments of ${scope} that its schema in ${at.file} admits`
    case 'subject':
      return part === 'arguments'
        ? `${asksLess}widen its constraints in the rights of the user's groups at issuer \`${subject.issuer}\``
        : `give ${scope} to one of the user's groups in the rights of issuer \`${subject.issuer}\` in config/issuers/`
    case 'ceiling':
      return part === 'arguments'
        ? `${asksLess}widen its constraints in the ceiling in ${agent.file}`
        : `add ${scope} to the ceiling in ${agent.file}`
    case 'stage':
      return stageChange(scope, at.effect, agent)
    case 'task':
      return `${asksLess}open a task whose authority includes ${scope}`
    case 'parent':
      return `${asksLess}have the hand-over or grant include ${scope}: a child never holds more than its parent`
    case 'policy':
      return `add a permit policy for ${scope}`
  }
}

function stageChange(scope: string, effect: Effect, agent: AgentRegistration): string {
  const stage = stageFor(effect)
  return stage === undefined
    ? `${scope} is \`${effect}\`, which no stage permits: it needs an approval`
    : `raise \`stage\` from \`${agent.stage}\` to \`${stage}\` in ${agent.file}: ${scope} is \`${effect}\``
}
