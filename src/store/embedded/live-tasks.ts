/** Live tasks by whom they are for, in the embedded database: along the index of those that have not ended. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Candidate, idsOf, type LiveTasks, withBelow } from '../../tasks/live-tasks.ts'
import { stateAt, type TaskState } from '../../tasks/task.ts'
import type { EmbeddedDatabase, Row, Value } from './database.ts'

/** As many as are read without letting others have a turn. */
const PAGE = 500

export function createLiveTasks({ db }: { db: EmbeddedDatabase }): LiveTasks {
  return {
    matching: async ({ agent, agentSpiffeId, domain, release, subject }, now, limit) => {
      const wanted: readonly [string, Value | undefined][] = [
        ['agent = ?', agent],
        ["json_extract(fixed, '$.agentSpiffeId') = ?", agentSpiffeId],
        ["instr(json_extract(fixed, '$.agentSpiffeId'), ?) = 1", domain && idsOf(domain)],
        ["json_extract(fixed, '$.release') = ?", release],
        ['subject = ?', subject],
      ]
      const given = wanted.filter((pair): pair is [string, Value] => pair[1] !== undefined)
      const named = given.length === 0 ? '1' : given.map(([condition]) => condition).join(' AND ')
      const values = given.map(([, value]) => value)
      // The agent's own index would lead through all that it has ever done.
      const page = db.prepare(
        `SELECT rowid AS place, id, parent, agent, subject, state, deadline, heartbeat_by, (${named}) AS named
         FROM tasks INDEXED BY tasks_deadline
         WHERE state IN ('active', 'suspended') AND (deadline, rowid) > (?, ?) AND (parent IS NOT NULL OR (${named}))
         ORDER BY deadline, rowid LIMIT ${PAGE}`,
      )
      const found: Candidate[] = []
      for (let after: readonly Value[] = [now, Number.MAX_SAFE_INTEGER]; ; ) {
        const rows = page.all([...values, ...after, ...values])
        for (const row of rows) if (livesAt(row, now)) found.push(toCandidate(row))
        const last = rows.at(-1)
        if (!last || rows.length < PAGE) return withBelow(found, limit)
        after = [last['deadline']!, last['place']!]
        await nextTurn()
      }
    },
  }
}

const toCandidate = (row: Row): Candidate => ({
  id: String(row['id']),
  agent: String(row['agent']),
  subject: String(row['subject']),
  named: row['named'] === 1,
  ...(row['parent'] == null ? {} : { parent: String(row['parent']) }),
})

function livesAt(row: Row, now: number): boolean {
  const state = row['state'] as TaskState
  const heartbeat = row['heartbeat_by'] == null ? {} : { heartbeatBy: Number(row['heartbeat_by']) }
  return stateAt({ state, deadline: Number(row['deadline']), ...heartbeat }, now) !== 'expired'
}
