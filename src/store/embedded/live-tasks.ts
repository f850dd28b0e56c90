/** Live tasks by whom they are for, in the embedded database: along the index of those that have not ended. */
import type { LiveTasks } from '../../tasks/live-tasks.ts'
import { stateAt, type TaskState } from '../../tasks/task.ts'
import type { EmbeddedDatabase, Row, Value } from './database.ts'

const LIVE = "state IN ('active', 'suspended')"

export function createLiveTasks({ db }: { db: EmbeddedDatabase }): LiveTasks {
  return {
    matching: async ({ agent, agentSpiffeId, subject }, now, limit) => {
      const wanted: readonly [string, Value | undefined][] = [
        ['agent = ?', agent],
        ["json_extract(fixed, '$.agentSpiffeId') = ?", agentSpiffeId],
        ['subject = ?', subject],
      ]
      const given = wanted.filter((pair): pair is [string, Value] => pair[1] !== undefined)
      const conditions = [LIVE, 'deadline > ?', ...given.map(([condition]) => condition)]
      // The agent's own index would lead through all that it has ever done.
      const rows = db
        .prepare(
          `WITH RECURSIVE named (id) AS (
             SELECT id FROM tasks INDEXED BY tasks_deadline WHERE ${conditions.join(' AND ')}
             UNION SELECT tasks.id FROM tasks JOIN named ON tasks.parent = named.id WHERE ${LIVE}
           )
           SELECT id, agent, subject, state, deadline, heartbeat_by FROM named JOIN tasks USING (id) LIMIT ?`,
        )
        .all([now, ...given.map(([, value]) => value), limit])
      return rows
        .filter((row) => livesAt(row, now))
        .map((row) => ({ id: String(row['id']), agent: String(row['agent']), subject: String(row['subject']) }))
    },
  }
}

function livesAt(row: Row, now: number): boolean {
  const state = row['state'] as TaskState
  const heartbeat = row['heartbeat_by'] == null ? {} : { heartbeatBy: Number(row['heartbeat_by']) }
  return stateAt({ state, deadline: Number(row['deadline']), ...heartbeat }, now) !== 'expired'
}
