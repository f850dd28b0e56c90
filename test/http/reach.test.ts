/** What an agent learns of what lies beyond its ceiling, at the doors that issue nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Answer, type House, openHouse } from '../house.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const tickets = 'https://tickets.example.com/'
const bare = (operation: string): string => operation.split(':').at(-1)!

describe('an agent that looks beyond its ceiling', () => {
  let house: House
  let research: Agent
  let payments: Agent
  let task: string
  beforeAll(async () => {
    house = await openHouse()
    research = await house.agent('research')
    payments = await house.agent('payments')
    const opened = await research.exchange({ form: { audience: 'tickets', scope: 'tickets:read_ticket' } })
    task = opened.body['task_id'] as unknown as string
  })
  afterAll(() => house.close())

  const question = (agent: string, tool: string, operation: string, context: object = {}) => ({
    subject: { type: 'agent', id: agent },
    action: { name: operation },
    resource: { type: 'tool', id: tool },
    context: { on_behalf_of: { issuer: 'dev', id: 'alice', groups: ['support', 'finance'] }, ...context },
  })
  const ask = (agent: Agent, tool: string, operation: string, context?: object) =>
    agent.call('POST', '/access/v1/evaluation', question(agent.clientId, tool, operation, context))

  /** All that is said, but for the id of the decision, the caller's own words, and what its own ceiling suggests. */
  const told = (text: string, ...words: string[]) =>
    words
      .reduce((said, word) => said.replaceAll(word, '<asked>'), text)
      .replace(/dec_[A-Za-z0-9_-]{27}/g, '<id>')
      .replace(/req_[A-Za-z0-9_-]{22}/g, '<id>')
      .replace(/; or did you mean[^"]*"[^"]*\\"\?/g, '')

  const pairs: [string, () => Agent, [tool: string, operation: string], [tool: string, operation: string]][] = [
    ['an operation', () => research, ['tickets', 'close_ticket'], ['tickets', 'eject_ticket']],
    [
      'an operation near to one that is allowed',
      () => research,
      ['tickets', 'close_ticket'],
      ['tickets', 'reed_ticket'],
    ],
    ['an operation by audience', () => research, [tickets, 'close_ticket'], [tickets, 'eject_ticket']],
    [
      'an operation with its tool in front',
      () => research,
      ['tickets', 'tickets:close_ticket'],
      ['tickets', 'tickets:eject_ticket'],
    ],
    ['a privileged operation', () => research, ['warehouse', 'drop_dataset'], ['warehouse', 'drip_dataset']],
    ['a tool', () => payments, ['crm', 'read_customer'], ['xrm', 'read_customer']],
    [
      'a tool by audience',
      () => payments,
      ['https://crm.example.com/', 'read_customer'],
      ['https://xrm.example.com/', 'read_customer'],
    ],
    ['a tool with its name in front', () => payments, ['crm', 'crm:read_customer'], ['xrm', 'xrm:read_customer']],
    ['a tool and an operation', () => payments, ['crm', 'read_customer'], ['crm', 'no_such_operation']],
  ]
  const same = (
    one: string,
    other: string,
    [tool, operation]: [string, string],
    [tool2, operation2]: [string, string],
  ) => expect(told(one, tool, bare(operation))).toBe(told(other, tool2, bare(operation2)))

  it.each(pairs)(
    'D21 %s that is forbidden and one that does not exist are one answer of AuthZEN',
    async (_, agent, forbidden, unknown) => {
      const contexts = agent() === research ? [{}, { task_id: task }] : [{}]
      for (const context of contexts) {
        const [one, other] = [await ask(agent(), ...forbidden, context), await ask(agent(), ...unknown, context)]
        expect([
          one.status,
          one.body['decision'],
          (one.body['context'] as unknown as { lost_at: string }).lost_at,
        ]).toEqual([200, false, 'ceiling'])
        expect(one.text).not.toContain('privileged')
        same(one.text, other.text, forbidden, unknown)
      }
    },
  )

  it.each(pairs)(
    'D21 %s that is forbidden and one that does not exist are one answer among several',
    async (_, agent, forbidden, unknown) => {
      const of = (pair: [string, string]) =>
        agent().call('POST', '/access/v1/evaluations', { evaluations: [question(agent().clientId, ...pair)] })
      const [one, other] = [await of(forbidden), await of(unknown)]
      expect(one.status).toBe(200)
      same(one.text, other.text, forbidden, unknown)
    },
  )

  it.each(pairs)(
    'D21 %s that is forbidden and one that does not exist leave one record, and one explanation',
    async (_, agent, forbidden, unknown) => {
      const explained = async (pair: [string, string]) => {
        const { body } = await ask(agent(), ...pair)
        const { id } = body['context'] as unknown as { id: string }
        const why: Answer = await agent().call('GET', `/explanations/${id}`)
        expect(why.status, why.text).toBe(200)
        const { i: _i, t: _t, log: _log, ...record } = why.body
        return JSON.stringify(record)
      }
      same(await explained(forbidden), await explained(unknown), forbidden, unknown)
    },
  )

  it('D21 what an agent asks of another agent is one answer, whether there is such an agent or not', async () => {
    const of = (other: string) =>
      research.call('POST', '/access/v1/evaluation', question(other, 'tickets', 'read_ticket'))
    expect(told((await of('payments')).text)).toBe(told((await of('nobody')).text))
  })

  it('tells an agent what its own ceiling permits, and why not where something else forbids', async () => {
    const may = await ask(research, 'tickets', 'read_ticket', { task_id: task })
    expect(may.body['decision'], may.text).toBe(true)
    const elsewhere = await research.exchange({ user: 'bob', form: { audience: 'tickets' } })
    const context = { task_id: elsewhere.body['task_id'] as unknown as string }
    const not = await ask(research, 'crm', 'read_customer', context)
    expect(not.body).toMatchObject({ decision: false, context: { lost_at: 'subject' } })
  })

  it('tells a tool and an administrator what lies beyond the ceiling of an agent', async () => {
    const asked = question('research', 'tickets', 'close_ticket')
    const crm = await house.tool('crm')
    const desk = await house.tool('tickets')
    for (const answer of [
      await desk.call('POST', '/access/v1/evaluation', asked),
      await house.admin('POST', '/access/v1/evaluation', asked),
    ]) {
      expect(answer.body).toMatchObject({ decision: false, context: { lost_at: 'ceiling' } })
    }
    expect((await crm.call('POST', '/access/v1/evaluation', asked)).body).toMatchObject({
      context: { reason: 'not_permitted' },
    })
    expect(
      (await house.admin('POST', '/access/v1/evaluation', question('research', 'nowhere', 'read'))).body,
    ).toMatchObject({ context: { reason: 'not_permitted' } })
  })

  it('D21 the list of tools shows an agent its ceiling, a tool itself, and an administrator everything', async () => {
    const listOf = ({ status, body, text }: Answer) => {
      expect(status, text).toBe(200)
      const tools = body['tools'] as unknown as { name: string; operations: { name: string }[] }[]
      return tools.flatMap(({ name, operations }) => operations.map((operation) => `${name}:${operation.name}`)).sort()
    }
    const { agents, tools } = house.service.snapshot()
    for (const agent of [research, payments]) {
      const ceiling = agents.byClientId(agent.clientId)!.ceiling.map((grant) => `${grant.tool}:${grant.operation}`)
      const answer = await agent.call('GET', '/tools')
      expect(listOf(answer)).toEqual(ceiling.sort())
      for (const beyond of tools.all.filter(({ name }) => !ceiling.some((each) => each.startsWith(`${name}:`)))) {
        expect(answer.text).not.toContain(beyond.audience)
      }
    }
    const operationsOf = (names: readonly string[]) =>
      tools.all
        .filter(({ name }) => names.includes(name))
        .flatMap(({ name, operations }) => [...operations.keys()].map((operation) => `${name}:${operation}`))
        .sort()
    const crm = await house.tool('crm')
    expect(listOf(await crm.call('GET', '/tools'))).toEqual(operationsOf(['crm']))
    expect(listOf(await house.admin('GET', '/tools'))).toEqual(operationsOf(tools.all.map(({ name }) => name)))
  })
})
