/** A task by itself: when it is over, how its ids are spelt, and what a request may say of it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isId, newId } from '../../src/tasks/ids.ts'
import { parseRequestDetails } from '../../src/tasks/request-details.ts'
import { stateAt } from '../../src/tasks/task.ts'

describe('the state of a task', () => {
  const task = { state: 'active', deadline: 100, heartbeatBy: 50 } as const

  it('is expired from its deadline on, and past a heartbeat that did not come', () => {
    expect([49, 50, 51].map((now) => stateAt(task, now))).toEqual(['active', 'active', 'expired'])
    expect([99, 100].map((now) => stateAt({ state: 'active', deadline: 100 }, now))).toEqual(['active', 'expired'])
  })

  it('stays what ended it, whatever the clock says', () => {
    for (const state of ['completed', 'cancelled', 'revoked', 'expired'] as const) {
      expect([0, 1000].map((now) => stateAt({ ...task, state }, now))).toEqual([state, state])
    }
  })

  it('of a suspended task needs no heartbeat, and ends at its deadline', () => {
    expect([51, 100].map((now) => stateAt({ ...task, state: 'suspended' }, now))).toEqual(['suspended', 'expired'])
  })

  it('once over is never active again later', () => {
    fc.assert(
      fc.property(fc.nat(200), fc.nat(200), fc.nat(200), fc.nat(200), (deadline, heartbeatBy, now, later) => {
        if (stateAt({ state: 'active', deadline, heartbeatBy }, now) === 'expired') {
          expect(stateAt({ state: 'active', deadline, heartbeatBy }, now + later)).toBe('expired')
        }
      }),
    )
  })
})

describe('an id', () => {
  it('A10 is of its one form, and a new one each time', () => {
    const ids = Array.from({ length: 100 }, () => newId('task'))
    expect(new Set(ids).size).toBe(100)
    expect(ids.every((id) => isId('task', id))).toBe(true)
    for (const other of [
      '',
      '__proto__',
      'constructor',
      'task_',
      `${ids[0]}=`,
      `${ids[0]}\n`,
      ` ${ids[0]}`,
      newId('rev'),
      7,
      null,
    ]) {
      expect(isId('task', other)).toBe(false)
    }
  })
})

describe('what a request says of the task it opens', () => {
  const bounds = { defaultDeadlineSeconds: 600, maxDeadlineSeconds: 3600 }
  const details = (more: object) =>
    parseRequestDetails(
      JSON.stringify({ purpose: 'x', environment: 'staging', data_classification: 'internal', ...more }),
      bounds,
    )

  it('is read as it stands, with the deadline of the configuration where it names none', () => {
    expect(details({})).toEqual({
      ok: true,
      value: {
        purpose: 'x',
        context: { environment: 'staging', dataClassification: 'internal' },
        deadlineSeconds: 600,
        budget: {},
      },
    })
    expect(
      details({ deadline_seconds: 60, heartbeat_seconds: 10, budget: { max_calls: 3, max_cost: 9, max_exchanges: 2 } }),
    ).toMatchObject({
      value: { deadlineSeconds: 60, heartbeatSeconds: 10, budget: { maxCalls: 3, maxCost: 9, maxExchanges: 2 } },
    })
  })

  it('D7 a duration in the budget is a deadline too, and the earlier one counts', () => {
    expect(details({ deadline_seconds: 900, budget: { max_duration_seconds: 60 } })).toMatchObject({
      value: { deadlineSeconds: 60 },
    })
    expect(details({ deadline_seconds: 60, budget: { max_duration_seconds: 900 } })).toMatchObject({
      value: { deadlineSeconds: 60 },
    })
  })

  it('D7 whatever stands in a number’s place is an integer in its range, or refused', () => {
    fc.assert(
      fc.property(fc.constantFrom('deadline_seconds', 'heartbeat_seconds'), fc.json(), (name, text) => {
        const value: unknown = JSON.parse(text)
        const read = details({ [name]: value })
        const good = typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 3600
        expect(read.ok).toBe(good)
        if (!read.ok) expect(read.refusal.reason).toBe('bad_request_details')
      }),
    )
  })
})
