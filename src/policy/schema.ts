/** The Cedar schema that policies are validated against: derived from the configured agents, tools and claims. */
import { ATTESTATION_KINDS, EFFECTS } from '@errand/verifier/claims.ts'
import { STAGES } from '../attest/registration.ts'
import { effectGroup, operationId } from './identifier.ts'
import type { Tool } from './tool.ts'

export const CLAIM_TYPES = ['string', 'integer', 'boolean', 'string_list'] as const
export type ClaimType = (typeof CLAIM_TYPES)[number]

/** What policies can name: everything else is misspelt. */
export interface Vocabulary {
  readonly agents: readonly string[]
  readonly tools: readonly Pick<Tool, 'name' | 'operations'>[]
  /** Names of configured user issuers. */
  readonly issuers: readonly string[]
  /** Claims that issuers let policies read. */
  readonly claims: Readonly<Record<string, ClaimType>>
}

/** Attributes of the context that hold one of a few words: a comparison with another word can never be true. */
export const closedAttributes = (
  vocabulary: Pick<Vocabulary, 'issuers'>,
): Readonly<Record<string, readonly string[]>> => ({
  'context.effect': EFFECTS,
  'context.stage': STAGES,
  'context.tier': ['key', 'platform', 'measured'],
  'context.attestation': ATTESTATION_KINDS,
  'context.environment': ['production', 'staging', 'development'],
  'context.data_classification': ['public', 'internal', 'confidential', 'restricted'],
  'context.sender_constraint': ['dpop', 'mtls', 'bearer'],
  // An autonomous task's subject is the agent itself, and its issuer is the empty string.
  'context.subject.issuer': [...vocabulary.issuers, ''],
})

/** Attributes that change with time: they enter the context only where a policy of the slice reads them. */
export const TIME_ATTRIBUTES = ['now', 'hour_utc', 'weekday_utc', 'evidence_age_seconds'] as const

const cedarType: Readonly<Record<ClaimType, string>> = {
  string: 'String',
  integer: 'Long',
  boolean: 'Bool',
  string_list: 'Set<String>',
}

const entity = (name: string, ids: readonly string[]): string =>
  ids.length === 0 ? `entity ${name};` : `entity ${name} enum [${ids.map((id) => JSON.stringify(id)).join(', ')}];`

export function renderPolicySchema({ agents, tools, claims }: Vocabulary): string {
  const lines = [
    '// What policies can say. Derived from agents/, tools/ and issuers/: the service makes it anew at each load and never',
    '// reads this copy, which is for editors and for people.',
    '',
    '// One per registered agent, and one per tool.',
    entity('Agent', agents),
    entity(
      'Tool',
      tools.map((tool) => tool.name),
    ),
    '',
    'type Claims = {',
    ...Object.entries(claims).map(([name, type]) => `  ${JSON.stringify(name)}?: ${cedarType[type]},`),
    '};',
    '',
    '// Who the task is for: `id` is "<issuer name>|<sub>", for an autonomous task the agent\'s SPIFFE id.',
    'type Subject = {',
    '  id: String,',
    '  issuer: String,',
    '  groups: Set<String>,',
    '  claims: Claims,',
    '};',
    '',
    '// A registered release. Its parts are as sure as `tier` says: below measured they are the word of the agent.',
    'type Release = {',
    '  id: String,',
    '  version: String,',
    '  image?: String, // sha256:…',
    '  model?: String,',
    '  policy_version?: String,',
    '  prompt: String, // one digest over all prompts',
    '  tools: Set<String>, // names',
    '  skills: Set<String>, // name@version, or name',
    '  components: Set<String>, // package URLs: pkg:npm/hono@4.11.4',
    '  builder?: String, // who built the image, where its provenance is verified',
    '};',
    '',
    'type Context = {',
    `  effect: String, // ${EFFECTS.join(' | ')}`,
    `  stage: String, // ${STAGES.join(' | ')}`,
    '  tier: String, // how the agent was attested: key | platform | measured',
    `  attestation: String, // ${ATTESTATION_KINDS.join(' | ')}`,
    '  release?: Release, // where the agent said or the platform vouched for which one it is',
    '  environment: String, // production | staging | development',
    '  data_classification: String, // public | internal | confidential | restricted',
    '  autonomous: Bool, // the task has no user',
    '  depth: Long, // agents in the chain, 1 for the first',
    '  sender_constraint: String, // dpop | mtls | bearer',
    '  subject: Subject,',
    '  // All three in UTC, whatever the season.',
    '  now: datetime,',
    '  hour_utc: Long, // 0 to 23',
    '  weekday_utc: Long, // 1 is Monday, 7 is Sunday',
    '  evidence_age_seconds?: Long, // where the evidence says when it was issued',
    '};',
    '',
    '// `action in Action::"effect:read"` is every operation with that effect.',
    ...EFFECTS.map((effect) => `action ${JSON.stringify(effectGroup(effect))};`),
  ]
  for (const tool of tools) {
    lines.push('')
    for (const operation of tool.operations.values()) {
      lines.push(
        `action ${JSON.stringify(operationId(tool.name, operation.name))} in [Action::${JSON.stringify(effectGroup(operation.effect))}] appliesTo {`,
        '  principal: Agent, resource: Tool, context: Context',
        '};',
      )
    }
  }
  return `${lines.join('\n')}\n`
}
