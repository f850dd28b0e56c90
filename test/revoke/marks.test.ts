import fc from 'fast-check'
import { expect, it } from 'vitest'
import { compareEpochs, formatEpoch } from '@errand/verifier/epoch.ts'
import type { AuditEvent, AuditRecord } from '../../src/audit/log.ts'
import { openMarks } from '../../src/revoke/marks.ts'

/** A service with a log that moves with each mark and each revocation, and the epoch that each token was checked at. */
async function world(clocksApartSeconds = 0) {
  const clock = { now: 1_800_000_000 }
  let sequence = 0
  const records: AuditEvent[] = []
  const open = () =>
    openMarks({
      now: () => clock.now,
      mark: async () => ({ generation: 1, sequence: ++sequence }),
      clocksApartSeconds,
      audit: { append: async (event: AuditEvent) => records.push(event) },
      recorded: async () => records as unknown as readonly AuditRecord[],
      onError: (error) => {
        throw error
      },
    })
  return { clock, open, records, rev: () => ({ generation: 1, sequence }), move: () => ++sequence }
}

it('L11 a window that has passed is a mark once: twice is the same, and a later time never an earlier mark', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.record({ op: fc.constant('issue' as const) }),
          fc.record({ op: fc.constant('wait' as const), by: fc.integer({ min: 1, max: 90 }) }),
          fc.record({ op: fc.constant('back' as const), by: fc.integer({ min: 1, max: 300 }) }),
          fc.record({ op: fc.constant('revoke' as const) }),
          fc.record({ op: fc.constant('restart' as const) }),
        ),
        { maxLength: 40 },
      ),
      fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1, maxLength: 6 }),
      async (steps, ages) => {
        const { clock, open, rev, move } = await world()
        let marks = await open()
        const issued: { at: number; rev: ReturnType<typeof rev> }[] = []
        for (const step of steps) {
          if (step.op === 'issue') {
            issued.push({ at: clock.now, rev: rev() })
            marks.issued()
          } else if (step.op === 'wait') clock.now += step.by
          else if (step.op === 'back') clock.now -= step.by
          else if (step.op === 'revoke') move()
          else marks = await open()
          await marks.tick()
        }
        const times = ages.map((age) => clock.now - age).sort((a, b) => a - b)
        const found = []
        for (const time of times) found.push((await marks.markFor(time)).epoch)
        for (const [n, epoch] of found.entries()) {
          if (n > 0) expect(compareEpochs(found[n - 1]!, epoch)).toBeLessThanOrEqual(0)
          expect((await marks.markFor(times[n]!)).epoch).toEqual(epoch)
          // Never short of it, whatever the clock did meanwhile.
          for (const token of issued)
            if (token.at < times[n]!) expect(compareEpochs(token.rev, epoch), formatEpoch(epoch)).toBeLessThan(0)
        }
      },
    ),
    { numRuns: 300 },
  )
})

it('marks a minute in which something was issued, and no other', async () => {
  const { clock, open, records } = await world()
  const marks = await open()
  for (let second = 0; second < 600; second++) {
    clock.now += 1
    if (second < 120) marks.issued()
    await marks.tick()
  }
  expect(records.length).toBe(3)
})

it('L11 a window kills also what a replica issued whose clock is behind, as far as clocks may be apart', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: -30, max: 30 }),
      fc.array(fc.tuple(fc.constantFrom('here', 'there', 'wait'), fc.integer({ min: 1, max: 70 })), { maxLength: 40 }),
      fc.integer({ min: 0, max: 600 }),
      async (ahead, steps, age) => {
        const { clock, open, rev } = await world(30)
        const marks = await open()
        const issued: { at: number; rev: ReturnType<typeof rev> }[] = []
        for (const [step, seconds] of steps) {
          if (step === 'wait') clock.now += seconds
          else issued.push({ at: clock.now + (step === 'there' ? ahead : 0), rev: rev() })
          if (step === 'here') marks.issued()
          await marks.tick()
        }
        const until = clock.now - age
        const { epoch } = await marks.markFor(until)
        for (const token of issued) if (token.at < until) expect(compareEpochs(token.rev, epoch)).toBeLessThan(0)
      },
    ),
    { numRuns: 300 },
  )
})
