/** Where a revocation by component is in force, and what it touched: all of its parts, one by release. */
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { AuditReader } from '../audit/log.ts'
import { componentOf, type Match, matchInLog } from './component-match.ts'
import type { Containments, TouchedTasks } from './containments.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'

/** Clocks that step have so long. */
const AROUND_SECONDS = 600
const MAX_RECORDS = 10_000

export interface PartContainments extends Containments {
  /** Those that it stands for; undefined where it is of no component. */
  releasesOf(entry: Revocation): Promise<readonly string[] | undefined>
}

export function containmentsOfParts(
  containments: Containments,
  {
    now,
    log,
    reader,
  }: {
    readonly now: () => number
    readonly log: Pick<RevocationLog, 'get' | 'bans' | 'after'>
    readonly reader: Pick<AuditReader, 'search'>
  },
): PartContainments {
  /** By the records; and by the entries that live, where a stop came in between of both. */
  async function partsOf(entry: Revocation): Promise<ReadonlyMap<string, Revocation>> {
    const parts = new Map<string, Revocation>()
    if (componentOf(entry.match) === undefined) return parts
    const records = await reader.search({
      type: 'revocation.expanded',
      cause: entry.id,
      since: (entry.at - AROUND_SECONDS) * 1000,
      limit: MAX_RECORDS,
    })
    const ids = records.flatMap(({ details }) => (details as unknown as { entries: readonly string[] }).entries)
    const recorded = await Promise.all([...new Set(ids)].map((id) => containments.find(id)))
    const live = [...(await log.bans(now())), ...(await log.after())].filter(({ partOf }) => partOf === entry.id)
    for (const part of [...recorded, ...live]) if (part) parts.set(part.id, part)
    return parts
  }

  return {
    ...containments,
    async find(id) {
      const entry = (await log.get(id)) ?? (await containments.find(id))
      return entry && { ...entry, match: matchInLog(entry.match as Match) }
    },
    async of(entry) {
      const parts = [...(await partsOf(entry)).values()]
      // Whoever has applied the last has applied all.
      return containments.of(
        parts.reduce((last, part) => (compareEpochs(part.epoch, last.epoch) > 0 ? part : last), entry),
      )
    },
    async tasksOf(entry) {
      const all = await Promise.all(
        [entry, ...(await partsOf(entry)).values()].map((each) => containments.tasksOf(each)),
      )
      const union = (of: keyof TouchedTasks) => [...new Set(all.flatMap((each) => each[of]))]
      return { ended: union('ended'), suspended: union('suspended'), contained: union('contained') }
    },
    async releasesOf(entry) {
      if (componentOf(entry.match) === undefined) return undefined
      const parts = [...(await partsOf(entry)).values()]
      return [...new Set(parts.flatMap(({ match }) => match.release ?? []))].sort()
    },
  }
}
