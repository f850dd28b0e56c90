/** Which index of which status list stands for which tokens, in the embedded database. */
import type { StatusRecord, StatusRegistry } from '../../revoke/status-registry.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

export function createStatusRegistry({ db }: { db: EmbeddedDatabase }): StatusRegistry {
  const find = db.prepare('SELECT * FROM status_indexes WHERE list = ? AND idx = ?')
  const insert = db.prepare('INSERT INTO status_indexes (list, idx, until, record, named) VALUES (?, ?, ?, ?, ?)')
  const remove = db.prepare('DELETE FROM status_indexes WHERE place = ?')
  const since = db.prepare('SELECT * FROM status_indexes WHERE place > ? ORDER BY place')
  const ended = db.prepare('SELECT place FROM status_indexes WHERE until < ? LIMIT 1000')

  /** What changes goes to the end: whoever asks since a place is told of it. */
  const change = (
    list: string,
    idx: number,
    by: (row: Row) => { readonly until: number; readonly named: string },
    options: { readonly urgent?: boolean } = {},
  ) =>
    db.write(() => {
      const row = find.one([list, idx])
      if (!row) return false
      const { until, named } = by(row)
      remove.run([row['place']!])
      insert.run([list, idx, until, row['record']!, named])
      return true
    }, options)

  return {
    take: ({ list, idx, until, named, ...rest }) =>
      db.write(() => {
        if (find.one([list, idx])) return false
        insert.run([list, idx, until, JSON.stringify(rest), named.join(' ')])
        return true
      }),
    keep: (list, idx, until) =>
      change(list, idx, (row) => ({ until: Math.max(until, Number(row['until'])), named: String(row['named']) })),
    name: (list, idx, jti) =>
      change(
        list,
        idx,
        (row) => {
          const named = new Set(String(row['named']).split(' ').filter(Boolean)).add(jti)
          return { until: Number(row['until']), named: [...named].join(' ') }
        },
        { urgent: true },
      ),
    since: async (place) => {
      db.assertOpen()
      const rows = since.all([place])
      return { records: rows.map(toRecord), place: Number(rows.at(-1)?.['place'] ?? place) }
    },
    prune: async (before) => {
      if (ended.all([before]).length === 0) return
      await db.write(() => {
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
