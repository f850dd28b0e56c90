/** Explains a decision to the agent that asked: what was lost where, what is left, and whose turn it is. */
import type { Grant } from '@errand/verifier/claims.ts'
import { grantsWithin, meetGrants, scopeOf, toAuthorizationDetails } from '@errand/verifier/grants.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { Explanation, Narrower } from '../oauth/explanation.ts'
import type { NextAction } from '../oauth/refusals/words.ts'
import type { Decision, DecisionFacts, OperationVerdict } from '../policy/decision.ts'
import { actionFor, changeFor } from '../policy/least-change.ts'
import { lossBeyond } from './reach.ts'
import type { Target } from './targets.ts'

/** Where several must move, the one without whom it is in vain comes first. */
const ORDER: readonly NextAction[] = [
  'fix_request',
  'ask_person',
  'ask_parent',
  'open_task',
  'prove_again',
  'ask_narrower',
]

/** `decision` is as its agent may read it; empty where nothing was lost. */
export function explainDecision(decision: Decision, { askedIn }: Pick<Target, 'askedIn'>): Explanation {
  const lost = decision.verdicts.filter((verdict) => !verdict.permitted)
  const [first] = lost
  if (!first || decision.allowed) return {}
  const narrower = decision.narrower && asAsked(decision.narrower, askedIn)
  return { ...explanationOf(lost, narrower), ...(first.policies[0] === undefined ? {} : { rule: first.policies[0] }) }
}

/** Of what lies beyond the agent's ceiling one sentence is true, whether it exists or not (D21). */
export const explainBeyond = (scopes: readonly string[], agent: AgentRegistration): Explanation =>
  explanationOf(
    scopes.map((scope) => {
      const [tool = '', operation = ''] = scope.split(':')
      return { tool, operation, losses: [lossBeyond(scope, agent)] }
    }),
  )

/** What a task may not be opened for: only rights and ceiling bound it yet. */
export function explainTask(
  { requested, askedIn }: { readonly requested: readonly Grant[]; readonly askedIn: Target['askedIn'] },
  most: readonly Grant[],
  { agent, subject }: Pick<DecisionFacts, 'agent' | 'subject'>,
): Explanation {
  const lost = requested
    .filter((grant) => !grantsWithin([grant], most))
    .map((grant) => {
      const { tool, operation } = grant
      const named = (grants: readonly Grant[]) =>
        grants.some((each) => each.tool === tool && each.operation === operation)
      if (!named(agent.ceiling)) return { tool, operation, losses: [lossBeyond(`${tool}:${operation}`, agent)] }
      const where = {
        lostAt: grantsWithin([grant], agent.ceiling) ? ('subject' as const) : ('ceiling' as const),
        part: named(most) ? ('arguments' as const) : ('operation' as const),
      }
      const leastChange = changeFor(where, grant, { effect: 'read', file: agent.file }, { agent, subject })
      return { tool, operation, losses: [{ operand: where.lostAt, leastChange, action: actionFor(where) }] }
    })
  const left = meetGrants(requested, most)
  return explanationOf(lost, left.length > 0 ? asAsked(left, askedIn) : undefined)
}

function explanationOf(
  lost: readonly Pick<OperationVerdict, 'tool' | 'operation' | 'losses'>[],
  narrower?: Narrower,
): Explanation {
  const first = lost[0]?.losses[0]
  if (!first) return {}
  const actions = new Set(lost.flatMap(({ losses }) => losses.map(({ action }) => action)))
  const nextAction = narrower ? 'ask_narrower' : ORDER.find((action) => actions.has(action))
  return {
    rule: first.operand,
    missing: lost.map(({ tool, operation }) => `${tool}:${operation}`),
    lost: lost.flatMap(({ tool, operation, losses }) =>
      losses.map(({ action: _, ...loss }) => ({ tool, operation, ...loss })),
    ),
    ...(narrower ? { narrower } : {}),
    ...(nextAction ? { nextAction } : {}),
    next: narrower ? `ask for what narrower holds, or ${first.leastChange}` : first.leastChange,
  }
}

/** In the parameter in which it was asked: a scope cannot say which arguments are left. */
function asAsked(grants: readonly Grant[], askedIn: Target['askedIn']): Narrower {
  if (askedIn === 'request') return { scope: scopeOf(grants) }
  return {
    authorization_details: toAuthorizationDetails(grants, () => 'read').map(({ effect: _, ...detail }) => detail),
  }
}
