/** Takes what has expired out of a table without an index by expiry: a cursor walks round it. */
import type { EmbeddedDatabase } from './database.ts'

/** A clock that is set back a little must not find a row forgotten. */
export const KEPT_LONGER_SECONDS = 60
/** Four times as many are looked at as are added: of what lies in the table, at most a quarter has expired. */
const ADDED_PER_PART = 256
const ROWS_PER_PART = 1024

/**
 * Answers what is called for each row that is added. An index would cost a second insert for each row, and a removal in
 * the order of expiry a page of the table for each: rows are stored by their keys, and what is walked lies together.
 */
export function createSweep(deps: {
  readonly db: EmbeddedDatabase
  readonly forgetBefore: () => number
  readonly table: 'spent' | 'key_pins'
  readonly key: 'id' | 'evidence'
}): () => void {
  const { db, forgetBefore, table, key } = deps
  const upTo = db.prepare(
    `SELECT ${key} AS up_to FROM ${table} WHERE ${key} > ? ORDER BY ${key} LIMIT 1 OFFSET ${ROWS_PER_PART - 1}`,
  )
  const part = db.prepare(`DELETE FROM ${table} WHERE ${key} > ? AND ${key} <= ? AND expires_at < ?`)
  const rest = db.prepare(`DELETE FROM ${table} WHERE ${key} > ? AND expires_at < ?`)
  let cursor = ''
  let untilNext = ADDED_PER_PART

  /** Answers where the next part begins. */
  function sweep(): string {
    const before = forgetBefore() - KEPT_LONGER_SECONDS
    const end = upTo.one([cursor])
    if (end) {
      part.run([cursor, String(end['up_to']), before])
      return String(end['up_to'])
    }
    rest.run([cursor, before])
    return ''
  }

  return () => {
    untilNext -= 1
    if (untilNext > 0) return
    untilNext = ADDED_PER_PART
    // Nobody waits for it, and nothing is lost where it fails: the next one walks the same part again.
    db.write(sweep, {
      committed: (next) => {
        cursor = next
      },
    }).catch(() => undefined)
  }
}
