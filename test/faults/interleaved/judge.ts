/** What a schedule must leave true, whatever happened in it (DESIGN.md, *Invariants*). */
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { DIMENSIONS, type HopFacts, hopsOf } from '@errand/verifier/shapes.ts'
import type { TokenResponse } from '../../../src/exchange/prepared.ts'
import { takes } from '../../../src/tasks/containment.ts'
import { stateAt, type Task } from '../../../src/tasks/task.ts'
import {
  budgets,
  inv1,
  inv10,
  inv2,
  inv3,
  inv5,
  inv6,
  type Intent,
  type Operation,
  shouldBeDead,
  tokenSeen,
} from '../../invariants.ts'
import type { Service } from './service.ts'
import type { World } from './world.ts'

/** Each token by what was last said of it: dead where an entry kills it, and nowhere else. */
export function judgeTokens({ verdicts, tokens, entries, clock }: World, service: Service): readonly string[] {
  const found: string[] = []
  const judged = new Map(verdicts.map((each) => [each.jti, each.verdict]))
  for (const [jti, token] of tokens) {
    const { claims, kid } = token
    const expected = shouldBeDead(token, [...entries.values()])
    // Made while the clock was ahead, it is not valid yet.
    if (clock.now >= claims.exp || claims.iat > clock.now) continue
    const verdict = judged.get(jti)
    const foreign = hopsOf(claims, kid)!.some(({ facts }) => facts.policy !== service.current().policyDigest)
    if (verdict === 'accepted' && expected) found.push(`R1: ${jti} is accepted, and an entry kills it`)
    if (verdict === 'revoked' && !expected) found.push(`R4: ${jti} is refused, and no entry kills it`)
    if (verdict === 'accepted' && foreign) found.push(`D23: ${jti} was decided by another policy set and lives`)
    if (verdict === 'expired' && service.ring.verifyKey(kid)?.state !== 'compromised')
      found.push(`${jti} does not verify, and neither its life nor its key has ended`)
  }
  return found
}

/** Whether the match names the task as a whole. */
function names(match: HopFacts, { id, root, agent, agentSpiffeId, subject }: Task): boolean {
  const facts: HopFacts = { task: id, root, client_id: agent, agent: agentSpiffeId, sub: subject.id }
  return DIMENSIONS.every((each) => match[each] === undefined || match[each] === facts[each])
}

/** All that was asked and answered. Where it was `timeless`, no idempotency key had the time to be forgotten. */
export async function judgeHistory(world: World, service: Service, timeless: boolean): Promise<readonly string[]> {
  const { history, records, entries, acknowledged, bans, readmitted, signed, tokens, verdicts, endedTasks, clock } =
    world
  const found: string[] = []
  const intents: Intent[] = records.flatMap((event, index) =>
    event.type === 'token.issuing' && event.jti !== undefined
      ? [{ jti: event.jti, index, claims: event.claims as unknown as AccessTokenClaims }]
      : [],
  )
  const all = await service.opened.tasks.list({ limit: 1000 })
  const stateOf = new Map(all.map((task) => [task.id, task.state]))
  const exchanges = ['open', 'inTask', 'renew', 'handOver', 'accept', 'replay']
  const under = (task: string): readonly string[] => [
    task,
    ...all.filter(({ parent }) => parent === task).flatMap(({ id }) => under(id)),
  ]
  const issued = (operation: Operation): { jti: string; task: string } | undefined => {
    const answer = operation.value as { readonly ok: true; readonly value: TokenResponse }
    if (operation.outcome !== 'ok' || !exchanges.includes(operation.op)) return undefined
    const { claims } = tokenSeen(answer.value.access_token)
    return { jti: claims.jti, task: claims.task.id }
  }
  const asked = history.operations.filter(({ op }) => exchanges.includes(op))
  found.push(
    ...inv1(tokens, verdicts, acknowledged, 0),
    ...inv2(tokens, verdicts, [...entries.values()]),
    ...inv3(tokens, intents, signed),
    ...inv5(
      asked,
      ({ op, args }) => (op === 'accept' ? `hand-over ${(args as { subject: string }).subject}` : undefined),
      (one, other) => issued(one)?.jti === issued(other)?.jti,
    ),
    ...inv5(asked, ({ args }) => `assertion ${(args as { assertion: string }).assertion}`),
    ...budgets(all, ({ id }) => {
      const family = under(id)
      return {
        granted: new Set(intents.filter(({ claims }) => family.includes(claims.task.id)).map(({ jti }) => jti)).size,
        asked: asked.length,
      }
    }),
    ...inv6(
      acknowledged.filter(({ entry }) => clock.now < entries.get(entry.id)!.expiresAt),
      [...entries.values()],
      endedTasks,
      (id) => stateOf.get(id),
    ),
    ...inv10(
      intents,
      // What was taken since then is looked at below.
      all.map((task) => ({ ...task, authority: world.authorities.get(task.id) ?? task.authority })),
    ),
  )
  // What was taken from a task is in no token of it that lives.
  const contained = new Map(all.map((task) => [task.id, task.contained ?? []]))
  for (const [jti, verdict] of new Map(verdicts.map((each) => [each.jti, each.verdict]))) {
    const { claims } = tokens.get(jti)!
    const granted = claims.authorization_details.flatMap(({ tool, operations }) =>
      operations.map((operation) => ({ tool, operation })),
    )
    const taken = contained.get(claims.task.id)?.find((each) => granted.some((grant) => takes(each, grant)))
    if (verdict === 'accepted' && taken) found.push(`${jti} is accepted with what ${taken.by} took from its task`)
  }
  // What a suspension in force names is suspended, and nothing else is, when the last start has done what was left to do.
  const open = (await service.bans()).filter(({ mode }) => mode === 'suspend')
  for (const task of all) {
    const state = stateAt(task, clock.now)
    const held = task.suspendedBy ?? []
    for (const id of held.filter((each) => !open.some((entry) => entry.id === each)))
      found.push(`${task.id} is held by ${id}, which is not in force`)
    for (const entry of open.filter(({ match }) => names(match, task)))
      if (state === 'active') found.push(`${task.id} is active, and ${entry.id} suspends it`)
  }
  // L15: who is banned gets nothing that it asks for afterwards, until it is admitted again.
  for (const operation of asked) {
    const got = issued(operation)
    const token = got && tokens.get(got.jti)
    if (!token) continue
    for (const { entry, at } of bans) {
      const lifted = (readmitted.get(entry.id) ?? Number.POSITIVE_INFINITY) < operation.ended
      if (lifted || at >= operation.invoked || (entry.banUntil ?? Number.POSITIVE_INFINITY) <= clock.now) continue
      if (shouldBeDead(token, [{ ...entry, absolute: true }]))
        found.push(`L15: ${got.jti} was asked for at ${operation.invoked} and given, banned by ${entry.id} since ${at}`)
    }
  }
  // D20: one key, one token.
  const byKey = new Map<string, string>()
  for (const operation of asked) {
    const { key, clientId } = operation.args as { readonly key?: string; readonly clientId: string }
    const got = issued(operation)
    if (!got || key === undefined) continue
    const before = byKey.get(`${clientId} ${key}`)
    if (timeless && before !== undefined && before !== got.jti)
      found.push(`D20: ${key} was answered with ${before} and ${got.jti}`)
    byKey.set(`${clientId} ${key}`, got.jti)
  }
  return found
}
