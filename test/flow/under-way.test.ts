/**
 * An exchange that is under way while tasks are changed: it has read its task before, and asks of revocations after. Each
 * is stopped at one call of a port, so that what comes between is always the same.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'
import { redisIsHere, startRedis, type TestRedis } from '../store/redis-server.ts'

type Method = (...args: never[]) => Promise<unknown>

/** Stops the first call of it that is `wanted`, before it is made. */
function stopped<K extends string>(
  port: { readonly [N in K]: Method },
  name: K,
  wanted: (...args: never[]) => boolean = () => true,
) {
  const real: Method = port[name]
  let release = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  let reached = () => {}
  const there = new Promise<void>((resolve) => {
    reached = resolve
  })
  const instead: Method = async (...args) => {
    if (!wanted(...args)) return real(...args)
    Object.assign(port, { [name]: real })
    reached()
    await gate
    return real(...args)
  }
  Object.assign(port, { [name]: instead })
  return { there, release }
}

/** The nth question of the revocation log about something to be issued. */
const issuing = (nth: number) => {
  let left = nth
  return ({ issuing: facts }: { readonly issuing?: object }) => facts !== undefined && --left === 0
}

const CRM = { audience: 'crm', scope: 'crm:read_customer' }
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

function describeUnderWay(name: string, store: () => Promise<{ readonly text: string; remove(): Promise<void> }>) {
  describe(`an exchange under way, ${name}`, () => {
    let house: House
    let remove: () => Promise<void>
    beforeAll(async () => {
      const opened = await store()
      remove = opened.remove
      house = await openHouse({
        config: { 'errand.yaml': (text: string) => text.replace('kind: embedded', opened.text) },
      })
    }, 60_000)
    afterAll(async () => {
      await house.close()
      await remove()
    })

    const open = async () => {
      const agent = await house.agent('research')
      const first = await agent.exchange({ form: TICKETS })
      expect(first.status, first.text).toBe(200)
      const task = String(first.body['task_id'])
      return { agent, task, ask: (form: object = TICKETS) => agent.exchange({ form: { ...form, task_id: task } }) }
    }
    const revoke = async (body: object) => {
      const answer = await house.admin('POST', '/revocations', { reason: 'one tool too many', ...body })
      expect(answer.status, answer.text).toBeLessThan(300)
      return answer.body
    }

    it('Inv10 L15 does not keep what is taken from its task between reading it and asking of revocations', async () => {
      const { stores } = house.service
      const one = await open()
      const narrowing = stopped(stores.tasks, 'contain')
      const containing = revoke({ match: { task: one.task }, mode: 'contain', take: { tools: ['crm'] } })
      await narrowing.there
      // The first entry has made it read its task again, from which nothing has been taken yet.
      const asking = stopped(stores.revocations, 'check', issuing(2))
      const asked = one.ask(CRM)
      await asking.there
      narrowing.release()
      const { id } = await containing
      asking.release()
      const answer = await asked
      expect([answer.status, answer.body['reason'], answer.body['rule']]).toEqual([400, 'authority_contained', id])
      expect((await one.ask(TICKETS)).status).toBe(200)
    })

    it('Inv6 is given nothing for a task that a ban ended between reading it and asking of revocations, also where it is readmitted', async () => {
      const { stores } = house.service
      const one = await open()
      const asking = stopped(stores.revocations, 'check', issuing(1))
      const asked = one.ask()
      await asking.there
      const { id, tasks_ended: ended } = await revoke({ match: { client_id: 'research' } })
      expect(ended).toContain(one.task)
      const readmitted = await house.admin('POST', `/revocations/${id}/readmit`, { reason: 'cleared' })
      expect(readmitted.status, readmitted.text).toBe(200)
      asking.release()
      const answer = await asked
      expect([answer.status, answer.body['reason']]).toEqual([400, 'task_not_active'])
      expect((await open()).task).not.toBe(one.task)
    })

    it('L15 is given nothing for a task that a pinned suspension pauses between reading it and asking of revocations', async () => {
      const { stores } = house.service
      const one = await open()
      const match = { client_id: 'research' }
      const { bulk_token: bulk } = await revoke({ match, mode: 'suspend', dry_run: true })
      const asking = stopped(stores.revocations, 'check', issuing(1))
      const asked = one.ask()
      await asking.there
      const done = await revoke({ bulk_token: bulk })
      expect(done['tasks_suspended']).toContain(one.task)
      asking.release()
      const answer = await asked
      expect([answer.status, answer.body['reason']]).toEqual([400, 'suspended'])
      const resumed = await house.admin('POST', `/revocations/${done['id']}/resume`, { reason: 'it was nothing' })
      expect(resumed.status, resumed.text).toBe(200)
      expect((await one.ask()).status).toBe(200)
    })
  })
}

describeUnderWay('embedded', async () => ({ text: 'kind: embedded', remove: async () => {} }))

describe.skipIf(!redisIsHere())('on a Redis of their own', () => {
  describeUnderWay('redis', async () => {
    const redis: TestRedis = await startRedis({ appendfsync: 'everysec' })
    return { text: `kind: redis\n  url: ${redis.url}`, remove: redis.remove }
  })
})
