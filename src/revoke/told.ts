/** What is recorded after its effect: it helps the reader of the log, and the effect stands also where the disk is full. */
import { type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import type { AuditEvent, AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'
import type { Revocation, RevocationMode } from './revocation-log.ts'

export interface Telling {
  readonly audit: AuditLog
  /** Told of a record that could not be written after its effect. */
  readonly onUnrecorded?: (type: string) => void
}

export type Told = Omit<AuditEvent, 'correlation' | 'reason'> & { readonly correlation: string | undefined }

export async function told({ audit, onUnrecorded }: Telling, { correlation, ...event }: Told): Promise<void> {
  try {
    await audit.append({ ...event, ...(correlation === undefined ? {} : { correlation }) })
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    onUnrecorded?.(event.type)
  }
}

/** A record has room for so many ids many times over. */
const TASKS_A_RECORD = 1000

const WHAT_CAME: Record<RevocationMode, (tasks: readonly string[], reason: string) => Pick<Told, 'type' | 'details'>> =
  {
    cut: (ended, reason) => ({ type: 'task.ended', details: { reason, ended } }),
    ban: (ended, reason) => ({ type: 'task.ended', details: { state: 'revoked', reason, ended } }),
    suspend: (suspended, reason) => ({ type: 'task.suspended', details: { reason, suspended } }),
    contain: (contained, reason) => ({ type: 'task.contained', details: { reason, contained } }),
  }

/** Each of them is named: receipts are made from these records. */
export async function toldTasks(
  telling: Telling,
  { id, mode, reason, by }: Revocation,
  tasks: readonly string[],
  correlation?: string,
  /** Until which all of it is written, where each task has an entry of its own. */
  epoch?: Epoch,
): Promise<void> {
  for (let at = 0; at < tasks.length; at += TASKS_A_RECORD) {
    const some = tasks.slice(at, at + TASKS_A_RECORD)
    const from = { cause: id, by, correlation, ...(epoch === undefined ? {} : { epoch: formatEpoch(epoch) }) }
    await told(telling, { ...from, ...WHAT_CAME[mode](some, reason) })
  }
}
