/** The steps that end, suspend, wake and narrow tasks in the embedded database, each with all that lives below. */
import type { Containment } from '../../tasks/containment.ts'
import { stateAt, type TaskState } from '../../tasks/task.ts'
import type { EmbeddedDatabase, Row } from './database.ts'
import { isLive, toContained, toHolders, toMoving } from './task-rows.ts'

/** In parts: one transaction may not hold up everybody else. */
export const WOKEN_AT_ONCE = 500

/** Each within a transaction of its caller. */
export function createTaskStates(db: EmbeddedDatabase) {
  const find = db.prepare('SELECT * FROM tasks WHERE id = ?')
  const children = db.prepare(
    'SELECT id, state, deadline, heartbeat_by FROM tasks WHERE parent = ? ORDER BY created_at, id',
  )
  const finish = db.prepare(
    'UPDATE tasks SET state = ?, ended_reason = ?, ended_at = ?, suspended_by = NULL WHERE id = ?',
  )
  const hold = db.prepare("UPDATE tasks SET state = 'suspended', suspended_by = ? WHERE id = ?")
  const contain = db.prepare('UPDATE tasks SET contained = ? WHERE id = ?')
  const holding = db.prepare('SELECT suspended_by FROM tasks WHERE id = ?')
  const heldBy = db.prepare(
    "SELECT id, suspended_by FROM tasks WHERE state = 'suspended' AND instr(suspended_by, ?) > 0 LIMIT ?",
  )
  const holders = db.prepare("SELECT DISTINCT suspended_by FROM tasks WHERE state = 'suspended'")
  const wake = db.prepare(
    "UPDATE tasks SET state = 'active', suspended_by = NULL, heartbeat_by = ? + heartbeat_seconds WHERE id = ?",
  )
  const containedIn = db.prepare('SELECT contained FROM tasks WHERE id = ?')

  /** The task and every descendant that has not ended, parents before children. */
  function liveFrom(id: string, lives: (row: Row) => boolean): readonly string[] {
    const named = find.one([id])
    if (!named || !lives(named)) return []
    const live: string[] = []
    for (let level = [id]; level.length > 0; ) {
      live.push(...level)
      // An ended child has no live descendants: they ended with it.
      level = level.flatMap((parent) =>
        children
          .all([parent])
          .filter(lives)
          .map((child) => String(child['id'])),
      )
    }
    return live
  }

  function end(id: string, state: TaskState, reason: string, at: number): readonly string[] {
    const ended = liveFrom(id, isLive)
    for (const task of ended) finish.run([state, reason, at, task])
    return ended
  }

  const livesAt = (now: number) => (row: Row) => isLive(row) && stateAt(toMoving(row), now) !== 'expired'

  function takeFrom(id: string, containment: Containment, now: number): readonly string[] {
    const tasks = liveFrom(id, livesAt(now))
    for (const task of tasks) {
      const before = toContained(containedIn.one([task])?.['contained'])
      if (!before.some(({ by }) => by === containment.by)) contain.run([JSON.stringify([...before, containment]), task])
    }
    return tasks
  }

  function suspend(id: string, by: string, now: number): readonly string[] {
    // One that missed its heartbeat has ended, also where nobody has swept yet: it must not wake again.
    const suspended = liveFrom(id, livesAt(now))
    for (const task of suspended) {
      const others = toHolders(holding.one([task])?.['suspended_by'])
      if (!others.includes(by)) hold.run([JSON.stringify([...others, by]), task])
    }
    return suspended
  }

  function wakeSome(
    by: string,
    now: number,
  ): { readonly released: readonly string[]; readonly woken: readonly string[] } {
    const woken: string[] = []
    const rows = heldBy.all([JSON.stringify(by), WOKEN_AT_ONCE])
    for (const row of rows) {
      const id = String(row['id'])
      const others = toHolders(row['suspended_by']).filter((each) => each !== by)
      if (others.length > 0) hold.run([JSON.stringify(others), id])
      else {
        wake.run([now, id])
        woken.push(id)
      }
    }
    return { released: rows.map((row) => String(row['id'])), woken }
  }

  return {
    end,
    takeFrom,
    suspend,
    wakeSome,
    holders: (): readonly string[] => [...new Set(holders.all([]).flatMap((row) => toHolders(row['suspended_by'])))],
  }
}
