/** Finds the record of a decision by its `dec_…` id or by the jti of the token it gave. */
import { isDecisionId, timeOfId } from './ids.ts'
import type { AuditReader, AuditRecord } from './log.ts'

/** Nearly every record follows its id at once; the wider window is for a stalled disk or a clock that stepped. */
const WINDOWS = [
  { before: 50, after: 1_000 },
  { before: 5_000, after: 60_000 },
] as const

export async function findDecision(reader: AuditReader, id: string): Promise<AuditRecord | undefined> {
  const at = timeOfId(id)
  if (at === undefined) return undefined
  const wanted = isDecisionId(id) ? { decisionId: id } : { jti: id, type: 'token.issuing' as const }
  for (const { before, after } of WINDOWS) {
    const [found] = await reader.search({ ...wanted, since: at.ms - before, until: at.ms + after, limit: 1 })
    if (found !== undefined) return found
  }
  return undefined
}
