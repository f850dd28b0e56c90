/** The journal beside the database: what was acknowledged is there after a kill, and what stood half is not. */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createJournal, type Entry } from '../../src/store/embedded/journal.ts'
import { realLogFiles } from '../../src/store/files/log-files.ts'
import { openReserve } from '../../src/store/files/reserve.ts'
import { range } from '../contract/world.ts'
import { waitingForDisk } from './files/disk.ts'

const base = mkdtempSync(join(tmpdir(), 'errand-journal-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

let folders = 0
function open(dataDir = join(base, String(folders++)), files = realLogFiles()) {
  mkdirSync(dataDir, { recursive: true })
  const carried: Entry[] = []
  let away = false
  const db = {
    write: async <T>(step: () => T, options: { committed?: (value: T) => void } = {}): Promise<T> => {
      if (away) throw new Error('the database is away')
      const value = step()
      options.committed?.(value)
      return value
    },
  }
  const journal = createJournal({ dataDir, db, reserve: openReserve(dataDir), files })
  journal.carries('spent', { carry: (entry) => void carried.push(entry) })
  const setAway = (value: boolean) => {
    away = value
  }
  return { dataDir, journal, carried, setAway }
}
const names = (dataDir: string) => readdirSync(dataDir).filter((name) => name.startsWith('errand.journal'))

describe('the journal', () => {
  it('carries everything over when it is closed, the last word about each thing, and leaves no file', async () => {
    const { journal, carried, dataDir } = open()
    await Promise.all([journal.append(['spent', 'a', 1]), journal.append(['spent', 'b', 1])])
    await journal.append(['spent', 'a', 2])
    expect(names(dataDir)).toHaveLength(1)
    await journal.close()
    expect([...carried].sort()).toEqual([
      ['spent', 'a', 2],
      ['spent', 'b', 1],
    ])
    expect(names(dataDir)).toEqual([])
    await expect(journal.append(['spent', 'c', 1])).rejects.toMatchObject({ reason: 'store_unavailable' })
  })

  it('carries over in parts that lie together in the database, whatever order they came in', async () => {
    const { journal, carried } = open()
    const names = range(1000).map((n) => String(((n * 7919) % 1000) + 1000))
    await Promise.all(names.map((name) => journal.append(['spent', name, 1])))
    await journal.close()
    expect(carried.map(([, name]) => name).sort()).toEqual([...names].sort())
    for (const part of range(10)) {
      const places = carried.slice(part * 100, (part + 1) * 100).map(([, name]) => Number(name))
      expect(Math.max(...places) - Math.min(...places)).toBe(99)
    }
  })

  it('P1 is read by the next start after a kill, up to what stands half at its end', async () => {
    const killed = open()
    await killed.journal.append(['spent', 'a', 1])
    await killed.journal.append(['spent', 'é\n', 2])
    const [name] = names(killed.dataDir)
    const path = join(killed.dataDir, name!)
    const whole = readFileSync(path)
    appendFileSync(path, '1a2b3c ["spent","c"')
    const next = open(killed.dataDir)
    await next.journal.recover()
    expect(next.carried).toEqual([
      ['spent', 'a', 1],
      ['spent', 'é\n', 2],
    ])
    expect(names(killed.dataDir)).toEqual([])

    // Cut off anywhere, it holds a beginning of what was written.
    for (let length = 0; length <= whole.length; length += 7) {
      writeFileSync(path, whole.subarray(0, length))
      const again = open(killed.dataDir)
      await again.journal.recover()
      expect(next.carried.slice(0, again.carried.length)).toEqual(again.carried)
    }
  })

  it.runIf(process.platform === 'linux')('P1 has each write wait for the disk', async () => {
    const { dataDir, journal } = open()
    await journal.append(['spent', 'a', 1])
    expect(await waitingForDisk(join(dataDir, names(dataDir)[0]!))).toEqual([true])
    await journal.close()
  })

  it('P6 is not read by a version that does not know all that stands in it, and is left as it is', async () => {
    const newer = open()
    newer.journal.carries('of_tomorrow', { carry: () => undefined })
    await newer.journal.append(['spent', 'a', 1])
    await newer.journal.append(['of_tomorrow', 'b', 2])
    const [name] = names(newer.dataDir)
    const before = readFileSync(join(newer.dataDir, name!))
    // A later file that is known as a whole is not carried over alone.
    const later = join(newer.dataDir, 'errand.journal.9')
    writeFileSync(later, before.subarray(0, before.indexOf('\n') + 1))
    await expect(open(newer.dataDir).journal.recover()).rejects.toMatchObject({ code: 'format_newer' })
    expect(readFileSync(join(newer.dataDir, name!))).toEqual(before)
    expect(names(newer.dataDir)).toHaveLength(2)
    unlinkSync(later)
    const again = open(newer.dataDir)
    again.journal.carries('of_tomorrow', { carry: (entry) => void again.carried.push(entry) })
    await again.journal.recover()
    expect(again.carried).toEqual([
      ['spent', 'a', 1],
      ['of_tomorrow', 'b', 2],
    ])
  })

  it('FI-5 answers that it cannot write, goes on in another file, and keeps what it acknowledged', async () => {
    const real = realLogFiles()
    let full = false
    const { journal, carried } = open(undefined, {
      ...real,
      write: (fd, bytes, position) =>
        full ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : real.write(fd, bytes, position),
    })
    await journal.append(['spent', 'a', 1])
    full = true
    await expect(journal.append(['spent', 'b', 1], 'replay_guard_unavailable')).rejects.toMatchObject({
      reason: 'replay_guard_unavailable',
    })
    full = false
    await journal.append(['spent', 'c', 1])
    await journal.close()
    expect(carried.map(([, id]) => id)).toEqual(['a', 'c'])
  })

  it('FI-5 after a kill what was acknowledged comes before what nobody was told of, in whichever file it stands', async () => {
    const real = realLogFiles()
    let failing = false
    const killed = open(undefined, {
      ...real,
      // Written, and perhaps there after a power cut; nobody can say.
      flush: (fd) =>
        failing ? Promise.reject(Object.assign(new Error('sync failed'), { code: 'EIO' })) : real.flush(fd),
    })
    await killed.journal.append(['spent', 'earlier', 1])
    // The database is away, so that the files stay.
    killed.setAway(true)
    failing = true
    await expect(killed.journal.append(['spent', 'a', 1])).rejects.toMatchObject({ reason: 'store_unavailable' })
    failing = false
    await killed.journal.append(['spent', 'a', 2])
    expect(names(killed.dataDir)).toHaveLength(2)
    const next = open(killed.dataDir)
    await next.journal.recover()
    const said = next.carried.filter(([, about]) => about === 'a')
    expect(said[0]).toEqual(['spent', 'a', 2])
    expect(next.carried).toContainEqual(['spent', 'earlier', 1])
    // Lets go of the files.
    killed.setAway(false)
    await killed.journal.close()
  })

  it('keeps its file where the database is away when it is closed', async () => {
    const { journal, carried, dataDir, setAway } = open()
    await journal.append(['spent', 'a', 1])
    setAway(true)
    await journal.close()
    expect(carried).toEqual([])
    const next = open(dataDir)
    await next.journal.recover()
    expect(next.carried).toEqual([['spent', 'a', 1]])
  })
})
