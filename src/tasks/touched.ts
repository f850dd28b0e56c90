/** What a revocation did to a task, as the task itself tells: it says so also where nobody lived to write it down. */
import type { Task } from './task.ts'

/** Why a task ended by a revocation did: its reason, and which one it is. */
export const endedBecause = (reason: string, revocation: string): string => `${reason} (${revocation})`

export const TOUCHED = ['ended', 'suspended', 'contained'] as const
export type Touched = (typeof TOUCHED)[number]

export function touchedBy(task: Pick<Task, 'endedReason' | 'suspendedBy' | 'contained'>, revocation: string) {
  const touched: Touched[] = []
  if (task.endedReason?.endsWith(` (${revocation})`)) touched.push('ended')
  if (task.suspendedBy?.includes(revocation)) touched.push('suspended')
  if (task.contained?.some(({ by }) => by === revocation)) touched.push('contained')
  return touched
}
