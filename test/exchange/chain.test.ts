/** A chain of agents: small enough for a header, and dead as soon as any of its ancestors is. */
import { afterEach, describe, expect, it } from 'vitest'
import { agentFile } from '../company.ts'
import { type Answer, decode, type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const NAMES = ['order-intake-research', 'customer-correspondence', 'warehouse-reconciliation', 'payment-investigation']
const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}

interface Claims {
  readonly att: object
  readonly jti: string
  readonly sub: string
  readonly task: { readonly id: string; readonly root: string }
  readonly hops: readonly object[]
}
const claimsOf = (token: string) => decode(token).payload as unknown as Claims

describe('a chain of four agents', () => {
  let house: House
  let agents: Agent[]
  let tokens: string[]
  const open = async () => {
    house = await openHouse({
      config: {
        ...Object.fromEntries(
          NAMES.map((name) => [
            `agents/${name}.yaml`,
            agentFile(name, { delegatesTo: NAMES.filter((other) => other !== name) }),
          ]),
        ),
        'issuers/dev.yaml': (text: string) => text.replace(/rights:\n/, "rights:\n  '*':\n    - tickets:*\n"),
      },
    })
    agents = await Promise.all(NAMES.map((name) => house.agent(name)))
    await build()
  }
  /** Handed over from each to the next; every token is alive. */
  const build = async () => {
    tokens = [tokenOf(await agents[0]!.exchange({ form, user: 'a2f1c1de-8a51-4b0e-9a0c-6a4a1f9d2b77' }))]
    for (const [index, agent] of agents.slice(1).entries()) {
      const handOver = await agents[index]!.handOver(tokens[index]!, agent.clientId, form)
      tokens.push(tokenOf(await agent.accept(tokenOf(handOver), form)))
    }
  }
  afterEach(() => house.close())

  it('A13 D12 fits 2 KB with four agents of real names', async () => {
    await open()
    const last = tokens.at(-1)!
    expect(claimsOf(last)).toMatchObject({ sub: 'dev|a2f1c1de-8a51-4b0e-9a0c-6a4a1f9d2b77', task: { depth: 4 } })
    expect(claimsOf(last).hops).toHaveLength(3)
    expect(Buffer.byteLength(last)).toBeLessThanOrEqual(2048)
    // And where each of the four is a release.
    const claims = claimsOf(last)
    const release = 'AAAAAAAAAAAAAAAAAAAAAA'
    const released = {
      ...claims,
      att: { ...claims.att, release },
      hops: claims.hops!.map((hop) => ({ ...hop, rel: release })),
    }
    const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url').length
    expect(last.length + encoded(released) - encoded(claims)).toBeLessThanOrEqual(2048)
  })

  it('A13 a token that would be larger than 2 KB is refused, not sent', async () => {
    const operations = Array.from({ length: 60 }, (_, index) => `read_a_rather_long_operation_${index}`)
    house = await openHouse({
      config: {
        'tools/large.yaml': [
          'name: large',
          'audience: https://large.example.com/',
          'keys_file: tools/large.pub.jwk',
          'operations:',
          ...operations.map((name) => `  ${name}: { effect: read }`),
          '',
        ].join('\n'),
        'agents/reader.yaml': agentFile('reader', { ceiling: ['large:*'] }),
        'issuers/dev.yaml': (text: string) => text.replace('  support:\n', '  support:\n    - large:*\n'),
      },
    })
    const reader = await house.agent('reader')
    const scope = (count: number) =>
      operations
        .slice(0, count)
        .map((name) => `large:${name}`)
        .join(' ')
    await refusedWithoutTrace(
      house,
      () => reader.exchange({ form: { audience: 'large' } }),
      { status: 413, error: 'invalid_request', reason: 'token_too_large' },
      () => reader.exchange({ form: { audience: 'large', scope: scope(5) } }),
    )
    // Up to the last byte: what is signed is never larger, what is refused would have been.
    let largest = 0
    for (let count = 1; ; count++) {
      const answer = await reader.exchange({ form: { audience: 'large', scope: scope(count) } })
      if (answer.status !== 200) break
      largest = Buffer.byteLength(tokenOf(answer))
      expect(largest).toBeLessThanOrEqual(2048)
    }
    expect(largest).toBeGreaterThan(1900)
  })

  /** What kills from where: index of the ancestor, and what names it. */
  const ways: [string, (index: number) => object, 'revoked' | 'task_not_active' | 'either'][] = [
    ['jti', (index) => ({ jti: claimsOf(tokens[index]!).jti }), 'revoked'],
    ['task', (index) => ({ task: claimsOf(tokens[index]!).task.id }), 'revoked'],
    ['client_id', (index) => ({ client_id: agents[index]!.clientId }), 'revoked'],
    ['agent', (index) => ({ agent: `spiffe://company.example/agents/${agents[index]!.clientId}` }), 'revoked'],
  ]
  for (const [what, match] of ways) {
    for (const index of [0, 1, 2]) {
      it(`L3 a cut by ${what} of ancestor ${index} kills all below it, and nothing above or beside`, async () => {
        await open()
        const beside = tokenOf(await agents[3]!.exchange({ form }))
        const tickets = await house.tool('tickets')
        const active = async (token: string) => (await tickets.form('/introspect', { token })).body['active']
        const handOver = tokenOf(await agents[3]!.handOver(beside, NAMES[0]!, form))
        const cut = await house.admin('POST', '/revocations', {
          match: match(index),
          mode: 'cut',
          reason: 'test of a cut',
        })
        expect(cut.status, cut.text).toBe(201)
        const alive = await Promise.all(tokens.map(active))
        expect(alive).toEqual(tokens.map((_, at) => at < index))
        expect(await active(beside)).toBe(true)
        for (const [at, token] of tokens.entries()) {
          const again = () => agents[at]!.from(token, form)
          if (at < index) expect((await again()).status).toBe(200)
          else {
            await refusedWithoutTrace(house, again, { status: 400, error: 'invalid_request', reason: 'revoked' }, () =>
              agents[3]!.from(beside, form),
            )
          }
        }
        expect((await agents[0]!.accept(handOver, form)).status).toBe(200)
      })
    }
  }

  it('L3 a hand-over token dies with the token it was made from, before and after it was asked about', async () => {
    await open()
    const handOver = tokenOf(await agents[1]!.handOver(tokens[1]!, NAMES[2]!, form))
    const asked = () => agents[1]!.post({ token: handOver }, { path: '/introspect', proofKey: null })
    expect((await asked()).body['active']).toBe(true)
    await agents[0]!.post({ token: tokens[0]! }, { path: '/revoke', proofKey: null })
    expect((await asked()).body).toEqual({ active: false })
    await refusedWithoutTrace(
      house,
      () => agents[2]!.accept(handOver, form),
      { status: 400, error: 'invalid_request', reason: 'revoked' },
      () => agents[0]!.exchange({ form }),
    )
  })

  it('L3 a task that ends takes the tasks and tokens below it along, and leaves those above', async () => {
    await open()
    const tickets = await house.tool('tickets')
    const second = claimsOf(tokens[1]!).task.id
    expect((await agents[1]!.call('POST', `/tasks/${second}/complete`)).body['state']).toBe('completed')
    const active = await Promise.all(
      tokens.map(async (token) => (await tickets.form('/introspect', { token })).body['active']),
    )
    expect(active).toEqual([true, false, false, false])
    for (const at of [1, 2, 3]) {
      const answer = await agents[at]!.from(tokens[at]!, form)
      expect([answer.status, answer.body['reason']]).toEqual([400, 'task_not_active'])
    }
    expect((await agents[0]!.from(tokens[0]!, form)).status).toBe(200)
  })

  it('L3 a ban on an agent in the middle ends its task and all below, and nobody else’s', async () => {
    await open()
    const beside = await agents[3]!.exchange({ form })
    const ban = await house.admin('POST', '/revocations', {
      match: { agent: `spiffe://company.example/agents/${NAMES[1]!}` },
      mode: 'ban',
      reason: 'test of a ban',
    })
    expect(ban.status, ban.text).toBe(201)
    const states = async (answers: readonly string[]) =>
      Promise.all(answers.map(async (id) => (await house.service.stores.tasks.get(id))?.state))
    expect(await states(tokens.map((token) => claimsOf(token).task.id))).toEqual([
      'active',
      'revoked',
      'revoked',
      'revoked',
    ])
    expect(await states([beside.body['task_id'] as unknown as string])).toEqual(['active'])
    expect((await agents[3]!.from(tokenOf(beside), form)).status).toBe(200)
  })

  it('L3 a renewed token dies with its ancestors too', async () => {
    await open()
    house.advance(30)
    const renewed = tokenOf(await agents[3]!.from(tokens[3]!, form))
    expect(claimsOf(renewed).hops).toHaveLength(3)
    await agents[0]!.post({ token: tokens[0]! }, { path: '/revoke', proofKey: null })
    const tickets = await house.tool('tickets')
    expect((await tickets.form('/introspect', { token: renewed })).body).toEqual({ active: false })
    expect((await agents[3]!.from(renewed, form)).body['reason']).toBe('revoked')
  })
})
