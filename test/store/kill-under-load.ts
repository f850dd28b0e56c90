/** Kills Redis in the middle of its work, some rounds, and compares what is left with what was acknowledged. */
import { setImmediate as turn } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Stores } from '../../src/store/open.ts'
import { someTask } from '../contract/task-store.ts'
import { fresh, range, START } from '../contract/world.ts'
import type { TestRedis } from './redis-server.ts'

export async function killUnderLoad(server: TestRedis, stores: Stores, rounds: number): Promise<void> {
  const task = someTask()
  await stores.tasks.open(task, START)
  const spent: string[] = []
  const revoked: string[] = []
  let calls = 0
  let asked = 0

  async function work(id: string): Promise<void> {
    asked += 1
    const revocation = {
      id: fresh('rev'),
      match: { jti: id },
      mode: 'cut',
      reason: 'test',
      by: 'admin',
      at: START,
      expiresAt: START + 3600,
    } as const
    await Promise.allSettled([
      stores.replayGuard.spend(id, START + 60).then((first) => first && spent.push(id)),
      stores.revocations.add(revocation).then(() => revoked.push(id)),
      stores.tasks.reserve(task.id, { calls: 1, exchanges: 0, cost: 0, operationId: id }, START).then(() => {
        calls += 1
      }),
    ])
    // While Redis is away an answer comes at once, and nothing else would get its turn.
    await turn()
  }

  for (const round of range(rounds)) {
    let stop = false
    const load = range(8).map(async (lane) => {
      for (let n = 0; !stop; n++) await work(`${round}/${lane}/${n}`)
    })
    const enough = revoked.length + 20 + ((round * 37) % 60)
    await expect.poll(() => revoked.length, { timeout: 10_000, interval: 1 }).toBeGreaterThan(enough)
    await server.kill()
    stop = true
    await Promise.all(load)
    await server.start()
    await expect.poll(() => stores.healthy(), { timeout: 10_000 }).toBe(true)

    for (const id of spent.splice(0)) expect([id, await stores.replayGuard.spend(id, START + 60)]).toEqual([id, false])
    const rev = { generation: 1, sequence: 0 }
    for (const jti of revoked) {
      expect((await stores.revocations.check({ hops: [{ facts: { jti }, rev }] })).dead?.hop).toBe(0)
    }
    const counted = (await stores.tasks.get(task.id))!.spent.calls
    expect(counted).toBeGreaterThanOrEqual(calls)
    expect(counted).toBeLessThanOrEqual(asked)
    // Nothing took effect by half: as many entries as places, without a gap.
    const places = (await stores.revocations.after()).map(({ epoch }) => epoch.sequence)
    expect(places).toEqual(range(places.length).map((n) => n + 1))
    expect(places.length).toBeGreaterThanOrEqual(revoked.length)
  }
}
