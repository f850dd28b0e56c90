/** A revocation as an answer shows it. */
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { shownMatch } from '../revoke/component-match.ts'
import type { Revocation, RevocationMode } from '../revoke/revocation-log.ts'

export const takenView = ({ tools, operations, maxEffect }: NonNullable<Revocation['taken']>) => ({
  tools,
  operations,
  ...(maxEffect === undefined ? {} : { max_effect: maxEffect }),
})

export const revocationView = (entry: Revocation) => ({
  id: entry.id,
  epoch: `${entry.epoch.generation}.${entry.epoch.sequence}`,
  match: shownMatch(entry.match),
  ...(entry.partOf === undefined ? {} : { part_of: entry.partOf }),
  ...(entry.before === undefined ? {} : { checked_before: formatEpoch(entry.before) }),
  mode: entry.mode,
  reason: entry.reason,
  by: entry.by,
  ...(entry.confirmedBy === undefined ? {} : { confirmed_by: entry.confirmedBy }),
  at: entry.at,
  expires_at: entry.expiresAt,
  ...(entry.banUntil === undefined ? {} : { ban_until: entry.banUntil }),
  ...(entry.taken ? { taken: takenView(entry.taken) } : {}),
  ...(entry.readmitted ? { [entry.mode === 'suspend' ? 'resumed' : 'readmitted']: entry.readmitted } : {}),
})

/** What a mode does to tasks, as the answer names it. */
const TOUCHED: Readonly<Record<RevocationMode, string>> = {
  cut: 'tasks_ended',
  ban: 'tasks_ended',
  suspend: 'tasks_suspended',
  contain: 'tasks_contained',
}

export const touched = (mode: RevocationMode, tasks: readonly string[]) => ({ [TOUCHED[mode]]: tasks })
