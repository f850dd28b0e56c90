/**
 * Inv10 (R7 of DESIGN.md): along random chains of narrowing, renewing and handing over, what is issued lies within
 * every operand of authority, and neither lives longer nor stands deeper than what it came from.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AccessTokenClaims, Actor, Grant } from '@errand/verifier/claims.ts'
import { fromAuthorizationDetails, grantsWithin } from '@errand/verifier/grants.ts'
import { agentFile } from '../company.ts'
import { type Answer, decode, DEV_ISSUER, type House, openHouse } from '../house.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const refund = (most: number) =>
  `{ operation: 'payments:refund', constraints: { type: object, properties: { amount_cents: { type: integer, maximum: ${most} } } } }`
const query = (...datasets: string[]) =>
  `{ operation: 'warehouse:run_query', constraints: { type: object, properties: { dataset: { enum: [${datasets.join(', ')}] } } } }`

const NAMES = ['payments', 'second', 'third', 'fourth', 'fifth'] as const
const others = (name: string) => NAMES.filter((each) => each !== name)
const config = {
  'agents/payments.yaml': agentFile('payments', {
    stage: 'irreversible_write',
    ceiling: ['tickets:*', 'crm:*', 'payments:read_payment', refund(20_000), query('sales', 'support', 'finance')],
    delegatesTo: others('payments'),
  }),
  'agents/second.yaml': agentFile('second', {
    ceiling: ['tickets:read_ticket', 'tickets:add_comment', 'crm:read_customer', query('sales', 'support')],
    delegatesTo: others('second'),
  }),
  'agents/third.yaml': agentFile('third', {
    stage: 'external',
    ceiling: ['tickets:*', refund(3_000), 'payments:read_payment', query('sales', 'finance')],
    delegatesTo: others('third'),
  }),
  'agents/fourth.yaml': agentFile('fourth', {
    stage: 'read',
    ceiling: ['tickets:*', 'crm:*', query('sales')],
    delegatesTo: others('fourth'),
  }),
  'agents/fifth.yaml': agentFile('fifth', { ceiling: ['tickets:*'], delegatesTo: others('fifth') }),
}

const STAGES: Record<string, readonly string[]> = {
  read: ['read'],
  reversible_write: ['read', 'reversible_write'],
  irreversible_write: ['read', 'reversible_write', 'irreversible_write'],
  external: ['read', 'reversible_write', 'irreversible_write', 'external_communication'],
}

interface Issued {
  readonly agent: number
  readonly token: string
  readonly claims: AccessTokenClaims
  readonly grants: readonly Grant[]
}

const OPERATIONS: Record<string, readonly string[]> = {
  tickets: ['read_ticket', 'search_tickets', 'add_comment', 'close_ticket', 'reply_to_customer'],
  crm: ['read_customer', 'search_customers', 'update_customer', 'delete_customer'],
  payments: ['read_payment', 'refund', 'pay_out'],
  warehouse: ['run_query', 'export_dataset', 'drop_dataset'],
}
const tools = Object.keys(OPERATIONS)

/** What is asked for of a tool: all there is, some of it by scope, or with arguments. */
const asked = fc.record({
  tool: fc.constantFrom(...tools, 'tickets', 'tickets'),
  how: fc.constantFrom('all', 'all', 'all', 'all', 'scope', 'details'),
  pick: fc.array(fc.nat(4), { minLength: 1, maxLength: 3 }),
  most: fc.constantFrom(10, 2_000, 4_000, 15_000, 50_000),
})
const opening = fc.record({
  kind: fc.constant('open' as const),
  agent: fc.nat(4),
  user: fc.constantFrom('alice', 'alice', 'bob'),
  deadline: fc.integer({ min: 5, max: 900 }),
  asked,
})
const step = fc.oneof(
  { weight: 1, arbitrary: opening },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('narrow' as const), from: fc.nat(), asked }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('hand_over' as const),
      from: fc.nat(),
      /** How far on in the list of agents: to itself no agent hands over. */
      to: fc.integer({ min: 1, max: 4 }),
      asked,
      taken: asked,
      deadline: fc.option(fc.integer({ min: 1, max: 2000 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds: fc.integer({ min: 1, max: 50 }) }) },
)

describe('authority along chains', () => {
  let house: House
  let agents: Agent[]
  let issuedInAll = 0
  let deepest = 0
  beforeAll(async () => {
    house = await openHouse({ config })
    agents = await Promise.all(NAMES.map((name) => house.agent(name)))
  })
  afterAll(() => house.close())

  function formOf({ tool, how, pick, most }: { tool: string; how: string; pick: readonly number[]; most: number }) {
    const names = [...new Set(pick.map((each) => OPERATIONS[tool]![each % OPERATIONS[tool]!.length]!))]
    if (how === 'all') return { audience: tool }
    if (how === 'scope') return { audience: tool, scope: names.map((name) => `${tool}:${name}`).join(' ') }
    const property =
      tool === 'warehouse' ? { dataset: { enum: ['sales'] } } : { amount_cents: { type: 'integer', maximum: most } }
    return {
      audience: tool,
      authorization_details: JSON.stringify([
        { type: 'tool', tool, operations: names, constraints: { type: 'object', properties: property } },
      ]),
    }
  }

  const effectOf = ({ tool, operation }: Grant) =>
    house.service.snapshot().tools.byName(tool)?.operations.get(operation)?.effect
  const actors = (act: Actor | undefined): number => (act ? 1 + actors(act.act) : 0)

  /** Everything that holds of any token that was issued. */
  async function check(agent: number, answer: Answer, from: Issued | undefined): Promise<Issued> {
    const token = answer.body['access_token'] as unknown as string
    const claims = decode(token).payload as unknown as AccessTokenClaims
    const grants = fromAuthorizationDetails(claims.authorization_details)
    const snapshot = house.service.snapshot()
    const registration = snapshot.agents.byClientId(NAMES[agent]!)!
    const task = (await house.service.stores.tasks.get(claims.task.id))!
    const rights = snapshot.issuers.byIss(DEV_ISSUER)!.rights({ sub: '', groups: task.subject.groups })
    expect(grants.length).toBeGreaterThan(0)
    expect(grantsWithin(grants, rights), 'the rights of the user').toBe(true)
    expect(grantsWithin(grants, registration.ceiling), 'the ceiling of the agent').toBe(true)
    expect(grantsWithin(grants, task.authority), 'the authority of the task').toBe(true)
    for (const grant of grants) expect(STAGES[registration.stage], 'the stage').toContain(effectOf(grant))
    for (const detail of claims.authorization_details) {
      for (const operation of detail.operations) expect(effectOf({ tool: detail.tool, operation })).toBe(detail.effect)
    }
    expect(claims.exp).toBeLessThanOrEqual(task.deadline)
    expect(claims.exp - claims.iat).toBeLessThanOrEqual(300)
    expect(claims.task.depth).toBe(task.depth)
    expect(actors(claims.act)).toBeLessThanOrEqual(4)
    expect(Buffer.byteLength(token)).toBeLessThanOrEqual(2048)
    if (task.parent !== undefined) {
      const parent = (await house.service.stores.tasks.get(task.parent))!
      expect(grantsWithin(task.authority, parent.authority), 'the authority of the parent task').toBe(true)
      expect(task.deadline).toBeLessThanOrEqual(parent.deadline)
      expect(task.depth).toBe(parent.depth + 1)
      expect(task.root).toBe(parent.root)
      expect(task.subject).toEqual(parent.subject)
    }
    if (from) {
      expect(grantsWithin(grants, from.grants), 'what it came from').toBe(true)
      expect(claims.sub).toBe(from.claims.sub)
      expect(claims.task.root).toBe(from.claims.task.root)
      expect(claims.aud).toBe(from.claims.aud)
    }
    issuedInAll += 1
    deepest = Math.max(deepest, claims.task.depth)
    return { agent, token, claims, grants }
  }

  it('Inv10 never gives more than any operand, nor for longer, nor deeper, however requests are combined', async () => {
    await fc.assert(
      fc.asyncProperty(opening, fc.array(step, { minLength: 5, maxLength: 14 }), async (first, rest) => {
        const steps = [first, ...rest]
        const held: Issued[] = []
        for (const each of steps) {
          if (each.kind === 'wait') {
            house.advance(each.seconds)
            continue
          }
          if (each.kind === 'open') {
            const answer = await agents[each.agent]!.exchange({
              user: each.user,
              form: { ...formOf(each.asked), request_details: house.details({ deadline_seconds: each.deadline }) },
            })
            expect(answer.status, answer.text).toBeLessThan(500)
            if (answer.status === 200) held.push(await check(each.agent, answer, undefined))
            continue
          }
          // The newest are handed on most, so that chains get long.
          const from = held[held.length - 1 - (each.from % Math.max(1, Math.min(3, held.length)))]
          if (!from) continue
          const holder = agents[from.agent]!
          const tool = from.grants[0]!.tool
          if (each.kind === 'narrow') {
            const answer = await holder.from(from.token, formOf({ ...each.asked, tool }))
            expect(answer.status, answer.text).toBeLessThan(500)
            if (answer.status === 200) held.push(await check(from.agent, answer, from))
            continue
          }
          const to = (from.agent + each.to) % NAMES.length
          const handOver = await holder.handOver(from.token, NAMES[to]!, formOf({ ...each.asked, tool }))
          expect(handOver.status, handOver.text).toBeLessThan(500)
          if (handOver.status !== 200) continue
          const given = decode(handOver.body['access_token'] as unknown as string)
            .payload as unknown as AccessTokenClaims
          const grants = fromAuthorizationDetails(given.authorization_details)
          expect(grantsWithin(grants, from.grants), 'what is handed over').toBe(true)
          expect(given.exp).toBeLessThanOrEqual(from.claims.exp)
          expect(given.exp - given.iat).toBeLessThanOrEqual(60)
          const answer = await agents[to]!.accept(handOver.body['access_token'] as unknown as string, {
            ...formOf({ ...each.taken, tool }),
            ...(each.deadline === null ? {} : { request_details: house.details({ deadline_seconds: each.deadline }) }),
          })
          expect(answer.status, answer.text).toBeLessThan(500)
          if (answer.status === 200) held.push(await check(to, answer, { ...from, grants }))
        }
      }),
      { numRuns: 60 },
    )
    // The property speaks of something.
    expect(issuedInAll).toBeGreaterThan(80)
    expect(deepest).toBeGreaterThanOrEqual(3)
  }, 120_000)

  it('Inv10 holds of every pair in the log', async () => {
    const records = (await house.service.log.from(0, 100_000)).filter(({ type }) => type === 'token.issuing')
    const byJti = new Map(records.map((record) => [record['jti'], record]))
    const grantsOf = (record: (typeof records)[number]) =>
      fromAuthorizationDetails((record['claims'] as unknown as AccessTokenClaims).authorization_details)
    let pairs = 0
    for (const record of records) {
      const parent = byJti.get(record['cause'])
      if (!parent) continue
      pairs += 1
      expect(grantsWithin(grantsOf(record), grantsOf(parent))).toBe(true)
    }
    expect(pairs).toBeGreaterThan(50)
  })
})
