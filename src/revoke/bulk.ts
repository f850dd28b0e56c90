/**
 * A revocation of exactly what its preview showed: the preview takes a mark in the log and pins the tasks that are there,
 * and whoever looked at it may carry it out once. What was checked or opened after the mark is not touched.
 */
import { createHash } from 'node:crypto'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { AuditLog } from '../audit/log.ts'
import { ok, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import { endedBecause } from '../tasks/touched.ts'
import type { BulkPins, Pin, PinSpent, SpentPin } from './bulk-pins.ts'
import { shownMatch } from './component-match.ts'
import type { Preview } from './preview.ts'
import type { Revocation, RevocationLog, RevocationMode } from './revocation-log.ts'
import type { Revoke } from './revoke.ts'
import { toldTasks } from './told.ts'

const BULK_TOKEN_SECONDS = 900
/** Each is ended by an entry of its own, so that what it was given since the mark dies too. */
const MAX_PINNED_TASKS = 10_000
const AT_ONCE = 100
/** Somebody may be at it elsewhere: so long it is left to them. Two at once do the same, and no harm. */
const LEFT_ALONE_SECONDS = 30

export interface Pinned {
  readonly preview: Preview
  /** Absent where there are more tasks than can be pinned. */
  readonly bulk?: { readonly token: string; readonly expiresAt: number }
}

interface Done {
  readonly entry: Revocation
  readonly mode: RevocationMode
  readonly tasks: readonly string[]
}

export interface Bulk {
  preview(match: HopFacts, mode: RevocationMode, by: string, taken?: Pin['taken']): Promise<Pinned>
  /**
   * Answers the entry and the tasks that were ended or suspended by now. Where a fault came in between, the same maker
   * goes on with the same token.
   */
  execute(token: string, by: string, reason: string, correlation: string): Promise<Result<Done>>
  /** What a preview of this maker has pinned, where it could be carried out; undefined where that was begun, and goes on. */
  pinned(token: string, by: string): Promise<Result<Pin | undefined>>
  /** The same by a second person's word. Again, it goes on. */
  confirmed(pin: Pin & { readonly confirmedBy: string }, reason: string, correlation?: string): Promise<Done>
  /** After a start: what a stop came in between of. */
  finish(): Promise<void>
  /** What a fault came in between of, here or at another replica, and nobody went on with. */
  sweep(): Promise<void>
}

export interface BulkDeps {
  readonly now: () => number
  readonly pins: BulkPins
  readonly log: Pick<RevocationLog, 'mark' | 'get' | 'epoch'>
  readonly tasks: Pick<TaskStore, 'suspend' | 'wake'>
  readonly revoke: Pick<Revoke, 'byMatch' | 'endTask'>
  readonly preview: (match: HopFacts, mode: RevocationMode) => Promise<Preview>
  readonly widened: (match: HopFacts) => Promise<HopFacts>
  readonly audit: AuditLog
  readonly onUnrecorded?: (type: string) => void
  readonly newSecret: () => Uint8Array
}

/** Who can read the store learns no bulk token. */
const digestOf = (token: string): string => createHash('sha256').update(token).digest('base64url')

const entryOf = (revocation: string, task: string): string =>
  `rev_${createHash('sha256').update(`${revocation} ${task}`).digest('base64url').slice(0, 22)}`

type NotSpent = Exclude<PinSpent, { readonly pin: Pin }>

function refusedBy(spent: NotSpent): Result<never> {
  if (spent.outcome === 'unknown') return refuse('bulk_token_unknown', 'request', { proven: true })
  if (spent.outcome === 'expired') return refuse('bulk_token_expired', 'request', { proven: true })
  const detail = `it was used for ${spent.revocation}`
  return refuse('bulk_token_used', 'request', { proven: true, detail })
}

export function createBulk(deps: BulkDeps): Bulk {
  const { now, pins, log, tasks, revoke } = deps

  /** What this process is at, by its digest. */
  const underWay = new Map<string, Promise<Done>>()
  /** What somebody seems to be at, and since when; or when it was last tried here. */
  const elsewhere = new Map<string, number>()

  /** In parts, each of which is told: what a fault comes in between of has its records. */
  async function each(
    ids: readonly string[],
    step: (id: string) => Promise<readonly string[]>,
    tell: (some: readonly string[]) => Promise<void>,
  ): Promise<readonly string[]> {
    const done = new Set<string>()
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const steps = await Promise.allSettled(ids.slice(at, at + AT_ONCE).map(step))
      const some = steps.flatMap((each) => (each.status === 'fulfilled' ? each.value : []))
      const found = some.filter((id) => !done.has(id))
      for (const id of found) done.add(id)
      await tell([...new Set(found)])
      for (const each of steps) if (each.status === 'rejected') throw each.reason
    }
    return [...done]
  }

  /** Again, it does what is left to do. */
  async function carryOut(
    { match, mode, taken, mark, tasks: named, by, confirmedBy, revocation, reason }: SpentPin,
    request?: string,
  ): Promise<Done> {
    const told = {
      reason,
      by,
      ...(confirmedBy === undefined ? {} : { confirmedBy }),
      ...(request === undefined ? {} : { correlation: request }),
    }
    // A ban that keeps nothing out is a cut, and tasks that end.
    const kept = mode === 'suspend' ? mode : 'cut'
    /** The same entry of each task, however often it is asked for. */
    const own = (task: string) => ({ match: { task }, id: entryOf(revocation, task) })
    const { entry } = await revoke.byMatch({ ...told, match, mode: kept, id: revocation, before: mark })
    // Lifted since: what goes on again is not stopped by who comes late.
    if (entry.readmitted) return { entry, mode, tasks: [] }
    const step = async (id: string): Promise<readonly string[]> => {
      if (mode === 'ban') return revoke.endTask(id, 'revoked', endedBecause(reason, revocation), by, request)
      if (mode === 'contain')
        return (await revoke.byMatch({ ...told, ...own(id), mode, ...(taken ? { taken } : {}) })).tasks
      const held = await tasks.suspend(id, entry.id, now())
      // It is paused: what it was given since the mark dies, and whoever read it before that reads it again.
      if (held.length > 0) await revoke.byMatch({ ...told, ...own(id), mode: 'cut', closes: entry.id })
      return held
    }
    const tell = async (some: readonly string[]) => {
      const epoch = await log.epoch().catch(() => undefined)
      await toldTasks(deps, { ...entry, mode }, some, request, epoch)
    }
    const touched = mode === 'cut' ? [] : await each(named, step, tell)
    // Lifted meanwhile: what was held after that would be held for ever.
    if (mode === 'suspend' && (await log.get(entry.id))?.readmitted !== undefined) await tasks.wake(entry.id, now())
    return { entry, mode, tasks: touched }
  }

  /** Whoever asks meanwhile waits for the same. */
  function goOn(digest: string, pin: SpentPin, request?: string): Promise<Done> {
    const known = underWay.get(digest)
    if (known) return known
    const going = carryOut(pin, request)
      .then(async (done) => {
        await pins.done(digest)
        return done
      })
      .finally(() => underWay.delete(digest))
    underWay.set(digest, going)
    return going
  }

  return {
    async preview(match, mode, by, taken) {
      const mark = await log.mark()
      const preview = await deps.preview(match, mode)
      const whole = preview.effect === 'go_on' ? [] : preview.tasks
      if (whole.length > MAX_PINNED_TASKS) return { preview }
      const token = `bulk_${Buffer.from(deps.newSecret()).toString('base64url')}`
      const pin: Pin = {
        match: await deps.widened(match),
        mode,
        ...(taken ? { taken } : {}),
        mark,
        tasks: whole,
        by,
        expiresAt: now() + BULK_TOKEN_SECONDS,
        revocation: newId('rev'),
      }
      await deps.audit.append({
        type: 'admin.acted',
        by,
        cause: pin.revocation,
        epoch: formatEpoch(mark),
        ...(match.sub === undefined ? {} : { subject: match.sub }),
        details: {
          act: 'revocation.previewed',
          match: { ...shownMatch(match), ...(match.sub === undefined ? {} : { sub: '(subject)' }) },
          mode,
          tasks: whole.length,
        },
      })
      await pins.offer(digestOf(token), pin)
      return { preview, bulk: { token, expiresAt: pin.expiresAt } }
    },
    async execute(token, by, reason, correlation) {
      const digest = digestOf(token)
      const spent = await pins.spend(digest, by, reason, now())
      if (!('pin' in spent)) return refusedBy(spent)
      return ok(await goOn(digest, { reason, ...spent.pin }, correlation))
    },
    async pinned(token, by) {
      const found = await pins.look(digestOf(token), by, now())
      if (!('pin' in found)) return refusedBy(found)
      return ok(found.outcome === 'spent' ? found.pin : undefined)
    },
    async confirmed(pin, reason, correlation) {
      // Under a name of its own: the token is of one person.
      const digest = digestOf(`confirmed ${pin.revocation}`)
      const { outcome } = await pins.look(digest, pin.by, now())
      // Expired: a stop came before it was spent. The second person's word was in time, and that is what counts.
      if (outcome === 'unknown' || outcome === 'expired')
        await pins.offer(digest, { ...pin, expiresAt: now() + BULK_TOKEN_SECONDS })
      const spent = await pins.spend(digest, pin.by, reason, now())
      if ('pin' in spent) return goOn(digest, { reason, ...spent.pin }, correlation)
      const entry = await log.get(pin.revocation)
      if (!entry)
        throw new Unavailable('store_unavailable', 'what a second person confirmed is not in the store any more')
      return { entry, mode: pin.mode, tasks: [] }
    },
    async finish() {
      for (const { digest, pin } of await pins.unfinished()) await goOn(digest, pin)
    },
    async sweep() {
      const open = await pins.unfinished()
      for (const digest of elsewhere.keys()) if (!open.some((each) => each.digest === digest)) elsewhere.delete(digest)
      for (const { digest, pin } of open) {
        const since = elsewhere.get(digest) ?? now()
        const alone = now() - since >= LEFT_ALONE_SECONDS
        elsewhere.set(digest, alone ? now() : since)
        if (alone && !underWay.has(digest)) await goOn(digest, pin)
      }
    },
  }
}
