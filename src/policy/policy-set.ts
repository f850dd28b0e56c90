/** Policies sliced per agent and tool: what is asked of Cedar is the few that can apply, and its answers are remembered. */
import { createHash } from 'node:crypto'
import type { Release } from '../attest/release.ts'
import { createRemembered, keyFor } from '../attest/remembered.ts'
import { promptDigest } from '../attest/release-manifest.ts'
import type { Annotations } from './annotations.ts'
import type { Cedar, CedarAnswer, CedarSlice, CedarValueJson, Expr, PolicyJson } from './cedar.ts'
import { effectGroup, operationId } from './identifier.ts'
import { TIME_ATTRIBUTES } from './schema.ts'

export interface LoadedPolicy {
  readonly annotations: Annotations
  readonly effect: 'permit' | 'forbid'
  readonly text: string
  readonly json: PolicyJson
  readonly file: string
  readonly line: number
}

export interface PolicyQuestion {
  readonly agent: string
  readonly tool: string
  readonly operation: string
  readonly effect: string
  /** Everything but time and the release. */
  readonly context: Readonly<Record<string, CedarValueJson>>
  readonly release?: Release
  /** Unix seconds at which the evidence was issued, where it says so. */
  readonly evidenceAt?: number
  /** Unix seconds. */
  readonly now: number
}

export interface PolicySet {
  /** Short digest of all policies: the claim `pol`. */
  readonly digest: string
  readonly policies: ReadonlyMap<string, LoadedPolicy>
  evaluate(question: PolicyQuestion): CedarAnswer
  /** What the policies that can apply read of time, as they read it; empty where they read none. */
  timesRead(agent: string, tool: string, now: number, evidenceAt?: number): string
}

interface Slice extends CedarSlice {
  readonly time: ReadonlySet<TimeAttribute>
  readonly readsRelease: boolean
}
type TimeAttribute = (typeof TIME_ATTRIBUTES)[number]

const REMEMBERED_ANSWERS = 8192

export function createPolicySet(policies: readonly LoadedPolicy[], cedar: Cedar): PolicySet {
  const byId = new Map(policies.map((policy) => [policy.annotations.id, policy]))
  const byAgent = new Map<string, LoadedPolicy[]>()
  const forAnyAgent: LoadedPolicy[] = []
  for (const policy of policies) {
    const agent = scopeEntity(policy.json.principal)
    if (agent === undefined) forAnyAgent.push(policy)
    else byAgent.set(agent, [...(byAgent.get(agent) ?? []), policy])
  }

  const slices = new Map<string, Slice>()
  function sliceOf(agent: string, tool: string): Slice {
    const key = operationId(tool, agent)
    const known = slices.get(key)
    if (known) return known
    const chosen = [...forAnyAgent, ...(byAgent.get(agent) ?? [])].filter(({ json }) => {
      const resource = scopeEntity(json.resource)
      return resource === undefined || resource === tool
    })
    const slice = {
      digest: digestOf(chosen),
      policies: Object.fromEntries(chosen.map((policy) => [policy.annotations.id, policy.text])),
      time: new Set(chosen.flatMap(({ json }) => [...attributesRead(json, TIME_ATTRIBUTES)])),
      readsRelease: chosen.some(({ json }) => attributesRead(json, ['release']).size > 0),
    }
    slices.set(key, slice)
    return slice
  }

  const answers = createRemembered<CedarAnswer>(REMEMBERED_ANSWERS)
  function remembered(question: string, compute: () => CedarAnswer): CedarAnswer {
    const key = keyFor(question)
    const known = answers.get(key)
    if (known) return known
    const answer = compute()
    answers.put(key, answer)
    return answer
  }

  return {
    digest: digestOf(policies).slice(0, 12),
    policies: byId,
    timesRead: (agent, tool, now, evidenceAt) => {
      const { time } = sliceOf(agent, tool)
      return time.size === 0 ? '' : JSON.stringify(timeFacts(now, time, evidenceAt))
    },
    evaluate({ agent, tool, operation, effect, context, now, evidenceAt, ...more }) {
      const slice = sliceOf(agent, tool)
      // No policy, no permit: default deny needs no engine.
      if (Object.keys(slice.policies).length === 0) return { allowed: false, determining: [], errors: [] }
      const facts = { ...context, ...timeFacts(now, slice.time, evidenceAt) }
      const release = slice.readsRelease ? more.release : undefined
      // The digest stands for the set and the text for the facts, so equal keys are equal questions.
      return remembered(
        JSON.stringify([slice.digest, agent, tool, operation, effect, facts, release && releaseKey(release)]),
        () =>
          cedar.evaluate(slice, {
            principal: { type: 'Agent', id: agent },
            action: { type: 'Action', id: operationId(tool, operation), groups: [effectGroup(effect)] },
            resource: { type: 'Tool', id: tool },
            context: release ? { ...facts, release: releaseFacts(release) } : facts,
          }),
      )
    },
  }
}

/** The one entity that a scope admits; undefined where it admits every one. */
export function scopeEntity(scope: PolicyJson['principal'] | PolicyJson['resource']): string | undefined {
  const constraint = scope.op === 'is' ? scope.in : scope.op === 'All' ? undefined : scope
  if (constraint === undefined || !('entity' in constraint)) return undefined
  // Agents and tools have no groups, so `in` is `==`.
  return '__entity' in constraint.entity ? constraint.entity.__entity.id : constraint.entity.id
}

/** Every expression of a policy's conditions, outermost first. */
export function* expressionsOf(json: PolicyJson): Generator<Expr> {
  const open: unknown[] = json.conditions.map((clause) => clause.body)
  while (open.length > 0) {
    const next = open.pop()
    if (typeof next !== 'object' || next === null) continue
    if (!Array.isArray(next)) yield next as Expr
    open.push(...Object.values(next))
  }
}

/** Which of `attributes` of the context a policy reads; all of them where it uses the context as a whole. */
function attributesRead<A extends string>(json: PolicyJson, attributes: readonly A[]): ReadonlySet<A> {
  const read = new Set<A>()
  let uses = 0
  let named = 0
  for (const node of expressionsOf(json)) {
    if ('Var' in node && node.Var === 'context') uses++
    const access = '.' in node ? node['.'] : 'has' in node ? node.has : undefined
    if (!access || Array.isArray(access) || !isContext(access.left)) continue
    named++
    const attribute = Array.isArray(access.attr) ? access.attr[0] : access.attr
    for (const one of attributes) if (attribute === one) read.add(one)
  }
  return uses === named ? read : new Set(attributes)
}

// A record literal may have any member names, also those of the operators.
const isContext = (node: Expr | undefined): boolean =>
  typeof node === 'object' && node !== null && 'Var' in node && node.Var === 'context'

/** In UTC, which has no seasons; a leap second is not counted by Unix time (SECURITY-CASES G9). */
function timeFacts(
  now: number,
  wanted: ReadonlySet<TimeAttribute>,
  evidenceAt: number | undefined,
): Record<string, CedarValueJson> {
  if (wanted.size === 0) return {}
  const date = new Date(now * 1000)
  return {
    ...(wanted.has('now') ? { now: { __extn: { fn: 'datetime', arg: date.toISOString() } } } : {}),
    ...(wanted.has('hour_utc') ? { hour_utc: date.getUTCHours() } : {}),
    ...(wanted.has('weekday_utc') ? { weekday_utc: date.getUTCDay() || 7 } : {}),
    // Its issuer's clock may be ahead of ours.
    ...(wanted.has('evidence_age_seconds') && evidenceAt !== undefined
      ? { evidence_age_seconds: Math.max(0, now - evidenceAt) }
      : {}),
  }
}

/** The id stands for all parts but the one that is not in the manifest. */
const releaseKey = ({ id, builder }: Release): readonly (string | undefined)[] => [id, builder]

function releaseFacts({ id, manifest, builder }: Release): Record<string, CedarValueJson> {
  const { version, image, model, policy_version } = manifest
  return {
    id,
    version,
    ...(image === undefined ? {} : { image }),
    ...(model === undefined ? {} : { model }),
    ...(policy_version === undefined ? {} : { policy_version }),
    prompt: promptDigest(manifest),
    tools: manifest.tools.map(({ name }) => name),
    skills: manifest.skills.map(({ name, version }) => (version === undefined ? name : `${name}@${version}`)),
    components: manifest.components,
    ...(builder === undefined ? {} : { builder }),
  }
}

/** Over what policies mean, not how they are laid out: a new comment is no new set. */
export function digestOf(policies: readonly Pick<LoadedPolicy, 'annotations' | 'json'>[]): string {
  const meaning = policies
    .map((policy) => [policy.annotations.id, canonical(policy.json)])
    .sort(([a], [b]) => (a! < b! ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(meaning)).digest('base64url')
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
