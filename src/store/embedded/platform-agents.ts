/** Agents of platforms, by their coming, in the embedded database. */
import type { PlatformAgent, PlatformAgents } from '../../attest/platform-agents.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

/** Nobody asks to the second when an agent came last: one write in an hour says it. */
const SEEN_ANEW_SECONDS = 3600

export function createPlatformAgents(deps: { db: EmbeddedDatabase }): PlatformAgents {
  const { db } = deps
  const find = db.prepare('SELECT * FROM platform_agents WHERE client_id = ?')
  const forget = db.prepare('DELETE FROM platform_agents WHERE platform = ? AND last_seen < ?')
  const count = db.prepare('SELECT count(*) AS agents FROM platform_agents WHERE platform = ?')
  const insert = db.prepare('INSERT INTO platform_agents VALUES (?, ?, ?, ?, ?)')
  const touch = db.prepare('UPDATE platform_agents SET last_seen = ? WHERE client_id = ?')
  const all = db.prepare('SELECT * FROM platform_agents ORDER BY client_id LIMIT ?')

  const isFresh = (clientId: string, now: number): boolean => {
    const row = find.one([clientId])
    return row !== undefined && now - Number(row['last_seen']) < SEEN_ANEW_SECONDS
  }

  return {
    admit: async ({ clientId, platform, sub }, now, { most, since }) => {
      if (isFresh(clientId, now)) return 'known'
      return db.write(() => {
        if (touch.run([now, clientId]) === 1) return 'known'
        forget.run([platform, since])
        if (Number(count.one([platform])?.['agents'] ?? 0) >= most) return 'full'
        insert.run([clientId, platform, sub, now, now])
        return 'new'
      })
    },
    list: async (limit) => all.all([limit]).map(toAgent),
    find: async (clientId) => {
      const row = find.one([clientId])
      return row && toAgent(row)
    },
  }
}

const toAgent = (row: Row): PlatformAgent => ({
  clientId: String(row['client_id']),
  platform: String(row['platform']),
  sub: String(row['sub']),
  firstSeen: Number(row['first_seen']),
  lastSeen: Number(row['last_seen']),
})
