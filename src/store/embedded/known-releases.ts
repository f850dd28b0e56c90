/** Every release that was registered, in the embedded database. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { KnownReleases } from '../../revoke/known-releases.ts'
import { packRelease, RELEASES_AT_ONCE, unpackRelease } from '../known-releases.ts'
import type { EmbeddedDatabase } from './database.ts'

export function createKnownReleases({ db }: { db: EmbeddedDatabase }): KnownReleases {
  const insert = db.prepare('INSERT OR IGNORE INTO releases VALUES (?, ?)')
  const page = db.prepare('SELECT * FROM releases WHERE id > ? ORDER BY id LIMIT ?')
  return {
    note: async (releases) => {
      if (releases.length === 0) return
      const packed = releases.map((release) => [release.id, packRelease(release)] as const)
      await db.write(
        () => {
          for (const row of packed) insert.run([...row])
        },
        { urgent: true },
      )
    },
    async *all() {
      for (let after = ''; ; ) {
        const rows = page.all([after, RELEASES_AT_ONCE])
        for (const row of rows) yield unpackRelease(String(row['id']), String(row['packed']))
        const last = rows.at(-1)
        if (!last || rows.length < RELEASES_AT_ONCE) return
        after = String(last['id'])
        await nextTurn()
      }
    },
  }
}
