/** When a ban is in force. */
import type { Revocation } from '../revoke/revocation-log.ts'

export const banInForce = (entry: Pick<Revocation, 'mode' | 'readmitted' | 'banUntil'>, now: number): boolean =>
  entry.mode === 'ban' && entry.readmitted === undefined && (entry.banUntil === undefined || now < entry.banUntil)
