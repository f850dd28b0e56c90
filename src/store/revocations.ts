/** What both adapters of the revocation log share. */
import { DIMENSIONS, MAX_SHAPES } from '@errand/verifier/shapes.ts'
import type { Revocation } from '../revoke/revocation-log.ts'

/** Single dimensions and "everything" always have room: no conjunction can block a kill switch. */
export const MAX_CONJUNCTIONS = MAX_SHAPES - DIMENSIONS.length - 1

/** Whether nothing is issued to what it matches, until it is lifted. */
export const keepsOut = ({ mode }: Pick<Revocation, 'mode'>): boolean => mode === 'ban' || mode === 'suspend'

/** That tasks must be read again is told so long: longer than any exchange is under way. */
export const TOLD_SECONDS = 7200

/** The revocation after which, by this entry, tasks must be read again. */
export const changedTasks = ({ id, mode, closes }: Pick<Revocation, 'id' | 'mode' | 'closes'>): string | undefined =>
  closes ?? (mode === 'contain' ? id : undefined)

export const banInForce = (entry: Pick<Revocation, 'mode' | 'readmitted' | 'banUntil'>, now: number): boolean =>
  keepsOut(entry) && entry.readmitted === undefined && (entry.banUntil === undefined || now < entry.banUntil)

/** What a listener throws is its own bug: the entry stands, and so does everybody else's. */
export function tell<T>(listener: (about: T) => void, about: T): void {
  try {
    listener(about)
  } catch (error) {
    setImmediate(() => {
      throw error
    })
  }
}
