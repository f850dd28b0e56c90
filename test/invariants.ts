/**
 * What must hold after every fault (SECURITY-CASES, Invariants), checked from what clients saw, what the audit log says
 * and what the store holds. Each checker answers the violations it found, in words; none is an empty list.
 * Inv4 (leases), Inv7 (approvals) and Inv11 (canaries) wait for the parts they speak of.
 */
import type { AccessTokenClaims, Grant, ToolAuthorization } from '@errand/verifier/claims.ts'
import { compareEpochs } from '@errand/verifier/epoch.ts'
import { fromAuthorizationDetails, grantsWithin } from '@errand/verifier/grants.ts'
import { type CheckedHop, type HopFacts, hopsOf } from '@errand/verifier/shapes.ts'
import { checkAuditLog } from '../src/audit/checker.ts'
import type { Revocation } from '../src/revoke/revocation-log.ts'
import type { Task } from '../src/tasks/task.ts'
import { decode } from './house.ts'

export type Outcome = 'ok' | 'fail' | 'unknown'

/** One call of one client. Times are whatever rises: milliseconds, or the steps of a scheduler. */
export interface Operation {
  readonly op: string
  readonly args: unknown
  readonly invoked: number
  readonly ended: number
  readonly outcome: Outcome
  readonly value: unknown
}

export interface History {
  readonly operations: readonly Operation[]
  /**
   * Makes the call and writes down how it went. `judge` tells success from refusal; what is thrown is `unknown` unless
   * `judgeFault` knows better. Answers undefined where it threw.
   */
  call<T>(
    op: string,
    args: unknown,
    call: () => Promise<T>,
    judge?: (value: T) => Outcome,
    judgeFault?: (error: unknown) => Outcome,
  ): Promise<T | undefined>
  of(op: string, outcome?: Outcome): readonly Operation[]
}

export function createHistory(time: () => number = () => performance.now()): History {
  const operations: Operation[] = []
  return {
    operations,
    async call(op, args, call, judge = () => 'ok', judgeFault = () => 'unknown') {
      const invoked = time()
      try {
        const value = await call()
        operations.push({ op, args, invoked, ended: time(), outcome: judge(value), value })
        return value
      } catch (error) {
        operations.push({ op, args, invoked, ended: time(), outcome: judgeFault(error), value: error })
        return undefined
      }
    },
    of: (op, outcome) => operations.filter((each) => each.op === op && (!outcome || each.outcome === outcome)),
  }
}

/** An access token as a client or the log shows it. */
export interface SeenToken {
  readonly claims: AccessTokenClaims
  readonly kid: string
}

export function tokenSeen(jws: string): SeenToken {
  const { header, payload } = decode(jws)
  return { claims: payload as unknown as AccessTokenClaims, kid: String(header['kid']) }
}

type Entry = Pick<Revocation, 'id' | 'match' | 'epoch'> & { readonly absolute?: boolean | undefined }

const matches = (match: HopFacts, facts: HopFacts): boolean =>
  Object.entries(match).every(([dimension, value]) => facts[dimension as keyof HopFacts] === value)

/** By the definition itself, without index, digest or cache: whether the entry kills a token with these hops. */
const kills = (entry: Entry, hops: readonly CheckedHop[]): boolean =>
  hops.some(
    ({ facts, rev }) => matches(entry.match, facts) && (entry.absolute === true || compareEpochs(entry.epoch, rev) > 0),
  )

const hopsOfSeen = ({ claims, kid }: SeenToken): readonly CheckedHop[] => {
  const hops = hopsOf(claims, kid)
  if (!hops) throw new Error(`the claims of ${claims.jti} contradict one another`)
  return hops
}

export const shouldBeDead = (token: SeenToken, entries: readonly Entry[]): boolean =>
  entries.some((entry) => kills(entry, hopsOfSeen(token)))

/** A verdict on a token: by a tool's verifier, by introspection, by the store. */
export interface Verdict {
  readonly jti: string
  readonly at: number
  readonly verdict: 'accepted' | 'revoked' | 'stale' | 'expired'
}

/** An entry whose writer was told that it stands. */
export interface Acknowledged {
  readonly entry: Entry
  readonly at: number
}

/** Inv1 (R1, R3): nothing is accepted later than the acknowledgement of its revocation and the staleness bound. */
export function inv1(
  tokens: ReadonlyMap<string, SeenToken>,
  verdicts: readonly Verdict[],
  acknowledged: readonly Acknowledged[],
  bound: number,
): readonly string[] {
  return verdicts.flatMap(({ jti, at, verdict }) => {
    const token = tokens.get(jti)
    if (verdict !== 'accepted' || !token) return []
    const hops = hopsOfSeen(token)
    return acknowledged
      .filter((each) => each.at + bound < at && kills(each.entry, hops))
      .map(({ entry, at: since }) => `Inv1: ${jti} accepted at ${at}, revoked by ${entry.id} since ${since}`)
  })
}

/** Inv2: what was refused as revoked stays refused (R2), and nothing is refused that no entry kills (R4). */
export function inv2(
  tokens: ReadonlyMap<string, SeenToken>,
  verdicts: readonly Verdict[],
  entries: readonly Entry[],
): readonly string[] {
  const found: string[] = []
  const dead = new Set<string>()
  for (const { jti, at, verdict } of [...verdicts].sort((a, b) => a.at - b.at)) {
    const token = tokens.get(jti)
    if (verdict === 'accepted' && dead.has(jti)) found.push(`Inv2: ${jti} was revoked and is accepted at ${at}`)
    if (verdict !== 'revoked') continue
    dead.add(jti)
    if (token && !shouldBeDead(token, entries))
      found.push(`Inv2 (R4): ${jti} is refused at ${at} and no entry kills it`)
  }
  return found
}

/** An intent as the log holds it: what a token says, and where it stands. */
export interface Intent {
  readonly jti: string
  readonly index: number
  readonly claims: AccessTokenClaims
}

/** Inv3 (R6): every token has exactly one intent; `signed` tells of each signature how many records there were then. */
export function inv3(
  tokens: ReadonlyMap<string, SeenToken>,
  intents: readonly Intent[],
  signed: readonly { readonly jti: string; readonly recordsThen: number }[] = [],
): readonly string[] {
  const byJti = new Map<string, Intent[]>()
  for (const intent of intents) byJti.set(intent.jti, [...(byJti.get(intent.jti) ?? []), intent])
  const seen = [...new Set([...tokens.keys(), ...signed.map(({ jti }) => jti)])]
  return [
    ...seen
      .filter((jti) => byJti.get(jti)?.length !== 1)
      .map((jti) => `Inv3: ${jti} has ${byJti.get(jti)?.length ?? 0} intents`),
    ...signed
      .filter(({ jti, recordsThen }) => (byJti.get(jti)?.[0]?.index ?? Number.POSITIVE_INFINITY) >= recordsThen)
      .map(({ jti }) => `Inv3: ${jti} was signed before its record was durable`),
  ]
}

/** Inv5: of all uses of one one-use thing one succeeds at most. `idOf` names the thing; undefined where there is none. */
export function inv5(
  operations: readonly Operation[],
  idOf: (operation: Operation) => string | undefined,
  same: (one: Operation, other: Operation) => boolean = () => false,
): readonly string[] {
  const first = new Map<string, Operation>()
  return operations.flatMap((operation) => {
    const id = operation.outcome === 'ok' ? idOf(operation) : undefined
    if (id === undefined) return []
    const before = first.get(id)
    first.set(id, before ?? operation)
    return before && !same(before, operation) ? [`Inv5: ${id} took effect twice (${before.op}, ${operation.op})`] : []
  })
}

/** Inv5 for budgets: what clients were granted is charged, what was charged was asked for, and no budget is overspent. */
export function budgets(
  tasks: readonly Task[],
  exchanges: (task: Task) => { readonly granted: number; readonly asked: number },
): readonly string[] {
  return tasks.flatMap((task) => {
    const { budget, spent } = task
    const found: string[] = []
    const over = (['calls', 'exchanges', 'cost'] as const).filter(
      (name) =>
        spent[name] > (budget[`max${name[0]!.toUpperCase()}${name.slice(1)}` as 'maxCalls'] ?? Number.MAX_SAFE_INTEGER),
    )
    for (const name of over) found.push(`Inv5: ${task.id} spent ${spent[name]} ${name} of its budget`)
    if (budget.maxExchanges === undefined) return found
    const { granted, asked } = exchanges(task)
    if (granted > spent.exchanges) found.push(`Inv5: ${task.id} charged ${spent.exchanges} of ${granted} exchanges`)
    if (spent.exchanges > asked) found.push(`Inv5: ${task.id} charged ${spent.exchanges}, asked were ${asked}`)
    return found
  })
}

/** Inv6: whatever was acknowledged is there, as it was said. */
export function inv6(
  acknowledged: readonly Acknowledged[],
  entries: readonly Entry[],
  ended: readonly string[],
  stateOf: (task: string) => string | undefined,
): readonly string[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  const same = (one: Entry, other: Entry) =>
    compareEpochs(one.epoch, other.epoch) === 0 && JSON.stringify(one.match) === JSON.stringify(other.match)
  return [
    ...acknowledged
      .filter(({ entry }) => !byId.has(entry.id) || !same(entry, byId.get(entry.id)!))
      .map(({ entry }) => `Inv6: the acknowledged entry ${entry.id} is gone or changed`),
    ...ended
      .filter((task) => ['active', 'suspended', undefined].includes(stateOf(task)))
      .map((task) => `Inv6: ${task} was ended and is ${stateOf(task)}`),
  ]
}

/** Inv8: the log verifies, and is no shorter than it was. Answers its length. */
export async function inv8(
  folder: string,
  records = 0,
): Promise<{ readonly found: readonly string[]; records: number }> {
  const report = await checkAuditLog({ folder })
  return {
    records: report.records,
    found: [
      ...report.damage.map(({ kind, index, detail }) => `Inv8: ${kind} at ${index}: ${detail}`),
      ...(report.records < records ? [`Inv8: the log had ${records} records and has ${report.records}`] : []),
    ],
  }
}

/** Inv9: an unknown outcome is all or nothing: `resolve` looks, and answers what it found. */
export async function inv9(
  operations: readonly Operation[],
  resolve: (operation: Operation) => Promise<'all' | 'nothing' | 'part'>,
): Promise<readonly string[]> {
  const found: string[] = []
  for (const operation of operations.filter(({ outcome }) => outcome === 'unknown')) {
    if ((await resolve(operation)) === 'part')
      found.push(`Inv9: ${operation.op} ${JSON.stringify(operation.args)} happened by half`)
  }
  return found
}

const grantsOf = (details: readonly ToolAuthorization[]): readonly Grant[] => fromAuthorizationDetails(details)
/**
 * Inv10 (R7): authority only shrinks. A token made from another of the same task, or handed over, holds nothing that
 * one does not hold; no child task outlives its parent or holds what the parent's authority does not.
 */
export function inv10(intents: readonly Intent[], tasks: readonly Task[]): readonly string[] {
  const byJti = new Map(intents.map((intent) => [intent.jti, intent.claims]))
  const byId = new Map(tasks.map((task) => [task.id, task]))
  return [
    ...intents.flatMap(({ jti, claims }) => {
      const parent = byJti.get(claims.hops?.[0]?.jti ?? '')
      if (!parent || parent.aud !== claims.aud) return []
      return grantsWithin(grantsOf(claims.authorization_details), grantsOf(parent.authorization_details))
        ? []
        : [`Inv10: ${jti} holds more than ${parent.jti}, from which it descends`]
    }),
    ...intents.flatMap(({ jti, claims }) => {
      const task = byId.get(claims.task.id)
      if (!task) return []
      return [
        ...(claims.exp > task.deadline ? [`Inv10: ${jti} outlives its task ${task.id}`] : []),
        ...(grantsWithin(grantsOf(claims.authorization_details), task.authority)
          ? []
          : [`Inv10: ${jti} holds more than its task ${task.id}`]),
      ]
    }),
    ...tasks.flatMap((task) => {
      const parent = byId.get(task.parent ?? '')
      if (!parent) return []
      return [
        ...(task.deadline > parent.deadline ? [`Inv10: ${task.id} outlives its parent ${parent.id}`] : []),
        ...(grantsWithin(task.authority, parent.authority)
          ? []
          : [`Inv10: ${task.id} may more than its parent ${parent.id}`]),
      ]
    }),
  ]
}

/** Inv12: from 10 s after the fault on, 999 of 1,000 honest requests succeed, with no operator. */
export function inv12(
  honest: readonly Operation[],
  faultEndedAt: number,
  { withinMs = 10_000, share = 0.999 }: { readonly withinMs?: number; readonly share?: number } = {},
): readonly string[] {
  const after = honest.filter(({ invoked }) => invoked >= faultEndedAt + withinMs)
  const good = after.filter(({ outcome }) => outcome === 'ok').length
  if (after.length === 0) return ['Inv12: nobody asked after the fault']
  return good / after.length >= share
    ? []
    : [`Inv12: ${good} of ${after.length} succeed ${withinMs} ms after the fault`]
}
