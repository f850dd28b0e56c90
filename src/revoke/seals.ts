/** An administrator's seal: nothing is issued until it is lifted. What is out lives on, and everything can be revoked. */
import type { AuditEvent, AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'

export interface Sealed {
  readonly by: string
  readonly reason: string
  /** Unix seconds. */
  readonly at: number
}

/** Its port. Each step is durable, and seen by every later `check` of something about to be issued, before it resolves. */
export interface Seals {
  /** False where it is sealed already. */
  seal(sealed: Sealed): Promise<boolean>
  current(): Promise<Sealed | undefined>
  /** False where it is not sealed. */
  unseal(): Promise<boolean>
}

export interface Sealing {
  current(): Promise<Sealed | undefined>
  seal(by: string, reason: string, correlation: string): Promise<boolean>
  unseal(by: string, reason: string, correlation: string): Promise<boolean>
}

interface SealingDeps {
  readonly now: () => number
  readonly seals: Seals
  readonly audit: AuditLog
  /** Told of a record that could not be written after its effect. */
  readonly onUnrecorded: (type: AuditEvent['type']) => void
}

export function createSealing({ now, seals, audit, onUnrecorded }: SealingDeps): Sealing {
  return {
    current: () => seals.current(),
    async seal(by, reason, correlation) {
      const sealed = await seals.seal({ by, reason, at: now() })
      // After the effect: it must not wait for a disk.
      await audit.append({ type: 'service.sealed', by, correlation, details: { reason } }).catch((error) => {
        if (!(error instanceof Unavailable)) throw error
        onUnrecorded('service.sealed')
      })
      return sealed
    },
    async unseal(by, reason, correlation) {
      if (!(await seals.current())) return false
      // It lets things be issued again: no record, no unsealing.
      await audit.append({ type: 'service.unsealed', by, correlation, details: { reason } })
      return seals.unseal()
    },
  }
}

export const sealedBy = ({ by }: Pick<Sealed, 'by'>): Unavailable =>
  new Unavailable('sealed', `sealed by ${by}`, { retryAfterSeconds: 30 })
