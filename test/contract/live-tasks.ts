/** Looks for a task that is told twice, one that has ended, and one below what matches that is left out. */
import { describe, expect, it } from 'vitest'
import type { LiveTaskFilter } from '../../src/tasks/live-tasks.ts'
import type { Task } from '../../src/tasks/task.ts'
import { someTask } from './task-store.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

export function describeLiveTasks(name: string, open: OpenWorld): void {
  describe(`live tasks, ${name}`, () => {
    const world = worlds(open)

    it('finds what lives by agent, subject and both, with all that lives below it, each once', async () => {
      const { stores, other } = await world()
      const [agent, helper, user] = [fresh('agent'), fresh('helper'), fresh('user')]
      const opened = async (over: Partial<Task>, parent?: Task) => {
        const task = someTask(
          { agentSpiffeId: `spiffe://company.example/agents/${over.agent ?? agent}`, ...over },
          parent,
        )
        expect(await stores.tasks.open(task, START)).toBe('opened')
        return task
      }
      const subject = { ...someTask().subject, id: user }
      const root = await opened({ agent })
      const child = await opened({ agent: helper }, root)
      const below = await opened({ agent }, child)
      const users = await opened({ agent, subject })
      const ended = await opened({ agent })
      const silent = await opened({ agent, heartbeatSeconds: 30, heartbeatBy: START + 30 })
      const late = await opened({ agent, deadline: START + 50 })
      const held = await opened({ agent })
      await stores.tasks.end(ended.id, 'completed', 'done', START)
      await stores.tasks.suspend(held.id, 'rev_1', START)
      const found = async (filter: LiveTaskFilter, limit = 100) =>
        (await other.liveTasks.matching(filter, START + 60, limit)).map(({ id }) => id).sort()
      const sorted = (...tasks: readonly Task[]) => tasks.map(({ id }) => id).sort()
      expect(await found({ agent })).toEqual(sorted(root, child, below, users, held))
      expect(await found({ agent: helper })).toEqual(sorted(child, below))
      expect(await found({ agentSpiffeId: `spiffe://company.example/agents/${helper}` })).toEqual(sorted(child, below))
      expect(await found({ agent, subject: user })).toEqual([users.id])
      const release = fresh('release')
      const domain = `${release}.example`
      const measured = await opened({ agent: fresh('agent'), release, agentSpiffeId: `spiffe://${domain}/x` })
      expect(await found({ release })).toEqual([measured.id])
      expect(await found({ domain })).toEqual([measured.id])
      expect(await found({ domain, subject: user })).toEqual([])
      expect(await found({ agent: helper, subject: user })).toEqual([])
      expect(await found({ subject: user, agent, agentSpiffeId: 'spiffe://company.example/agents/nobody' })).toEqual([])
      expect(await found({})).toEqual(expect.arrayContaining(sorted(root, child, below, users, held)))
      expect((await found({})).some((id) => [ended.id, silent.id, late.id].includes(id))).toBe(false)
      const [one] = await other.liveTasks.matching({ agent: helper, subject: 'company|alice' }, START, 1)
      expect(one).toEqual({ id: child.id, agent: helper, subject: 'company|alice' })
    })

    it('finds thousands, each once, while others end', async () => {
      const { stores, other } = await world()
      const [agent, passing] = [fresh('agent'), fresh('passing')]
      const opened = async (some: Partial<Task>) => {
        const task = someTask(some)
        await stores.tasks.open(task, START)
        return task.id
      }
      // Many have one deadline, others each one of their own.
      const ids: string[] = []
      // A command that waits behind thousands runs out of its time.
      for (let from = 0; from < 4_600; from += 200) {
        const some = range(200).map((n) => from + n)
        ids.push(
          ...(await Promise.all(some.map((n) => opened({ agent, deadline: START + (n % 2 === 0 ? 900 : 100 + n) })))),
        )
      }
      const leaving = await Promise.all(
        range(300).map((n) => opened({ agent: passing, deadline: START + 100 + n * 3 })),
      )
      const [found] = await Promise.all([
        other.liveTasks.matching({ agent }, START, 10_000),
        ...leaving.map((id) => stores.tasks.end(id, 'completed', 'done', START)),
      ])
      expect(found.map(({ id }) => id).sort()).toEqual([...ids].sort())
    })

    it('tells as many as it is asked for, among many', async () => {
      const { stores } = await world()
      const agent = fresh('agent')
      await Promise.all(range(450).map(() => stores.tasks.open(someTask({ agent }), START)))
      expect(await stores.liveTasks.matching({ agent }, START, 1000)).toHaveLength(450)
      expect(await stores.liveTasks.matching({ agent }, START, 17)).toHaveLength(17)
    })
  })
}
