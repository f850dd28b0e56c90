/** Who signed out of everything when, in the embedded database and whole in memory: each exchange for a user asks. */
import type { SignOuts } from '../../tokens/sign-outs.ts'
import type { EmbeddedDatabase } from './database.ts'

interface Mark {
  readonly before: number
  readonly settled?: number
  readonly keepUntil: number
}

export function createSignOuts(deps: { db: EmbeddedDatabase }): SignOuts {
  const { db } = deps
  const find = db.prepare('SELECT * FROM sign_outs WHERE subject = ?')
  const put = db.prepare('INSERT OR REPLACE INTO sign_outs VALUES (?, ?, ?, ?)')
  const settle = db.prepare('UPDATE sign_outs SET settled = max(coalesce(settled, 0), ?) WHERE subject = ?')
  const old = db.prepare('SELECT subject FROM sign_outs WHERE keep_until < ? LIMIT 1000')
  const forget = db.prepare('DELETE FROM sign_outs WHERE subject = ? AND keep_until < ?')
  const read = (subject: string): Mark | undefined => {
    const row = find.one([subject])
    if (!row) return undefined
    return {
      before: Number(row['before']),
      keepUntil: Number(row['keep_until']),
      ...(row['settled'] === null ? {} : { settled: Number(row['settled']) }),
    }
  }
  const known = new Map<string, Mark>()
  for (const row of db.prepare('SELECT subject FROM sign_outs').all([])) {
    const subject = String(row['subject'])
    known.set(subject, read(subject)!)
  }
  const remember = (subject: string, mark: Mark | undefined): void => {
    if (mark) known.set(subject, mark)
    else known.delete(subject)
  }

  return {
    before: async (subject) => {
      db.assertOpen()
      return known.get(subject)?.before
    },
    mark: async (subject, before, keepUntil) => {
      await db.write(
        () => {
          const was = read(subject)
          put.run([
            subject,
            Math.max(before, was?.before ?? before),
            was?.settled ?? null,
            Math.max(keepUntil, was?.keepUntil ?? keepUntil),
          ])
          return read(subject)
        },
        { urgent: true, committed: (mark) => remember(subject, mark) },
      )
    },
    settle: async (subject, before) => {
      await db.write(
        () => {
          settle.run([before, subject])
          return read(subject)
        },
        { urgent: true, committed: (mark) => remember(subject, mark) },
      )
    },
    settled: async (subject) => {
      db.assertOpen()
      return known.get(subject)?.settled
    },
    prune: async (now) => {
      if (![...known.values()].some(({ keepUntil }) => keepUntil < now)) return
      const gone = await db.write(() => {
        const subjects = old.all([now]).map((row) => String(row['subject']))
        return subjects.filter((subject) => forget.run([subject, now]) === 1)
      })
      for (const subject of gone) known.delete(subject)
    },
  }
}
