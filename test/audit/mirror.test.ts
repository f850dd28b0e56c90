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
    onTaken: (): void => undefined,
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
          w.onTaken()
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

  describe('where nobody acknowledges', () => {
    function unsure(options: { readonly refuses?: boolean; readonly maxBehind?: number } = {}) {
      const { w, open } = world(options)
      const peer = {
        lose: (): void => undefined,
        gone: false,
        confirms: 0,
      }
      const sink: Partial<MirrorSink> = {
        confirm: async () => {
          if (peer.gone) throw new Error('nobody confirmed what was sent')
          peer.confirms += 1
        },
        onLost: (listener) => {
          peer.lose = listener
        },
      }
      return { w, peer, open: () => open(sink) }
    }

    it('counts what was sent as behind and keeps no position until it is confirmed, some seconds later', async () => {
      const { w, peer, open } = unsure()
      const mirror = await open()
      w.log.size = 3
      await mirror.run()
      w.clock = 4_999
      await mirror.run()
      expect([w.seen, w.kept, peer.confirms, mirror.state().behind]).toEqual([upTo(3), undefined, 0, 3])
      w.clock = 5_000
      await mirror.run()
      expect([w.seen, w.kept, peer.confirms, mirror.state().behind]).toEqual([upTo(3), 3, 1, 0])
      w.clock = 60_000
      await mirror.run()
      expect(peer.confirms).toBe(1)
    })

    it('has it confirmed sooner where much is unconfirmed for its bound', async () => {
      const { w, peer, open } = unsure({ maxBehind: 10 })
      const mirror = await open()
      w.log.size = 5
      await mirror.run()
      expect([peer.confirms, mirror.state().behind]).toEqual([1, 0])
    })

    it('sends again everything unconfirmed, however long ago it was sent, where a peer is gone, and issues nothing past its bound', async () => {
      const { w, peer, open } = unsure({ refuses: true, maxBehind: 10 })
      const mirror = await open()
      await mirror.run()
      peer.gone = true
      for (w.log.size = 1; w.log.size <= 11; w.log.size += 1) {
        await mirror.run()
        w.clock += 60_000
      }
      await mirror.run()
      expect(mirror.state()).toMatchObject({ holds: true, problem: 'nobody confirmed what was sent' })
      expect(w.told).toHaveLength(1)
      expect(w.kept).toBeUndefined()
      peer.gone = false
      w.seen.length = 0
      w.clock += 60_000
      await mirror.run()
      expect(w.seen).toEqual(upTo(w.log.size))
      expect(mirror.state()).toEqual({ name: 'siem', behind: 0, overdue: false, holds: false })
    })

    it('sends again what was lost while the next batch was being read, and that first', async () => {
      const { w, peer, open } = unsure({ maxBehind: 1_000 })
      const mirror = await open()
      w.log.size = 7
      await mirror.run()
      const { payloadsFrom } = w.log
      w.log.payloadsFrom = async (index) => {
        w.log.payloadsFrom = payloadsFrom
        const payloads = await payloadsFrom(index)
        peer.lose()
        return payloads
      }
      w.log.size = 14
      await mirror.run()
      w.clock += 500
      await mirror.run()
      expect(w.seen).toEqual([...upTo(7), ...upTo(14)])
      w.clock += 5_000
      await mirror.run()
      expect(mirror.state()).toEqual({ name: 'siem', behind: 0, overdue: false, holds: false })
    })

    it('or while that batch was being sent, which arrived', async () => {
      const { w, peer, open } = unsure({ maxBehind: 1_000 })
      const mirror = await open()
      w.log.size = 7
      await mirror.run()
      w.log.size = 14
      w.onTaken = () => {
        w.onTaken = () => undefined
        peer.lose()
      }
      await mirror.run()
      w.clock += 500
      await mirror.run()
      expect(w.seen).toEqual([...upTo(14), ...upTo(14)])
    })

    it('keeps on closing the position that is confirmed, where the end of the connection is not', async () => {
      const { w, open } = unsure()
      const mirror = await open()
      w.log.size = 5
      await mirror.run()
      w.log.size = 7
      await mirror.run()
      w.closesWell = false
      await mirror.close()
      expect(w.kept).toBe(5)
    })
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
