/** Copies of the log: nothing is left out whatever fails, and what must not fall behind stops what it must. */
import { describe, expect, it } from 'vitest'
import { type MirroredRecord, type MirrorSink, type MirrorState, openMirror } from '../../src/audit/mirror.ts'

const record = (i: number) => Buffer.from(`{"i":${i},"log":"0a1b2c3d","t":1800000000000,"type":"task.opened","v":1}`)

function world({ refuses = false, maxBehind = 10 } = {}) {
  const log = {
    size: 0,
    payloadsFrom: async (index: number) =>
      Array.from({ length: Math.min(7, log.size - index) }, (_, n) => record(index + n)),
  }
  const seen: number[] = []
  const w = {
    log,
    seen,
    away: undefined as Error | undefined,
    /** How many of a batch still arrive when it fails. */
    partly: 0,
    clock: 0,
    kept: undefined as number | undefined,
    fullDisk: false,
    told: [] as MirrorState[],
    closesWell: true,
  }
  const take = (batch: readonly MirroredRecord[]) => seen.push(...batch.map(({ index }) => index))
  const open = (more: Partial<MirrorSink> = {}) =>
    openMirror({
      name: 'siem',
      maxBehind,
      refuses,
      log,
      sink: {
        send: async (batch) => {
          if (w.away) {
            take(batch.slice(0, w.partly))
            throw w.away
          }
          take(batch)
        },
        close: async () => w.closesWell,
        ...more,
      },
      position: {
        read: async () => w.kept,
        keep: async (next) => {
          if (w.fullDisk) throw new Error('ENOSPC')
          w.kept = next
        },
      },
      monotonic: () => w.clock,
      onChange: (state) => w.told.push(state),
    })
  return { w, open }
}
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i)

describe('a mirror of the log', () => {
  it('takes every record once and in order, and goes on after a restart where it was', async () => {
    const { w, open } = world()
    const mirror = await open()
    for (const size of [3, 20, 21]) {
      w.log.size = size
      w.clock += 1_000
      await mirror.run()
      expect(w.seen).toEqual(upTo(size))
      expect(mirror.state()).toEqual({ name: 'siem', behind: 0, overdue: false, holds: false })
    }
    await mirror.close()
    expect(w.kept).toBe(21)
    w.log.size = 25
    const next = await open()
    await next.run()
    expect(w.seen).toEqual(upTo(25))
    expect(w.told).toEqual([])
  })

  it('leaves out nothing that failed, waits longer each time, and tells of it once', async () => {
    const { w, open } = world()
    const mirror = await open()
    w.log.size = 5
    w.away = Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:6514'), { code: 'ECONNREFUSED' })
    w.partly = 2
    const attempts = []
    for (; w.clock < 60_000; w.clock += 250) {
      const before = w.seen.length
      await mirror.run()
      if (w.seen.length > before) attempts.push(w.clock)
    }
    expect(attempts.slice(0, 6)).toEqual([0, 500, 1_500, 3_500, 8_500, 18_500])
    expect(mirror.state()).toMatchObject({ behind: 5, problem: 'ECONNREFUSED' })
    w.seen.length = 0
    w.away = undefined
    w.clock += 30_000
    await mirror.run()
    expect(w.seen).toEqual(upTo(5))
    expect(w.told).toMatchObject([{ problem: 'ECONNREFUSED' }, { behind: 0 }])
    expect(w.told[1]).not.toHaveProperty('problem')
  })

  it('after a crash sends again what came after the position that was kept, and no record is missing', async () => {
    const { w, open } = world()
    const mirror = await open()
    w.log.size = 10
    await mirror.run()
    w.log.size = 15
    w.clock += 10
    await mirror.run()
    expect(w.kept).toBe(10)
    await (await open()).run()
    expect(w.seen).toEqual([...upTo(15), 10, 11, 12, 13, 14])
  })

  it('goes on where its position cannot be kept, and where what it keeps is no position', async () => {
    const { w, open } = world()
    w.kept = 1_000
    w.fullDisk = true
    w.log.size = 8
    const mirror = await open()
    expect(mirror.state().behind).toBe(0)
    w.log.size = 12
    await mirror.run()
    expect(w.seen).toEqual([8, 9, 10, 11])
    expect(mirror.state()).not.toHaveProperty('problem')
  })

  it('sends again what a connection may have lost, and keeps no position before that has settled', async () => {
    const { w, open } = world()
    let lose: () => void = () => undefined
    const settling = {
      settleMs: 5_000,
      onLost: (listener: () => void) => {
        lose = listener
      },
    }
    const mirror = await open(settling)
    w.log.size = 3
    await mirror.run()
    w.clock = 4_000
    w.log.size = 6
    await mirror.run()
    expect(w.kept).toBeUndefined()
    w.clock = 6_000
    await mirror.run()
    expect(w.kept).toBe(3)
    lose()
    await mirror.run()
    expect(w.seen).toEqual([...upTo(6), 3, 4, 5])
    w.closesWell = false
    await mirror.close()
    expect(w.kept).toBe(3)
  })

  it.each([
    ['continue', false],
    ['refuse', true],
  ])(
    'that says %s: past its bound it is overdue, and holds what is issued only where it says so',
    async (_, refuses) => {
      const { w, open } = world({ refuses })
      const mirror = await open()
      await mirror.run()
      w.away = new Error('it answered 503')
      w.log.size = 10
      await mirror.run()
      expect(mirror.state()).toMatchObject({ overdue: false, holds: false, problem: 'it answered 503' })
      w.log.size = 11
      expect(mirror.state()).toMatchObject({ behind: 11, overdue: true, holds: refuses })
      w.away = undefined
      w.clock += 60_000
      await mirror.run()
      expect(mirror.state()).toMatchObject({ behind: 0, overdue: false, holds: false })
    },
  )

  it('that is new has the whole log before it, which holds nothing; one that is away holds it from the first', async () => {
    const { w, open } = world({ refuses: true })
    w.log.size = 100
    const mirror = await open()
    expect(mirror.state()).toMatchObject({ behind: 100, overdue: true, holds: false })
    await mirror.run()
    expect(w.told).toEqual([])
    w.away = new Error('away')
    w.log.size = 300
    await mirror.run()
    expect(mirror.state()).toMatchObject({ holds: true })
  })
})
