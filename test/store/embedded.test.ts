/** The embedded stores keep every promise, and refuse a folder they cannot trust. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Libsql from 'libsql'
import { afterAll, describe, expect, it } from 'vitest'
import { SEGMENT_HEADER_BYTES } from '../../src/audit/frame.ts'
import { openDatabase } from '../../src/store/embedded/database.ts'
import { openReserve } from '../../src/store/files/reserve.ts'
import { openStores } from '../../src/store/open.ts'
import { describeStores } from '../contract/all.ts'
import { fresh, range, START, type World } from '../contract/world.ts'
import { FORMAT_1 } from './format-1.ts'

const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

const openAt = (dataDir: string, clock = { now: START }) =>
  openStores({ store: { kind: 'embedded' }, dataDir, now: () => clock.now, monotonic: () => clock.now * 1000 })

async function openWorld(dataDir = join(base, fresh('data')), clock = { now: START }): Promise<World> {
  const stores = await openAt(dataDir, clock)
  return {
    stores,
    other: stores,
    clock,
    close: stores.close,
    reopen: async () => {
      await stores.close()
      return openWorld(dataDir, clock)
    },
  }
}

/** Tables and indexes as they stand in the file, and its format. */
function schemaIn(dataDir: string): unknown[] {
  const db = new Libsql(join(dataDir, 'errand.db'))
  try {
    return [
      ...db.prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name').all([]),
      ...db.prepare("SELECT value FROM meta WHERE name = 'format'").all([]),
    ]
  } finally {
    db.close()
  }
}

describeStores('embedded', () => openWorld())

describe('the data folder', () => {
  it('P3 is refused to a second opener as store_locked, and free again after closing', async () => {
    const dataDir = join(base, fresh('data'))
    const first = await openAt(dataDir)
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'store_locked' })
    // The refused one has not taken the lock of the first with it.
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'store_locked' })
    await first.close()
    await (await openAt(dataDir)).close()
  })

  it('can be read by its owner alone', async () => {
    const dataDir = join(base, fresh('data'))
    const stores = await openAt(dataDir)
    await stores.replayGuard.spend('x', START)
    expect(statSync(dataDir).mode & 0o777).toBe(0o700)
    for (const name of readdirSync(dataDir))
      expect([name, statSync(join(dataDir, name)).mode & 0o077]).toEqual([name, 0])
    await stores.close()
  })

  it('P6 is refused as format_newer when a newer version wrote it, and left as it was', async () => {
    const dataDir = join(base, fresh('data'))
    await (await openAt(dataDir)).close()
    const db = new Libsql(join(dataDir, 'errand.db'))
    db.exec("UPDATE meta SET value = 99 WHERE name = 'format'; PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    const before = readFileSync(join(dataDir, 'errand.db'))
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'format_newer' })
    expect(readFileSync(join(dataDir, 'errand.db')).equals(before)).toBe(true)
  })

  it('P6 takes over what the first format holds, with what has come since', async () => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(dataDir)
    const db = new Libsql(join(dataDir, 'errand.db'))
    db.exec(`${FORMAT_1} INSERT INTO key_pins VALUES ('evidence', 'first', ${START + 600})`)
    db.close()
    const stores = await openAt(dataDir)
    expect(await stores.keyPins.pin('evidence', 'second', START + 600)).toBe('first')
    await stores.joining.offer('digest', { clientId: 'research', expiresAt: START + 60, by: 'admin' })
    expect(await stores.joining.find('digest')).toMatchObject({ clientId: 'research' })
    await stores.close()
    await (await openAt(dataDir)).close()

    const begun = join(base, fresh('data'))
    await (await openAt(begun)).close()
    expect(schemaIn(dataDir)).toEqual(schemaIn(begun))
  })

  it.each([
    ['no database', undefined],
    ['an empty database', ''],
  ])('says what to do where there is an audit log but %s', async (_, content) => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(join(dataDir, 'audit', '0a1b2c3d'), { recursive: true })
    writeFileSync(join(dataDir, 'audit', '0a1b2c3d', '0.log'), 'record')
    if (content !== undefined) writeFileSync(join(dataDir, 'errand.db'), content)
    await expect(openAt(dataDir)).rejects.toMatchObject({
      code: 'data_damaged',
      message: expect.stringContaining('restore errand.db from a backup, or move the folder away'),
    })
  })

  it('says what to do where the database is none, or not one of ours', async () => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(dataDir)
    writeFileSync(join(dataDir, 'errand.db'), 'not a database at all, but long enough to look like one. '.repeat(50))
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'data_damaged' })
    rmSync(join(dataDir, 'errand.db'))
    const foreign = new Libsql(join(dataDir, 'errand.db'))
    foreign.exec('CREATE TABLE customers (id INTEGER)')
    foreign.close()
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'data_damaged' })
  })

  describe('made of halves', () => {
    const log = '0a1b2c3d'
    /** As a service leaves it: a state, and an audit log with a segment of so many bytes. */
    async function folder({ bytes = 400, remember = true, begun = true } = {}): Promise<string> {
      const dataDir = join(base, fresh('data'))
      const stores = await openAt(dataDir)
      mkdirSync(join(dataDir, 'audit', log), { recursive: true })
      writeFileSync(join(dataDir, 'audit', 'log-id'), `${log}\n`)
      if (begun) writeFileSync(join(dataDir, 'audit', log, '0000000000000000.seg'), Buffer.alloc(bytes, 1))
      if (remember) await stores.rememberAuditLog(log)
      await stores.close()
      return dataDir
    }
    const refusal = (message: RegExp) => ({
      name: 'StoreFault',
      code: 'data_damaged',
      message: expect.stringMatching(message) as string,
    })

    it('is opened again with the log it belongs to, and by a start that stopped before the first record', async () => {
      await (await openAt(await folder())).close()
      await (await openAt(await folder({ bytes: SEGMENT_HEADER_BYTES }))).close()
      await (await openAt(await folder({ bytes: SEGMENT_HEADER_BYTES, remember: false }))).close()
    })

    it('refuses a state without rows beside a log with records: it was copied without its write-ahead log', async () => {
      const dataDir = await folder()
      rmSync(join(dataDir, 'errand.db'))
      const empty = new Libsql(join(dataDir, 'errand.db'))
      empty.pragma('user_version = 1') // a page, and no table
      empty.close()
      await expect(openAt(dataDir)).rejects.toMatchObject(refusal(/errand\.db-wal and audit\/ from one backup/))
      await expect(openAt(await folder({ remember: false }))).rejects.toMatchObject(refusal(/the bans are missing/))
    })

    it('refuses a state whose log is gone, emptied, or another', async () => {
      const gone = await folder()
      rmSync(join(gone, 'audit'), { recursive: true })
      await expect(openAt(gone)).rejects.toMatchObject(refusal(/audit is missing or empty.*0a1b2c3d.*one backup/))
      await expect(openAt(await folder({ begun: false }))).rejects.toMatchObject(refusal(/no segment/))
      const other = await folder()
      writeFileSync(join(other, 'audit', 'log-id'), 'ffffffff\n')
      await expect(openAt(other)).rejects.toMatchObject(refusal(/holds the log ffffffff/))
      // Refused, it has let go of the folder.
      writeFileSync(join(other, 'audit', 'log-id'), `${log}\n`)
      await (await openAt(other)).close()
    })
  })

  it('is begun again where the first start stopped before the schema was in it', async () => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(dataDir)
    writeFileSync(join(dataDir, 'errand.db'), '')
    const stores = await openAt(dataDir)
    expect(await stores.healthy()).toBe(true)
    await stores.close()
  })

  it('holds nothing of an erased subject key', async () => {
    const dataDir = join(base, fresh('data'))
    const stores = await openAt(dataDir)
    const secret = 'sealed-canary-4f1c9a7e'
    await stores.subjectKeys.obtain('ref', () => secret)
    await stores.subjectKeys.erase('ref')
    for (const name of readdirSync(dataDir)) {
      expect([name, readFileSync(join(dataDir, name)).includes(secret)]).toEqual([name, false])
    }
    await stores.close()
  })
})

describe('group commit', () => {
  it('undoes the writes of the one step that threw, and keeps those of its neighbours', async () => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(dataDir)
    const db = openDatabase(dataDir, openReserve(dataDir))
    const insert = db.prepare('INSERT INTO spent VALUES (?, ?)')
    const committed: string[] = []
    const steps = range(9).map((n) =>
      db.write(
        () => {
          insert.run([`id-${n}`, 1])
          if (n === 4) throw new Error('a bug in the middle')
          return n
        },
        { committed: (value) => committed.push(`id-${value}`) },
      ),
    )
    const results = await Promise.allSettled(steps)
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual(range(9).map((n) => n !== 4))
    const rows = db.prepare('SELECT id FROM spent ORDER BY id').all([])
    expect(rows.map((row) => row['id'])).toEqual(committed)
    expect(committed).toHaveLength(8)
    await db.close()
  })

  it('reads every row of a long answer', async () => {
    const dataDir = join(base, fresh('data'))
    mkdirSync(dataDir)
    const db = openDatabase(dataDir, openReserve(dataDir))
    const insert = db.prepare('INSERT INTO spent VALUES (?, ?)')
    // libsql reads a hundred rows at a time.
    for (const total of [99, 100, 101, 200, 350]) {
      await db.write(() => {
        db.prepare('DELETE FROM spent').run([])
        for (const n of range(total)) insert.run([`id-${n}`, n])
      })
      expect(db.prepare('SELECT * FROM spent').all([])).toHaveLength(total)
    }
    await db.close()
  })

  it('answers a closed store as away, not with a bug', async () => {
    const stores = await openAt(join(base, fresh('data')))
    await stores.close()
    await expect(stores.replayGuard.spend('x', START)).rejects.toMatchObject({ reason: 'replay_guard_unavailable' })
    expect(await stores.healthy()).toBe(false)
  })

  it('drops spent ids after their time, a part at a time', async () => {
    const { stores, clock, close } = await openWorld(join(base, 'sweep'))
    await Promise.all(range(3000).map((n) => stores.replayGuard.spend(`old-${n}`, START + 10)))
    clock.now = START + 1000
    for (const tick of range(30)) {
      await Promise.all(range(100).map((n) => stores.replayGuard.spend(`new-${tick}-${n}`, START + 2000)))
    }
    await close()
    const db = openDatabase(join(base, 'sweep'), openReserve(join(base, 'sweep')))
    const left = db.prepare("SELECT count(*) AS n FROM spent WHERE id LIKE 'old-%'").one([])
    expect(left?.['n']).toBe(0)
    expect(db.prepare("SELECT count(*) AS n FROM spent WHERE id LIKE 'new-%'").one([])?.['n']).toBe(3000)
    await db.close()
  })

  it('drops pins after their time, a part at a time, and lets those that live be for whom they are', async () => {
    const dataDir = join(base, fresh('data'))
    const { stores, clock, reopen } = await openWorld(dataDir)
    await Promise.all(range(3000).map((n) => stores.keyPins.pin(`old-${n}`, 'first', START + 10)))
    // A restart empties what is remembered in memory, and carries over what was journaled.
    const world = await reopen()
    clock.now = START + 1000
    for (const tick of range(30)) {
      const ids = range(100).map((n) => `${n % 2 ? 'a' : 'z'}-${tick}-${n}`)
      await Promise.all(ids.map((id) => world.stores.keyPins.pin(id, 'first', START + 941 + tick)))
    }
    await world.close()
    const db = openDatabase(dataDir, openReserve(dataDir))
    const count = (like: string) =>
      db.prepare('SELECT count(*) AS n FROM key_pins WHERE evidence LIKE ?').one([like])?.['n']
    expect([count('old-%'), count('a-%'), count('z-%')]).toEqual([0, 1500, 1500])
    await db.close()
    const again = await openAt(dataDir, clock)
    expect(await again.keyPins.pin('a-0-1', 'second', START + 2000)).toBe('first')
    expect(await again.keyPins.pin('old-0', 'second', START + 2000)).toBe('second')
    await again.close()
  })
})
