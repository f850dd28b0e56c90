/** Where a revocation by component is in force, and what it touched: all of its parts, one by release. */
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { AuditReader } from '../audit/log.ts'
import { componentOf, type Match, matchInLog } from './component-match.ts'
import type { Containments, TouchedTasks } from './containments.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'

const MAX_RECORDS = 10_000

export interface PartContainments extends Containments {
  /** Those that it stands for; undefined where it is of no component. */
  releasesOf(entry: Revocation): Promise<readonly string[] | undefined>
}

export function containmentsOfParts(
  containments: Containments,
  { log, reader }: { readonly log: Pick<RevocationLog, 'get'>; readonly reader: Pick<AuditReader, 'search'> },
): PartContainments {
  async function expandedTo(entry: Revocation): Promise<readonly { readonly release: string; readonly id: string }[]> {
    const records = await reader.search({
      type: 'revocation.expanded',
      cause: entry.id,
      since: (entry.at - 1) * 1000,
      limit: MAX_RECORDS,
    })
    type Details = { readonly releases: readonly string[]; readonly entries: readonly string[] }
    return [...records].reverse().flatMap(({ details }) => {
      const { releases, entries } = details as unknown as Details
      return releases.map((release, index) => ({ release, id: entries[index]! }))
    })
  }

  async function partsOf(entry: Revocation): Promise<readonly Revocation[]> {
    if (componentOf(entry.match) === undefined) return []
    const parts = await Promise.all((await expandedTo(entry)).map(({ id }) => containments.find(id)))
    return parts.filter((part) => part !== undefined)
  }

  return {
    ...containments,
    async find(id) {
      const entry = (await log.get(id)) ?? (await containments.find(id))
      return entry && { ...entry, match: matchInLog(entry.match as Match) }
    },
    async of(entry) {
      const parts = await partsOf(entry)
      // Whoever has applied the last has applied all.
      return containments.of(
        parts.reduce((last, part) => (compareEpochs(part.epoch, last.epoch) > 0 ? part : last), entry),
      )
    },
    async tasksOf(entry) {
      const all = await Promise.all([entry, ...(await partsOf(entry))].map((each) => containments.tasksOf(each)))
      const union = (of: keyof TouchedTasks) => [...new Set(all.flatMap((each) => each[of]))]
      return { ended: union('ended'), suspended: union('suspended'), contained: union('contained') }
    },
    async releasesOf(entry) {
      if (componentOf(entry.match) === undefined) return undefined
      return [...new Set((await expandedTo(entry)).map(({ release }) => release))]
    },
  }
}
