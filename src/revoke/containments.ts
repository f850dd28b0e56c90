/** What is known of a revocation that was made, for judging where it is in force, and for its receipt. */
import { compareEpochs, type Epoch, parseEpoch } from '@errand/verifier/epoch.ts'
import type { AuditReader, AuditRecord } from '../audit/log.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import { TOUCHED, type Touched, touchedBy } from '../tasks/touched.ts'
import type { Acks } from './acks.ts'
import type { Audiences } from './audiences.ts'
import { type Containment, judgeContainment } from './containment.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'
import type { Hearing } from './hearing.ts'
import { closingOf } from './narrowing.ts'

/** Since when so many of the newest entries are durable; of older ones the log says it. */
const REMEMBERED = 10_000
/** A record is written as soon as its entry is durable; clocks that step, and disks that stall, have so long. */
const AROUND_SECONDS = 600
const MAX_RECORDS = 10_000
const MAX_TOUCHED = 100_000
/** No verifier has applied what is still to be written. */
const BEYOND: Epoch = { generation: Number.MAX_SAFE_INTEGER, sequence: 0 }

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
  readonly log: Pick<RevocationLog, 'get' | 'onAdded'>
  readonly acks: Pick<Acks, 'applied'>
  readonly hearing: Pick<Hearing, 'covers' | 'since'>
  readonly tasks: Pick<TaskStore, 'list'>
  /** Ids of those that were pinned, and are being carried out or were stopped in between. */
  readonly unfinished: () => Promise<readonly string[]>
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

  const recordsOf = ({ id, at }: Revocation, done: Touched) =>
    reader.search({ type: `task.${done}`, cause: id, since: (at - AROUND_SECONDS) * 1000, limit: MAX_RECORDS })

  /** One that was pinned ends each task by an entry of its own: it is in force where the last of them is. */
  async function lastOf(entry: Revocation): Promise<{ readonly epoch: Epoch; readonly durableAt: number }> {
    let last = { epoch: entry.epoch, durableAt: 0 }
    if (entry.before === undefined) return last
    if ((await deps.unfinished()).includes(entry.id)) return { epoch: BEYOND, durableAt: now() }
    for (const { epoch, t } of (await Promise.all(TOUCHED.map((done) => recordsOf(entry, done)))).flat()) {
      const place = parseEpoch(epoch) ?? BEYOND
      const at = Math.ceil(t / 1000)
      last = {
        epoch: compareEpochs(place, last.epoch) > 0 ? place : last.epoch,
        durableAt: Math.max(last.durableAt, at),
      }
    }
    return last
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
      const closing = entry.mode === 'contain' ? await find(closingOf(entry.id), entry.at - AROUND_SECONDS) : entry
      const last = closing ? await lastOf(closing) : { epoch: BEYOND, durableAt: now() + 1 }
      const heard = deps.hearing.covers(last.epoch)
      return judgeContainment({
        revokedAt: closing?.at ?? entry.at,
        durableAt: closing ? Math.max(last.durableAt, await durableAt(closing)) : last.durableAt,
        audiences: deps.audiences.all().map((each) => ({
          ...each,
          applied: heard && each.by === 'feed' ? acks.applied(`tool:${each.tool}`, last.epoch) : undefined,
        })),
        listeningSince: deps.hearing.since(),
        now: now(),
      })
    },
    async tasksOf(entry) {
      const { id, at } = entry
      // Whoever stopped before it was written down left it to the tasks to say.
      const touched = at > startedAt ? [] : await deps.tasks.list({ touchedBy: id, limit: MAX_TOUCHED })
      const listed = async (done: Touched) => {
        const records = await recordsOf(entry, done)
        type Details = { readonly [D in typeof done]?: readonly string[] }
        const recorded = [...records].reverse().flatMap(({ details }) => (details as Details)[done] ?? [])
        const stored = touched.filter((task) => touchedBy(task, id).includes(done)).map((task) => task.id)
        return [...new Set([...recorded, ...stored])]
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
