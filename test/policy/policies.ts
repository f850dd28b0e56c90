/** A small company for tests of policies. */
import type { Constraint, Effect, Grant } from '@errand/verifier/claims.ts'
import type { AgentRegistration, Stage } from '../../src/attest/registration.ts'
import { type Cedar, createCedar } from '../../src/policy/cedar.ts'
import { createDecide } from '../../src/policy/decide.ts'
import type { Decide, DecisionFacts } from '../../src/policy/decision.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Problem } from '../../src/policy/problem.ts'
import type { PolicySet } from '../../src/policy/policy-set.ts'
import type { Vocabulary } from '../../src/policy/schema.ts'
import type { Tool } from '../../src/policy/tool.ts'

function tool(name: string, operations: Readonly<Record<string, Effect | [Effect, Constraint]>>): Tool {
  return {
    name,
    displayName: name,
    audience: `https://${name}.example.com/`,
    operations: new Map(
      Object.entries(operations).map(([operation, label]) => {
        const [effect, schema] = typeof label === 'string' ? [label] : label
        return [
          operation,
          { name: operation, effect, ...(schema ? { arguments: schema } : {}), routes: [], mcpTools: [] },
        ]
      }),
    ),
    followsFeed: true,
    statusList: false,
    acceptsBearer: false,
    maxTokenLifetimeSeconds: 300,
    stalenessSeconds: {
      read: 30,
      reversible_write: 5,
      irreversible_write: 2,
      external_communication: 2,
      privileged: 2,
    },
    keys: [],
    file: `config/tools/${name}.yaml`,
  }
}

export const tickets = tool('tickets', {
  read: 'read',
  comment: 'reversible_write',
  purge: 'irreversible_write',
  reply: 'external_communication',
  impersonate: 'privileged',
})
export const payments = tool('payments', {
  read: 'read',
  refund: [
    'irreversible_write',
    { type: 'object', properties: { amount_cents: { type: 'integer', minimum: 1, maximum: 500_000 } } },
  ],
})

export const vocabulary: Vocabulary = {
  agents: ['research', 'payments'],
  tools: [tickets, payments],
  issuers: ['company'],
  claims: { department: 'string', level: 'integer', on_call: 'boolean', teams: 'string_list' },
}

export const everything: readonly Grant[] = [tickets, payments].flatMap(({ name, operations }) =>
  [...operations.keys()].map((operation) => ({ tool: name, operation })),
)

export const agent = (
  stage: Stage = 'external',
  ceiling: readonly Grant[] = everything,
  clientId = 'research',
): AgentRegistration => ({
  clientId,
  spiffeId: `spiffe://company.example/agents/${clientId}`,
  displayName: clientId,
  disabled: false,
  evidence: ['private_key_jwt'],
  keys: [],
  stage,
  ceiling,
  autonomous: false,
  delegatesTo: [],
  file: `config/agents/${clientId}.yaml`,
})

/** Monday, 2026-11-23, 10:00 UTC. */
export const MONDAY_TEN = Date.UTC(2026, 10, 23, 10) / 1000

export const facts = (more: Partial<DecisionFacts> = {}): DecisionFacts => ({
  agent: agent(),
  attestation: { kind: 'private_key_jwt', tier: 'key' },
  subject: { id: 'company|alice', issuer: 'company', groups: ['support'], claims: {}, autonomous: false },
  task: { environment: 'staging', dataClassification: 'internal', depth: 1 },
  senderConstraint: 'dpop',
  now: MONDAY_TEN,
  ...more,
})

export const PERMIT_ALL = '@id("all") permit (principal, action, resource);'

export function setOf(text: string, cedar: Cedar = createCedar(), words: Vocabulary = vocabulary): PolicySet {
  const loaded = loadPolicies([{ file: 'config/policies/test.cedar', text }], words, cedar)
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
  return loaded.set
}

export const decideBy = (text: string): Decide => createDecide(setOf(text))

export function problemsOf(text: string, words: Vocabulary = vocabulary): readonly Problem[] {
  const loaded = loadPolicies([{ file: 'config/policies/test.cedar', text }], words, createCedar())
  return loaded.ok ? [] : loaded.problems
}
