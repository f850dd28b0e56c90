/**
 * What a refused agent is told, and that it is true: for each operand of the intersection a request that is lost there
 * and nowhere else, the least change really made, and the same request granted.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isSubject } from '../../src/oauth/refusals/all.ts'
import { NEXT_ACTIONS } from '../../src/oauth/refusals/words.ts'
import { agentFile } from '../company.ts'
import { type Answer, type House, ISSUER, openHouse } from '../house.ts'

type Agent = Awaited<ReturnType<House['agent']>>

interface Told {
  readonly reason: string
  readonly rule: string
  readonly missing: readonly string[]
  readonly lost: readonly {
    readonly tool: string
    readonly operation: string
    readonly operand: string
    readonly had?: unknown
    readonly least_change: string
  }[]
  readonly lost_more?: number
  readonly narrower?: { readonly scope?: string; readonly authorization_details?: readonly object[] }
  readonly next_action: keyof typeof NEXT_ACTIONS
  readonly next: string
  readonly error_uri: string
  readonly decision_id: string
}

const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}

const refund = (maximum: number) =>
  `{ operation: 'payments:refund', constraints: { type: object, properties: { amount_cents: { type: integer, maximum: ${maximum} } } } }`
const refunding = (maximum: number) =>
  JSON.stringify([
    {
      type: 'tool',
      tool: 'payments',
      operations: ['refund'],
      constraints: { type: 'object', properties: { amount_cents: { type: 'integer', maximum } } },
    },
  ])

const MANY = Array.from({ length: 30 }, (_, at) => `op_${String(at).padStart(2, '0')}`)

describe('a refusal of a proven agent', () => {
  let house: House
  let research: Agent
  let payments: Agent
  let reader: Agent
  beforeAll(async () => {
    house = await openHouse({
      config: {
        'agents/payments.yaml': agentFile('payments', {
          stage: 'irreversible_write',
          ceiling: ['payments:read_payment', refund(1_000_000), 'tickets:*', 'crm:*'],
        }),
        'agents/reader.yaml': agentFile('reader', { stage: 'read', ceiling: ['tickets:*', 'many:*'] }),
        'tools/many.yaml': [
          'name: many',
          'audience: https://many.example.com/',
          'follows_feed: false',
          'operations:',
          ...MANY.map((name) => `  ${name}: { effect: reversible_write, routes: [POST /${name}] }`),
          '',
        ].join('\n'),
        'issuers/dev.yaml': (text) =>
          text.replace('maximum: 100000 }', 'maximum: 1000000 }').replace('  support:\n', '  support:\n    - many:*\n'),
      },
    })
    research = await house.agent('research')
    payments = await house.agent('payments')
    reader = await house.agent('reader')
  })
  afterAll(() => house.close())

  const change = async (file: string, edit: (text: string) => string) => {
    const text = await readFile(house.config(file), 'utf8')
    expect(edit(text)).not.toBe(text)
    await writeFile(house.config(file), edit(text))
    expect(await house.service.reload()).toBe(true)
  }

  /** Lost at this operand alone, in the answer, in the record, and in what `errand explain` reads. */
  const lostAt = async (answer: Answer, operand: string, operation: string): Promise<Told> => {
    expect(answer.status, answer.text).toBe(400)
    const told = answer.body as unknown as Told
    expect(told.lost.map((each) => [each.operation, each.operand])).toEqual([[operation, operand]])
    expect(told.missing).toEqual([`${told.lost[0]!.tool}:${operation}`])
    expect(Object.keys(NEXT_ACTIONS)).toContain(told.next_action)
    expect(told.error_uri).toBe(`${ISSUER}/docs/refusals/${told.reason}`)
    expect(isSubject(told.reason)).toBe(true)
    const page = await house.fetch('GET', new URL(told.error_uri).pathname)
    expect([page.status, page.text.startsWith(`# ${told.reason}\n`)]).toEqual([200, true])
    const explained = await house.admin('GET', `/explanations/${told.decision_id}`)
    const { rows } = explained.body['intersection'] as unknown as {
      rows: readonly { operation: string; permitted: boolean; operands: Record<string, string> }[]
    }
    const row = rows.find((each) => each.operation === operation)!
    expect(row.permitted).toBe(false)
    const no = Object.entries(row.operands).filter(([, passed]) => passed === 'no')
    expect(no.map(([name]) => name)).toEqual([operand])
    return told
  }

  it('at the tool itself: asks for what its schema admits, and is granted it', async () => {
    const ask = (authorization_details: string) =>
      payments.exchange({ form: { audience: 'payments', authorization_details } })
    const told = await lostAt(await ask(refunding(600_000)), 'tool', 'refund')
    expect(told).toMatchObject({ next_action: 'ask_narrower', lost: [{ had: [{ properties: expect.anything() }] }] })
    expect(told.lost[0]!.least_change).toContain('ask for arguments of `payments:refund` that its schema')
    const { authorization_details: left } = told.narrower!
    expect(JSON.stringify(left)).toContain('"maximum":500000')
    tokenOf(await ask(JSON.stringify(left)))
  })

  it('at the subject: the user’s group is given the operation', async () => {
    const ask = () => research.exchange({ user: 'bob', form: { scope: 'crm:read_customer' } })
    const told = await lostAt(await ask(), 'subject', 'read_customer')
    expect(told).toMatchObject({ reason: 'scope_not_granted', next_action: 'ask_person' })
    expect(told).not.toHaveProperty('narrower')
    expect(told.lost[0]).not.toHaveProperty('had')
    expect(told.lost[0]!.least_change).toBe(
      "give `crm:read_customer` to one of the user's groups in the rights of issuer `dev` in config/issuers/",
    )
    await change('issuers/dev.yaml', (text) =>
      text.replace('  engineering:\n', '  engineering:\n    - crm:read_customer\n'),
    )
    tokenOf(await ask())
  })

  it('at the ceiling: the operation is added to it, and what is beyond it was judged nowhere else', async () => {
    const ask = () => research.exchange({ form: { scope: 'tickets:close_ticket tickets:read_ticket' } })
    const told = await lostAt(await ask(), 'ceiling', 'close_ticket')
    expect(told).toMatchObject({
      rule: 'ceiling',
      next_action: 'ask_narrower',
      narrower: { scope: 'tickets:read_ticket' },
    })
    expect(told.lost[0]!.least_change).toContain('config/agents/research.yaml')
    tokenOf(await research.exchange({ form: { scope: told.narrower!.scope } }))
    await change('agents/research.yaml', (text) =>
      text.replace('  - tickets:add_comment\n', '  - tickets:add_comment\n  - tickets:close_ticket\n'),
    )
    tokenOf(await ask())
  })

  it('at the stage: it is raised to the one that is named', async () => {
    const ask = () => reader.exchange({ form: { scope: 'tickets:add_comment' } })
    const told = await lostAt(await ask(), 'stage', 'add_comment')
    expect(told).toMatchObject({ next_action: 'ask_person', lost: [{ had: 'read' }] })
    expect(told.lost[0]!.least_change).toContain('raise `stage` from `read` to `reversible_write`')
    await change('agents/reader.yaml', (text) => text.replace('stage: read\n', 'stage: reversible_write\n'))
    tokenOf(await ask())
    await change('agents/reader.yaml', (text) => text.replace('stage: reversible_write\n', 'stage: read\n'))
  })

  it('at the task: a task is opened that includes it', async () => {
    const open = async (scope: string) => {
      const task = await research.call('POST', '/tasks', {
        ...JSON.parse(house.details()),
        subject_token: house.userToken('alice'),
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
        scope,
      })
      return task.body['id'] as unknown as string
    }
    const ask = (task_id: string) => research.exchange({ form: { scope: 'tickets:add_comment', task_id } })
    const told = await lostAt(await ask(await open('tickets:read_ticket')), 'task', 'add_comment')
    expect(told.next_action).toBe('open_task')
    expect(told.lost[0]!.least_change).toBe('open a task whose authority includes `tickets:add_comment`')
    tokenOf(await ask(await open('tickets:read_ticket tickets:add_comment')))
  })

  it('at the parent: the hand-over includes it', async () => {
    const ask = async (handed: string) => {
      const mine = tokenOf(await research.exchange({ form: { audience: 'tickets' } }))
      const handOver = await research.handOver(mine, 'payments', { audience: 'tickets', scope: handed })
      return payments.accept(tokenOf(handOver), { scope: 'tickets:add_comment' })
    }
    const told = await lostAt(await ask('tickets:read_ticket'), 'parent', 'add_comment')
    expect(told.next_action).toBe('ask_parent')
    expect(told.lost[0]!.least_change).toContain('include `tickets:add_comment`')
    tokenOf(await ask('tickets:read_ticket tickets:add_comment'))
  })

  it('at policy: the forbid that decided no longer holds', async () => {
    const ask = (environment: string) =>
      payments.exchange({
        form: { scope: 'payments:refund', request_details: house.details({ environment }) },
      })
    const told = await lostAt(await ask('production'), 'policy', 'refund')
    expect(told).toMatchObject({
      reason: 'policy_denied',
      rule: 'no_irreversible_in_production_by_key',
      next_action: 'ask_person',
    })
    expect(told.lost[0]!.least_change).toContain('`no_irreversible_in_production_by_key` decided')
    tokenOf(await ask('staging'))
  })

  it('names every operand at which it was lost, not only the first: all of them must change', async () => {
    const answer = await reader.exchange({ user: 'bob', form: { scope: 'tickets:reply_to_customer' } })
    const told = answer.body as unknown as Told
    expect(told.lost.map(({ operand }) => operand)).toEqual(['subject', 'stage', 'policy'])
    expect(told.next_action).toBe('ask_person')
    const mine = await reader.call('GET', `/explanations/${told.decision_id}`)
    const { rows } = mine.body['intersection'] as unknown as { rows: readonly { operands: object }[] }
    expect(rows[0]!.operands).toEqual({
      tool: 'yes',
      subject: 'no',
      ceiling: 'yes',
      stage: 'no',
      task: 'absent',
      parent: 'absent',
      policy: 'no',
    })
  })

  it('is bounded: the first losses are told, the others counted, in the answer and in the record', async () => {
    const scope = MANY.map((name) => `many:${name}`).join(' ')
    const answer = await reader.exchange({ form: { scope } })
    const told = answer.body as unknown as Told
    expect([answer.status, told.missing.length, told.lost.length, told.lost_more]).toEqual([400, 30, 20, 10])
    const [record] = await house.records({ type: 'token.refused' })
    const details = record!['details'] as { lost: readonly object[]; lost_more: number; rows: readonly string[] }
    expect([details.lost.length, details.lost_more, details.rows.length]).toEqual([20, 10, 30])
    expect(details.rows[0]).toBe('op_00 reversible_write 1110--1')
  })

  it('is told in the same members by dry_run and by AuthZEN, and at POST /tasks', async () => {
    const lost = [{ tool: 'tickets', operation: 'add_comment', operand: 'stage', had: 'read' }]
    const dry = await reader.exchange({ form: { scope: 'tickets:add_comment', dry_run: 'true' } })
    expect(dry.body).toMatchObject({ allowed: false, rule: 'stage', next_action: 'ask_person', lost })
    const question = {
      subject: { type: 'agent', id: 'reader' },
      action: { name: 'add_comment' },
      resource: { type: 'tool', id: 'tickets' },
      context: { on_behalf_of: { issuer: 'dev', id: 'alice', groups: ['support'] } },
    }
    const asked = await reader.call('POST', '/access/v1/evaluation', question)
    expect(asked.body).toMatchObject({ decision: false, context: { rule: 'stage', next_action: 'ask_person', lost } })
    const task = await research.call('POST', '/tasks', {
      ...JSON.parse(house.details()),
      subject_token: house.userToken('bob'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      scope: 'tickets:read_ticket crm:search_customers',
    })
    expect(task.body).toMatchObject({
      reason: 'scope_not_granted',
      next_action: 'ask_narrower',
      narrower: { scope: 'tickets:read_ticket' },
      lost: [{ operation: 'search_customers', operand: 'subject' }],
    })
  })

  it('D21 tells a stranger none of it', async () => {
    const answer = await research.exchange({
      form: {
        scope: 'payments:refund',
        client_assertion: house.assertionOf('research', { ...payments.key, kid: research.key.kid! }),
      },
    })
    expect(Object.keys(answer.body).sort()).toEqual(['error', 'error_description'])
  })

  it('shows the rights of a user to administrators alone', async () => {
    const answer = await payments.exchange({
      form: { audience: 'payments', authorization_details: refunding(2_000_000) },
    })
    const { decision_id: id } = answer.body as unknown as Told
    const constraintsIn = (body: Answer['body']) =>
      Object.keys((body['intersection'] as unknown as { rows: { constraints: object }[] }).rows[0]!.constraints)
    const theirs = await house.admin('GET', `/explanations/${id}`)
    expect(constraintsIn(theirs.body)).toContain('subject')
    const mine = await payments.call('GET', `/explanations/${id}`)
    expect(constraintsIn(mine.body)).not.toContain('subject')
    expect(mine.text).not.toContain('refund subject')
  })
})

describe('a permit', () => {
  it('leaves one short line for each operation, and is explained by the policies that are in force', async () => {
    const house = await openHouse()
    const research = await house.agent('research')
    const answer = await research.exchange({ form: { audience: 'tickets' } })
    const id = String(answer.body['decision_id'])
    const [record] = await house.records({ type: 'token.issuing' })
    expect((record!['details'] as { rows: unknown }).rows).toEqual([
      'read_ticket read 1111--1 read_for_users',
      'search_tickets read 1111--1 read_for_users',
      'add_comment reversible_write 1111--1 reversible_for_users',
    ])
    const explained = await house.admin('GET', `/explanations/${id}`)
    expect(explained.body['intersection']).toMatchObject({
      rows: [
        {
          operation: 'read_ticket',
          permitted: true,
          reasons: ['agents may read what the user they work for may read'],
        },
        { operation: 'search_tickets' },
        { operation: 'add_comment', effect: 'reversible_write', policies: ['reversible_for_users'] },
      ],
    })
    await house.close()
  })
})
