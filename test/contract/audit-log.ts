/** What every audit log must keep, whatever it rests on. */
import { describe, expect, it } from 'vitest'
import { findDecision } from '../../src/audit/explain.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import { canonicalize } from '../../src/audit/canonical.ts'
import type { AuditEvent, AuditLog, AuditReader, Json } from '../../src/audit/log.ts'
import type { SubjectVault } from '../../src/audit/subject-vault.ts'
import { issuing, memorySubjectKeys, vaultOver } from '../audit/fixtures.ts'

interface OpenedLog {
  readonly log: AuditLog & AuditReader
  /** Opens the same log again, as after a crash: what was not durable is gone. */
  readonly reopen: () => Promise<AuditLog & AuditReader>
}

export type OpenLog = (given: { readonly subjectVault: SubjectVault; readonly now: () => number }) => Promise<OpenedLog>

export function auditLogContract(open: OpenLog): void {
  const setUp = async () => {
    const clock = { ms: 1_800_000_000_000 }
    const now = () => clock.ms
    const subjectVault = vaultOver(memorySubjectKeys(), now)
    return { clock, now, subjectVault, ...(await open({ subjectVault, now })) }
  }

  describe('audit log contract', () => {
    it('keeps what it acknowledged: the record is there after reopening without a close', async () => {
      const { log, reopen, now } = await setUp()
      const events = Array.from({ length: 50 }, () => issuing(log.logId, now()))
      const receipts = await Promise.all(events.map((event) => log.append(event)))
      const again = await reopen()
      expect(again.logId).toBe(log.logId)
      expect(again.size).toBe(50)
      for (const [at, receipt] of receipts.entries())
        expect(await again.get(receipt.index)).toMatchObject({ i: receipt.index, jti: events[at]!.jti, v: 1 })
      expect((await again.append({ type: 'service.started' })).index).toBe(50)
    })

    it('numbers records from 0 without a gap, in the order they were given', async () => {
      const { log } = await setUp()
      const receipts = await Promise.all(
        Array.from({ length: 300 }, (_, n) => log.append({ type: 'task.heartbeat', task: `task_${n}` })),
      )
      expect(receipts.map(({ index }) => index)).toEqual(receipts.map((_, n) => n))
      const records = await log.from(0, 1000)
      expect(records.map(({ task }) => task)).toEqual(receipts.map((_, n) => `task_${n}`))
      expect((await log.from(120, 20)).map(({ i }) => i)).toEqual(Array.from({ length: 20 }, (_, n) => 120 + n))
      expect(await log.from(300, 5)).toEqual([])
      expect(await log.get(300)).toBeUndefined()
      expect(await log.get(-1)).toBeUndefined()
    })

    it('shows nothing to a reader before it is durable', async () => {
      const { log } = await setUp()
      const appended = log.append({ type: 'service.started' })
      expect(log.size).toBe(0)
      await appended
      expect(log.size).toBe(1)
    })

    it('Q5 finds the record of every token by its jti and by its decision, and no two intents share a leaf', async () => {
      const { log, clock } = await setUp()
      const events: (AuditEvent & { jti: string })[] = []
      for (let round = 0; round < 20; round += 1) {
        clock.ms += 700
        const some = Array.from({ length: 30 }, () => issuing(log.logId, clock.ms))
        clock.ms += 3
        await Promise.all(some.map((event) => log.append(event)))
        await log.append({ type: 'token.introspected', jti: some[0]!.jti })
        events.push(...some)
      }
      for (const event of events.filter((_, n) => n % 37 === 0)) {
        const byJti = await findDecision(log, event.jti)
        expect(byJti).toMatchObject({ type: 'token.issuing', jti: event.jti, decision_id: event.decisionId })
        expect(await findDecision(log, event.decisionId!)).toEqual(byJti)
      }
      const records = await log.from(0, 10_000)
      const leaves = records.map((record) => leafHash(Buffer.from(canonicalize(record as Json))).toString('hex'))
      expect(new Set(leaves).size).toBe(records.length)
      const issued = records.filter(({ type }) => type === 'token.issuing')
      expect(new Set(issued.map(({ jti }) => jti)).size).toBe(issued.length)
      expect(await findDecision(log, issuing(log.logId, clock.ms).jti)).toBeUndefined()
      expect(await findDecision(log, 'dec_../../etc/passwd')).toBeUndefined()
    })

    it('searches newest first, by any of its members together, within times and limits', async () => {
      const { log, clock } = await setUp()
      for (let n = 0; n < 300; n += 1) {
        clock.ms += 1000
        await log.append({
          type: n % 3 === 0 ? 'token.refused' : 'task.opened',
          ...(n % 3 === 0 ? { reason: 'scope_not_granted' as const } : {}),
          agent: n % 2 === 0 ? 'research' : 'payments',
          task: `task_${n % 10}`,
          root: `task_${n % 2}`,
          subject: n % 5 === 0 ? 'corp|alice' : 'corp|bob',
        })
      }
      const start = clock.ms - 299_000
      const indexes = async (query: Parameters<typeof log.search>[0]) => (await log.search(query)).map(({ i }) => i)
      expect(await indexes({ limit: 3 })).toEqual([299, 298, 297])
      expect(await indexes({ agent: 'payments', type: 'token.refused', limit: 2 })).toEqual([297, 291])
      expect(await indexes({ reason: 'scope_not_granted', task: 'task_6', limit: 2 })).toEqual([276, 246])
      expect(await indexes({ root: 'task_1', limit: 3 })).toEqual([299, 297, 295])
      expect(await indexes({ root: 'task_1', task: 'task_6' })).toEqual([])
      expect(await indexes({ subject: 'corp|alice', limit: 2 })).toEqual([295, 290])
      expect(await indexes({ since: start + 10_000, until: start + 12_000 })).toEqual([12, 11, 10])
      expect(await indexes({ subject: 'corp|nobody' })).toEqual([])
      expect(await indexes({ agent: 'resear' })).toEqual([])
      // Text that looks like a member, inside another member.
      await log.append({ type: 'admin.acted', details: { note: '"agent":"payments"', agent: 'payments' } })
      expect(await indexes({ agent: 'payments', limit: 1 })).toEqual([299])
    })

    it('seals what is personal, opens it again, and forgets a person whose key is erased', async () => {
      const { log, subjectVault, now } = await setUp()
      const alice = issuing(log.logId, now())
      const bob = issuing(log.logId, now(), {
        subject: 'corp|bob',
        purpose: 'pay the invoices',
        claims: { sub: 'corp|bob', aud: 'https://crm.example.com/' },
      })
      const { index } = await log.append(alice)
      const other = await log.append(bob)
      const record = (await log.get(index))!
      expect(JSON.stringify(record)).not.toMatch(/alice|answer/)
      expect(await log.unseal(record)).toEqual({ subject: alice.subject, purpose: alice.purpose, claims: alice.claims })

      expect(await subjectVault.erase('corp|alice')).toBe(true)
      expect(await log.get(index)).toEqual(record)
      expect(await log.unseal(record)).toBeUndefined()
      expect(await log.search({ subject: 'corp|alice' })).toEqual([])
      expect(await log.unseal((await log.get(other.index))!)).toMatchObject({ subject: 'corp|bob' })

      const after = (await log.get((await log.append(issuing(log.logId, now()))).index))!
      expect(after).toMatchObject({ subject: 'erased' })
      expect(after).not.toHaveProperty('sealed')
      expect(JSON.stringify(after)).not.toMatch(/alice|answer/)
      expect(await subjectVault.erase('corp|alice')).toBe(false)
    })

    it('finishes what is queued when it is closed, and takes nothing afterwards', async () => {
      const { log, reopen } = await setUp()
      const appended = Array.from({ length: 20 }, () => log.append({ type: 'task.heartbeat' }))
      log.countStranger('192.0.2.1', 'unknown_client')
      await log.close()
      expect((await Promise.all(appended)).length).toBe(20)
      expect(log.healthy()).toBe(false)
      await expect(log.append({ type: 'service.started' })).rejects.toMatchObject({ reason: 'audit_unavailable' })
      const again = await reopen()
      expect(again.size).toBe(21)
      expect(await again.get(20)).toMatchObject({ type: 'strangers.refused', source: '192.0.2.1', count: 1 })
    })

    it('refuses an event that has no canonical form, and writes the ones beside it', async () => {
      const { log } = await setUp()
      const good = log.append({ type: 'task.opened' })
      const bad = log.append({ type: 'token.issuing', claims: { exp: Number.NaN } })
      const next = log.append({ type: 'task.ended' })
      await expect(bad).rejects.toThrow(TypeError)
      expect([await good, await next].map(({ index }) => index)).toEqual([0, 1])
      expect(log.healthy()).toBe(true)
    })
  })
}
