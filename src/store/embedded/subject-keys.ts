/** The sealed key of each subject in the embedded database; a row without one is a tombstone. */
import type { SubjectKeys } from '../../audit/subject-keys.ts'
import type { EmbeddedDatabase } from './database.ts'

export function createSubjectKeys(deps: { db: EmbeddedDatabase }): SubjectKeys {
  const { db } = deps
  const select = db.prepare('SELECT sealed FROM subject_keys WHERE ref = ?')
  const insert = db.prepare('INSERT INTO subject_keys VALUES (?, ?) ON CONFLICT DO NOTHING')
  const bury = db.prepare('INSERT INTO subject_keys VALUES (?, NULL) ON CONFLICT (ref) DO UPDATE SET sealed = NULL')
  const sealedOf = (value: string | number | null | undefined): string | undefined =>
    typeof value === 'string' ? value : undefined
  return {
    obtain: async (ref, make) => {
      const known = select.one([ref])
      if (known) return sealedOf(known['sealed'])
      return db.write(() => {
        if (!select.one([ref])) insert.run([ref, make()])
        return sealedOf(select.one([ref])?.['sealed'])
      })
    },
    find: async (ref) => sealedOf(select.one([ref])?.['sealed']),
    erase: (ref) =>
      db.write(
        () => {
          const had = sealedOf(select.one([ref])?.['sealed']) !== undefined
          bury.run([ref])
          return had
        },
        // The old page would stay readable in the write-ahead log.
        { committed: () => db.scrub() },
      ),
  }
}
