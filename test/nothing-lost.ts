/**
 * What must be true after every refusal: one record with its reason (for a stranger, one count in the folded record),
 * nothing signed, opened, charged, spent or revoked, and the honest request next to it, sent next, succeeds.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Epoch } from '@errand/verifier/epoch.ts'
import { stateAt } from '../src/tasks/task.ts'
import type { Answer, House } from './house.ts'

export interface Refused {
  readonly status: number
  readonly error: string
  readonly reason: string
  /** Refused before it had proven who it is. */
  readonly stranger?: boolean
  /** Type of the record, where it is not that of `POST /token`. */
  readonly record?: string
}

/** What may come into the log beside it: the clockwork of the service, which ends tasks whose time is over. */
const CLOCKWORK = ['key.moved', 'config.loaded', 'task.ended', 'revocation.marked']

interface Picture {
  readonly index: number
  readonly epoch: Epoch
  readonly tasks: unknown
}

async function picture({ service, now }: House): Promise<Picture> {
  const tasks = await service.stores.tasks.list({ limit: 10_000 })
  return {
    index: service.log.size,
    epoch: await service.stores.revocations.epoch(),
    tasks: tasks.map((task) => [task.id, stateAt(task, now()), task.spent, task.deadline, task.heartbeatBy]),
  }
}

/** Records after `index`, when there are as many as expected or no more can come. */
async function recordsSince(house: House, index: number, count: number) {
  for (let round = 0; ; round++) {
    const records = await house.service.log.from(index, 1000)
    const told = records.filter(({ type }) => !CLOCKWORK.includes(type))
    // Strangers are folded by second, and written when the second is over and a timer looks.
    if (told.length >= count || round > 100) return told
    await sleep(20)
  }
}

/**
 * Sends what must be refused, and looks at everything it could have left behind. `honest` is the request next to it:
 * with the same grant, the same task, the same key.
 */
export async function refusedWithoutTrace(
  house: House,
  attempt: () => Promise<Answer>,
  { status, error, reason, stranger = false, record = 'token.refused' }: Refused,
  honest?: () => Promise<Answer>,
): Promise<Answer> {
  const before = await picture(house)
  const answer = await attempt()
  expect({ status: answer.status, error: answer.body['error'] }, answer.text).toEqual({ status, error })
  expect(answer.body['access_token']).toBeUndefined()
  if (stranger) house.advance(1)
  const records = await recordsSince(house, before.index, 1)
  const rows = records.map(({ type, reason: why, count }) => ({ type, why, ...(count === undefined ? {} : { count }) }))
  expect(rows, answer.text).toEqual([
    stranger ? { type: 'strangers.refused', why: reason, count: 1 } : { type: record, why: reason },
  ])
  if (!stranger) expect(answer.body['reason']).toBe(reason)
  expect((await picture(house)).tasks).toEqual(before.tasks)
  // Marks move the epoch, each minute, and revoke nothing.
  expect(await house.service.stores.revocations.after(before.epoch)).toEqual([])
  if (honest) {
    const next = await honest()
    expect(next.status, `the honest request next to it: ${next.text}`).toBe(200)
  }
  return answer
}

/**
 * The same for many strangers at once, since they are folded by second: what each is answered, one count for each
 * reason, and nothing else left behind.
 */
export async function strangersWithoutTrace(
  house: House,
  attempts: readonly (Omit<Refused, 'stranger' | 'record'> & { readonly title: string; send(): Promise<Answer> })[],
  honest: () => Promise<Answer>,
): Promise<void> {
  const before = await picture(house)
  const expected = new Map<string, number>()
  for (const { title, send, status, error, reason } of attempts) {
    const answer = await send()
    expect({ title, status: answer.status, error: answer.body['error'] }, answer.text).toEqual({ title, status, error })
    expect(answer.body['access_token']).toBeUndefined()
    expected.set(reason, (expected.get(reason) ?? 0) + 1)
  }
  house.advance(1)
  const records = await recordsSince(house, before.index, expected.size)
  expect(records.map(({ type }) => type)).toEqual(records.map(() => 'strangers.refused'))
  expect(new Map(records.map(({ reason, count }) => [reason, count]))).toEqual(expected)
  expect((await picture(house)).tasks).toEqual(before.tasks)
  // Marks move the epoch, each minute, and revoke nothing.
  expect(await house.service.stores.revocations.after(before.epoch)).toEqual([])
  const next = await honest()
  expect(next.status, `the honest request next to it: ${next.text}`).toBe(200)
}
