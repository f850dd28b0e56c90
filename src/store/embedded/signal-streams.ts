/** Streams of security events in the embedded database. */
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { SignalStream, SignalStreams, StreamSettings } from '../../revoke/signals/streams.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

export function createSignalStreams({ db }: { db: EmbeddedDatabase }): SignalStreams {
  const find = db.prepare('SELECT * FROM signal_streams WHERE id = ?')
  const findOf = db.prepare('SELECT * FROM signal_streams WHERE receiver = ?')
  const all = db.prepare('SELECT * FROM signal_streams ORDER BY id')
  const insert = db.prepare('INSERT INTO signal_streams VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING')
  const change = db.prepare('UPDATE signal_streams SET settings = ? WHERE id = ?')
  const move = db.prepare('UPDATE signal_streams SET generation = ?, sequence = ? WHERE id = ?')
  const remove = db.prepare('DELETE FROM signal_streams WHERE id = ?')
  const empty = db.prepare('DELETE FROM signal_queue WHERE stream = ?')
  const count = db.prepare('SELECT count(*) AS waiting FROM signal_queue WHERE stream = ?')
  const put = db.prepare('INSERT INTO signal_queue (stream, jti, claims) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
  const oldest = db.prepare('SELECT jti, claims FROM signal_queue WHERE stream = ? ORDER BY position LIMIT ?')
  const done = db.prepare('DELETE FROM signal_queue WHERE stream = ? AND jti = ?')
  const one = (row: Row | undefined): SignalStream | undefined => row && toStream(row)

  return {
    create: ({ id, receiver, cursor, ...settings }) =>
      db.write(() => insert.run([id, receiver, JSON.stringify(settings), cursor.generation, cursor.sequence]) === 1),
    list: async () => all.all([]).map(toStream),
    get: async (id) => one(find.one([id])),
    ofReceiver: async (receiver) => one(findOf.one([receiver])),
    change: (id, settings) => db.write(() => change.run([JSON.stringify(settings), id]) === 1),
    remove: (id) =>
      db.write(() => {
        empty.run([id])
        return remove.run([id]) === 1
      }),
    append: (id, cursor, events, most) =>
      db.write(() => {
        const stream = one(find.one([id]))
        if (!stream) return 'gone'
        if (compareEpochs(cursor, stream.cursor) <= 0) return 'behind'
        if (events.length > 0 && Number(count.one([id])?.['waiting']) + events.length > most) return 'full'
        for (const { jti, claims } of events) put.run([id, jti, claims])
        move.run([cursor.generation, cursor.sequence, id])
        return 'added'
      }),
    add: (id, { jti, claims }) => db.write(() => void put.run([id, jti, claims])),
    pending: async (id, limit) =>
      oldest.all([id, limit]).map((row) => ({ jti: String(row['jti']), claims: String(row['claims']) })),
    acknowledge: (id, jtis) => db.write(() => jtis.reduce((removed, jti) => removed + done.run([id, jti]), 0)),
    restart: (id, cursor) =>
      db.write(() => {
        empty.run([id])
        move.run([cursor.generation, cursor.sequence, id])
      }),
  }
}

const toStream = (row: Row): SignalStream => ({
  ...(JSON.parse(String(row['settings'])) as StreamSettings),
  id: String(row['id']),
  receiver: String(row['receiver']),
  cursor: { generation: Number(row['generation']), sequence: Number(row['sequence']) },
})
