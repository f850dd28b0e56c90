/**
 * Which agent a workload token is evidence of: registrations name exact values of its claims, and nothing is matched by
 * pattern. One look into a map for each set of claims that rules name, however many agents there are.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '@errand/verifier/strict-json.ts'
import type { AgentRegistration } from './registration.ts'
import { digestOf } from './remembered.ts'

export type ClaimValue = string | number | boolean

export interface ClaimCondition {
  /** Member names from the outside in: `['kubernetes.io', 'namespace']`. */
  readonly path: readonly string[]
  /** The claim is one of these. */
  readonly oneOf: readonly ClaimValue[]
}

/** A token of this issuer whose claims fulfil all conditions. */
export interface WorkloadRule {
  /** `iss` of the issuer. */
  readonly issuer: string
  readonly conditions: readonly ClaimCondition[]
}

export interface WorkloadMatch {
  readonly agent: AgentRegistration
  /** The name by which the token knows the workload: where it passes to another agent, a new life begins. */
  readonly principals: readonly [string]
}

export interface WorkloadRules {
  match(issuer: string, payload: JsonObject): WorkloadMatch | undefined
}

/** Combinations of values that one rule may stand for. */
export const MAX_COMBINATIONS = 256

interface Shape {
  readonly paths: readonly (readonly string[])[]
  /** Values at the paths, in their order → whose they are. */
  readonly owners: Map<string, WorkloadMatch>
}

export function createWorkloadRules(agents: readonly AgentRegistration[]): WorkloadRules {
  const byIssuer = new Map<string, Map<string, Shape>>()
  for (const agent of agents) {
    for (const rule of agent.workload ?? []) {
      const shapes = byIssuer.get(rule.issuer) ?? new Map<string, Shape>()
      byIssuer.set(rule.issuer, shapes)
      const key = shapeOf(rule)
      const shape = shapes.get(key) ?? { paths: sorted(rule).map(({ path }) => path), owners: new Map() }
      shapes.set(key, shape)
      for (const values of combinations(rule)) {
        const text = JSON.stringify(values)
        shape.owners.set(text, { agent, principals: [`workload_oidc:${digestOf([rule.issuer, key, text])}`] })
      }
    }
  }
  return {
    match(issuer, payload) {
      for (const { paths, owners } of byIssuer.get(issuer)?.values() ?? []) {
        const values = paths.map((path) => claimAt(payload, path))
        if (values.includes(undefined)) continue
        const match = owners.get(JSON.stringify(values))
        if (match !== undefined) return match
      }
      return undefined
    },
  }
}

/** Two rules of two agents that one token could fulfil; the places are the agent's own and the rule's number in it. */
export interface Ambiguity {
  readonly agent: AgentRegistration
  readonly rule: number
  readonly other: AgentRegistration
}

export function ambiguousRules(agents: readonly AgentRegistration[]): readonly Ambiguity[] {
  const found: Ambiguity[] = []
  const shapes = new Map<string, { issuer: string; paths: readonly string[]; rules: Placed[] }>()
  for (const agent of agents) {
    for (const [number, rule] of (agent.workload ?? []).entries()) {
      const key = `${rule.issuer} ${shapeOf(rule)}`
      const paths = sorted(rule).map(({ path }) => JSON.stringify(path))
      const shape = shapes.get(key) ?? { issuer: rule.issuer, paths, rules: [] }
      shapes.set(key, shape)
      shape.rules.push({ agent, number, rule })
    }
  }
  const all = [...shapes.values()]
  for (const [index, mine] of all.entries()) {
    for (const theirs of all.slice(index)) {
      if (mine.issuer !== theirs.issuer) continue
      // What only one of them looks at, the token may say as it likes: they are told apart by what both look at.
      const shared = mine.paths.filter((path) => theirs.paths.includes(path))
      const owners = new Map<string, AgentRegistration[]>()
      const own = ({ agent, rule }: Placed) => {
        for (const key of projections(rule, shared)) {
          const known = owners.get(key)
          if (known === undefined) owners.set(key, [agent])
          else if (known.length < 2 && !known.includes(agent)) known.push(agent)
        }
      }
      if (mine !== theirs) mine.rules.forEach(own)
      for (const placed of theirs.rules) {
        const { agent, number, rule } = placed
        const other = projections(rule, shared)
          .flatMap((key) => owners.get(key) ?? [])
          .find((owner) => owner !== agent)
        if (other !== undefined) found.push({ agent, rule: number, other })
        // Among themselves, each with those before it: a pair is told once.
        if (mine === theirs) own(placed)
      }
    }
  }
  return found
}

interface Placed {
  readonly agent: AgentRegistration
  readonly number: number
  readonly rule: WorkloadRule
}

const sorted = ({ conditions }: WorkloadRule): readonly ClaimCondition[] =>
  [...conditions].sort((a, b) => (JSON.stringify(a.path) < JSON.stringify(b.path) ? -1 : 1))

const shapeOf = (rule: WorkloadRule): string => JSON.stringify(sorted(rule).map(({ path }) => path))

/** How many texts a rule stands for: each value of each claim with each of the others. */
export const combinationsIn = (conditions: readonly ClaimCondition[]): number =>
  conditions.reduce((product, { oneOf }) => product * oneOf.length, 1)

const combinations = (rule: WorkloadRule): readonly (readonly ClaimValue[])[] =>
  sorted(rule).reduce<readonly (readonly ClaimValue[])[]>(
    (done, { oneOf }) => done.flatMap((values) => oneOf.map((value) => [...values, value])),
    [[]],
  )

const projections = ({ issuer, conditions }: WorkloadRule, paths: readonly string[]): readonly string[] =>
  combinations({ issuer, conditions: conditions.filter(({ path }) => paths.includes(JSON.stringify(path))) }).map(
    (values) => JSON.stringify(values),
  )

/** Only what can be compared: a claim that is a list or an object equals no value. */
function claimAt(payload: JsonObject, path: readonly string[]): ClaimValue | undefined {
  let at: JsonValue | undefined = payload
  for (const name of path) {
    if (!isJsonObject(at) || !Object.hasOwn(at, name)) return undefined
    at = at[name]
  }
  return typeof at === 'string' || typeof at === 'number' || typeof at === 'boolean' ? at : undefined
}
