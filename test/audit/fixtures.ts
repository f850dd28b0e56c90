/** Subjects' keys in memory, a vault over them, and events to write. */
import { newDecisionId, newJti } from '../../src/audit/ids.ts'
import type { AuditEvent } from '../../src/audit/log.ts'
import type { SubjectKeys } from '../../src/audit/subject-keys.ts'
import { createSubjectVault, type SubjectVault } from '../../src/audit/subject-vault.ts'

export function memorySubjectKeys(): SubjectKeys & { readonly asked: () => number } {
  const sealed = new Map<string, string | undefined>()
  let asked = 0
  return {
    asked: () => asked,
    obtain: async (ref, make) => {
      asked += 1
      if (!sealed.has(ref)) sealed.set(ref, make())
      return sealed.get(ref)
    },
    find: async (ref) => sealed.get(ref),
    erase: async (ref) => {
      const there = sealed.get(ref) !== undefined
      sealed.set(ref, undefined)
      return there
    },
  }
}

export const vaultOver = (keys: SubjectKeys, now: () => number = () => 0): SubjectVault =>
  createSubjectVault({
    keys,
    referenceKey: new Uint8Array(32).fill(7),
    seal: (bytes) => Buffer.from(bytes.map((byte) => byte ^ 0x55)).toString('base64url'),
    open: (text) => Buffer.from(text, 'base64url').map((byte) => byte ^ 0x55),
    now,
  })

export function issuing(logId: string, nowMs: number, more: Partial<AuditEvent> = {}): AuditEvent & { jti: string } {
  const jti = newJti(logId, nowMs)
  return {
    type: 'token.issuing',
    decision: 'permit',
    decisionId: newDecisionId(logId, nowMs),
    agent: 'research',
    subject: 'corp|alice',
    task: 'task_AAAAAAAAAAAAAAAAAAAAAA',
    tool: 'tickets',
    operations: ['read'],
    purpose: 'answer the open tickets',
    claims: { iss: 'https://errand.example', sub: 'corp|alice', aud: 'https://tickets.example.com/', jti },
    ...more,
    jti,
  }
}

/** A timer that goes off only when told; resolves when what it began is done. */
export function manualTimer() {
  const runs = new Set<() => Promise<void>>()
  return {
    every: (_ms: number, run: () => Promise<void>) => {
      runs.add(run)
      return () => runs.delete(run)
    },
    tick: async () => {
      await Promise.all([...runs].map((run) => run()))
    },
  }
}
