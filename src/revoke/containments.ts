/** What is known of a revocation that was made, for judging where it is in force, and for its receipt. */
import { parseEpoch } from '@errand/verifier/epoch.ts'
import type { AuditReader, AuditRecord } from '../audit/log.ts'
import type { Acks } from './acks.ts'
import type { Audiences } from './audiences.ts'
import { type Containment, judgeContainment } from './containment.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'
import { closingOf } from './narrowing.ts'

/** Since when so many of the newest entries are durable; of older ones the log says it. */
const REMEMBERED = 10_000
/** A record is written as soon as its entry is durable; clocks that step, and disks that stall, have so long. */
const AROUND_SECONDS = 600
const MAX_RECORDS = 10_000

export interface TouchedTasks {
  readonly ended: readonly string[]
  readonly suspended: readonly string[]
  /** Something was taken from them. */
  readonly contained: readonly string[]
}

export interface Containments {
  of(entry: Revocation): Promise<Containment>
  /** Also one that is over and forgotten, out of the log. */
  find(id: string): Promise<Revocation | undefined>
  /** The record of the entry; undefined where none could be written. */
  recordOf(entry: Revocation): Promise<AuditRecord | undefined>
  /** Tasks that were ended or suspended by it, as the log has them. */
  tasksOf(entry: Revocation): Promise<TouchedTasks>
  close(): void
}

export interface ContainmentsDeps {
  readonly now: () => number
  /** Unix seconds: since when this process runs. */
  readonly startedAt: number
  /** See `ContainmentFacts`. */
  readonly listeningSince: number | undefined
  readonly log: Pick<RevocationLog, 'get' | 'onAdded'>
  readonly acks: Pick<Acks, 'applied'>
  readonly audiences: Pick<Audiences, 'all'>
  readonly reader: Pick<AuditReader, 'search' | 'unseal'>
}

export function createContainments(deps: ContainmentsDeps): Containments {
  const { now, startedAt, acks, reader } = deps
  const durable = new Map<string, number>()
  // Told after it is durable; a second has passed at most before it says so.
  const forget = deps.log.onAdded(({ id }) => {
    durable.set(id, now() + 1)
    if (durable.size > REMEMBERED) durable.delete(durable.keys().next().value!)
  })

  const recordOf: Containments['recordOf'] = async ({ id, at }) => {
    const found = await reader.search({
      type: 'revocation.added',
      cause: id,
      since: (at - AROUND_SECONDS) * 1000,
      until: (at + AROUND_SECONDS) * 1000,
      limit: MAX_RECORDS,
    })
    // Asked for again, it is recorded again; the first is the one that did it.
    return found.at(-1)
  }

  const durableAt = async (entry: Revocation): Promise<number> => {
    const known = durable.get(entry.id)
    if (known !== undefined) return known
    const record = await recordOf(entry)
    // Of what came since the start and has no record here, no more is known than that it is there now.
    const unrecorded = entry.at < startedAt ? startedAt : now()
    const at = record === undefined ? unrecorded : Math.ceil(record.t / 1000)
    durable.set(entry.id, at)
    return at
  }

  const find = async (id: string, sinceSeconds = 0): Promise<Revocation | undefined> => {
    const entry = await deps.log.get(id)
    if (entry) return entry
    const since = sinceSeconds * 1000
    const record = (await reader.search({ type: 'revocation.added', cause: id, since, limit: MAX_RECORDS })).at(-1)
    return record && readBack(id, record, (await reader.unseal(record))?.subject)
  }

  return {
    recordOf,
    find: (id) => find(id),
    async of(entry) {
      // What was made while it was taken from tasks dies of the second entry; before that is there, tasks may still have
      // what is to be taken, and nobody's word is about it.
      const last = entry.mode === 'contain' ? await find(closingOf(entry.id), entry.at - AROUND_SECONDS) : entry
      return judgeContainment({
        revokedAt: last?.at ?? entry.at,
        durableAt: last ? await durableAt(last) : now() + 1,
        audiences: deps.audiences.all().map((each) => ({
          ...each,
          applied: last && each.by === 'feed' ? acks.applied(`tool:${each.tool}`, last.epoch) : undefined,
        })),
        listeningSince: deps.listeningSince,
        now: now(),
      })
    },
    async tasksOf({ id, at }) {
      const listed = async (done: keyof TouchedTasks) => {
        const since = (at - AROUND_SECONDS) * 1000
        const records = await reader.search({ type: `task.${done}`, cause: id, since, limit: MAX_RECORDS })
        type Details = { readonly [D in typeof done]?: readonly string[] }
        return [...new Set([...records].reverse().flatMap(({ details }) => (details as Details)[done] ?? []))]
      }
      return {
        ended: await listed('ended'),
        suspended: await listed('suspended'),
        contained: await listed('contained'),
      }
    },
    close: forget,
  }
}

/** As it was made: what became of it since stands in later records. */
function readBack(id: string, { t, epoch, by, details }: AuditRecord, subject: string | undefined): Revocation {
  const { match, mode, reason } = details as unknown as Pick<Revocation, 'match' | 'mode' | 'reason'>
  const at = Math.floor(t / 1000)
  return {
    id,
    // Where the person was erased it stays as the log has it.
    match: match.sub === undefined || subject === undefined ? match : { ...match, sub: subject },
    mode,
    reason,
    by: String(by),
    at,
    expiresAt: at,
    epoch: parseEpoch(epoch) ?? { generation: 0, sequence: 0 },
  }
}
