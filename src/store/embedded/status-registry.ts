/** Which index of which status list stands for which tokens, in the embedded database. */
import type { StatusRecord, StatusRegistry } from '../../revoke/status-registry.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

export function createStatusRegistry({ db }: { db: EmbeddedDatabase }): StatusRegistry {
  const find = db.prepare('SELECT * FROM status_indexes WHERE list = ? AND idx = ?')
  const insert = db.prepare('INSERT INTO status_indexes (list, idx, until, record, named) VALUES (?, ?, ?, ?, ?)')
  const remove = db.prepare('DELETE FROM status_indexes WHERE place = ?')
  const since = db.prepare('SELECT * FROM status_indexes WHERE place > ? ORDER BY place')
  const ended = db.prepare('SELECT place FROM status_indexes WHERE until < ? LIMIT 1000')
  const enter = db.prepare('INSERT INTO status_tokens (jti, list, idx, until) VALUES (?, ?, ?, ?)')
  const entered = db.prepare('SELECT list, idx FROM status_tokens WHERE jti = ?')
  const anyEntered = db.prepare('SELECT 1 FROM status_tokens WHERE until < ? LIMIT 1')
  const forget = db.prepare('DELETE FROM status_tokens WHERE until < ?')

  /** What changes goes to the end: whoever asks since a place is told of it. */
  const change = (row: Row, over: { readonly until?: number; readonly named?: string }) => {
    const { place, list, idx, until, record, named }: Row = { ...row, ...over }
    remove.run([place!])
    insert.run([list!, idx!, until!, record!, named!])
  }

  return {
    take: ({ list, idx, until, named, ...rest }) =>
      db.write(() => {
        if (find.one([list, idx])) return false
        insert.run([list, idx, until, JSON.stringify(rest), named.join(' ')])
        return true
      }),
    keep: ({ list, idx, group }, until) =>
      db.write(() => {
        const row = find.one([list, idx])
        if (!row || toRecord(row).group !== group) return false
        change(row, { until: Math.max(until, Number(row['until'])) })
        return true
      }),
    enter: async (jti, list, idx, until) => {
      await db.write(() => enter.run([jti, list, idx, until]))
    },
    name: async (jti) => {
      db.assertOpen()
      // Most tokens have no index: to learn that, nothing is written.
      if (!entered.one([jti])) return undefined
      return db.write(
        () => {
          const at = entered.one([jti])
          const row = at && find.one([at['list']!, at['idx']!])
          if (!row) return undefined
          const { list, idx, named } = toRecord(row)
          if (!named.includes(jti)) change(row, { named: [...named, jti].join(' ') })
          return { list, idx }
        },
        { urgent: true },
      )
    },
    since: async (place) => {
      db.assertOpen()
      const rows = since.all([place])
      return { records: rows.map(toRecord), place: Number(rows.at(-1)?.['place'] ?? place) }
    },
    prune: async (before) => {
      if (!anyEntered.one([before]) && ended.all([before]).length === 0) return
      await db.write(() => {
        forget.run([before])
        for (const row of ended.all([before])) remove.run([row['place']!])
      })
    },
  }
}

const toRecord = (row: Row): StatusRecord => ({
  list: String(row['list']),
  idx: Number(row['idx']),
  until: Number(row['until']),
  named: String(row['named']).split(' ').filter(Boolean),
  ...(JSON.parse(String(row['record'])) as Pick<StatusRecord, 'group' | 'hops'>),
})
