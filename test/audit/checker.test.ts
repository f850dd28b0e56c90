import { rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkAuditLog } from '../../src/audit/checker.ts'
import { segmentHeader } from '../../src/audit/frame.ts'
import { newJti } from '../../src/audit/ids.ts'
import { segmentName } from '../../src/audit/layout.ts'
import { assemble, draftRecord } from '../../src/audit/record.ts'
import { framesOf, frameOf, LOG, withLog } from './log-file.ts'

const ROUNDS = 1000
const jtis = Array.from({ length: 200 }, () => newJti(LOG, 1_800_000_000_000))
const text = (i: number, more: { jti?: string; t?: number; log?: string } = {}) =>
  assemble(
    draftRecord({ type: 'token.issuing', jti: more.jti ?? jtis[i]!, task: `task_${i}` }, more.log ?? LOG, undefined),
    i,
    more.t ?? 1_800_000_000_000 + i,
  )
const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => text(from + n))
const one = (frames: readonly Buffer[], first = 0) => [{ first, frames }]
const check = (folder: string) => checkAuditLog({ folder })

/** A small generator with a seed, so that a failure can be run again. */
function random(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

describe('checking a log', () => {
  it('finds nothing wrong with one that is whole', async () => {
    const segments = [
      { first: 0, frames: framesOf(texts(0, 50)) },
      { first: 50, frames: framesOf(texts(50, 90)) },
    ]
    expect(await withLog(segments, check)).toMatchObject({ ok: true, records: 90, segments: 2, logId: LOG, damage: [] })
  })

  it('FI-14 Q1 names the index of every random single edit', async () => {
    const seed = Number(process.hrtime.bigint() % 1_000_000n)
    const pick = random(seed)
    const frames = framesOf(texts(0, 100))
    const starts = frames.map((_, n) => 32 + Buffer.concat(frames.slice(0, n)).length)
    await withLog(one(frames), async (folder, [file]) => {
      const whole = Buffer.concat([segmentHeader(LOG, 0), ...frames])
      const header = whole.subarray(0, 32)
      const at = () => pick(frames.length - 1)
      const place = () => 32 + pick(whole.length - 32)
      /** The frame that stands where the bytes first differ. */
      const differing = (bytes: Buffer) => {
        const first = bytes.findIndex((byte, n) => byte !== whole[n])
        return starts.findLastIndex((start) => start <= (first < 0 ? bytes.length : first))
      }
      const edits: Record<string, () => { bytes: Buffer; index: number }> = {
        'a bit flipped': () => {
          const bytes = Buffer.from(whole)
          bytes[place()]! ^= 1 << pick(8)
          return { bytes, index: differing(bytes) }
        },
        'a byte changed': () => {
          const bytes = Buffer.from(whole)
          bytes[place()]! ^= 1 + pick(255)
          return { bytes, index: differing(bytes) }
        },
        'a record deleted': () => {
          const index = at()
          return { bytes: Buffer.concat([header, ...frames.toSpliced(index, 1)]), index }
        },
        'two records swapped': () => {
          const index = at()
          const other = index + 1 + pick(frames.length - 1 - index)
          const swapped = frames.with(index, frames[other]!).with(other, frames[index]!)
          return { bytes: Buffer.concat([header, ...swapped]), index }
        },
        'an old record inserted': () => {
          const index = at() + 1
          return { bytes: Buffer.concat([header, ...frames.toSpliced(index, 0, frames[pick(index)]!)]), index }
        },
        'a forged record inserted': () => {
          const index = at() + 1
          const forged = frameOf(text(index - 1, { jti: newJti(LOG, 1) }))
          return { bytes: Buffer.concat([header, ...frames.toSpliced(index, 0, forged)]), index }
        },
        'bytes cut out': () => {
          const from = place()
          const bytes = Buffer.concat([whole.subarray(0, from), whole.subarray(from + 1 + pick(40))])
          return { bytes, index: differing(bytes) }
        },
        'bytes added': () => {
          const from = place()
          const added = Buffer.alloc(1 + pick(40), pick(256))
          const bytes = Buffer.concat([whole.subarray(0, from), added, whole.subarray(from)])
          return { bytes, index: differing(bytes) }
        },
      }
      const kinds = Object.keys(edits)
      for (let round = 0; round < ROUNDS; round += 1) {
        const kind = kinds[pick(kinds.length)]!
        const { bytes, index } = edits[kind]!()
        await writeFile(file!, bytes)
        const { ok, damage } = await check(folder)
        expect({ seed, round, kind, ok, index: damage[0]?.index }).toEqual({ seed, round, kind, ok: false, index })
      }
    })
  })

  it('Q1 goes on after damage, and names each one', async () => {
    const frames = framesOf(texts(0, 60))
    frames[10]![30]! ^= 1
    frames[40]![5]! ^= 1
    const report = await withLog(one(frames.toSpliced(20, 2)), check)
    expect(report.damage.map(({ index, kind }) => [index, kind])).toEqual([
      [10, 'bad_crc'],
      [20, 'missing'],
      [40, 'bad_crc'],
    ])
    expect(report.records).toBe(56)
  })

  it.each<[string, string, string]>([
    ['whitespace', '{"i":1, "t":1}', 'not_canonical'],
    ['no record at all', '[1,2,3]', 'not_canonical'],
    ['another order', '{"v":1,"type":"x","t":1,"i":1}', 'not_canonical'],
    ['a repeated member', text(1).replace('"task":', '"task":"x","task":'), 'not_canonical'],
    ['another spelling of one character', text(1).replace('task_1', '\\u0074ask_1'), 'not_canonical'],
    ['another log', text(1, { log: '99999999' }), 'wrong_log'],
    ['a jti issued before', text(1, { jti: jtis[0]! }), 'duplicate_jti'],
    ['a time that went back unrecorded', text(1, { t: 1_700_000_000_000 }), 'clock_unrecorded'],
  ])('names an intact frame that holds %s', async (_, content, kind) => {
    const { damage } = await withLog(one(framesOf([text(0), content])), check)
    expect(damage).toMatchObject([{ index: 1, kind }])
  })

  it('names bytes that are not UTF-8', async () => {
    const bad = Buffer.from(frameOf(text(1)))
    const content = bad.subarray(12)
    content[content.indexOf('task_1')] = 0xff
    const { crc32 } = await import('node:zlib')
    bad.writeUInt32BE(crc32(bad.subarray(4)), 0)
    expect((await withLog(one([frameOf(text(0)), bad]), check)).damage).toMatchObject([
      { index: 1, kind: 'not_canonical' },
    ])
  })

  it('accepts a time that went back where the log says so', async () => {
    const back = assemble(draftRecord({ type: 'clock_regressed' }, LOG, undefined), 1, 1_700_000_000_000)
    const report = await withLog(one(framesOf([text(0), back, text(2, { t: 1_700_000_000_001 })])), check)
    expect(report).toMatchObject({ ok: true, regressions: 1 })
  })

  it('names segments that are missing, copied, renamed, of another log, or no segments', async () => {
    const segments = [0, 20, 40].map((first) => ({ first, frames: framesOf(texts(first, first + 20)) }))
    const harmed = (harm: (folder: string, files: readonly string[]) => Promise<unknown>) =>
      withLog(segments, async (folder, files) => {
        await harm(folder, files)
        return (await check(folder)).damage.map(({ index, kind }) => [index, kind])
      })
    expect(await harmed((_, files) => unlink(files[1]!))).toEqual([[20, 'missing_segment']])
    expect(await harmed((_, files) => unlink(files[0]!))).toEqual([[0, 'missing_segment']])
    expect(await harmed((folder, files) => rename(files[1]!, join(folder, segmentName(60))))).toEqual([
      [20, 'missing_segment'],
      [20, 'duplicate_segment'],
    ])
    expect(await harmed((folder) => writeFile(join(folder, 'copy of 0.seg'), ''))).toEqual([[60, 'stray_file']])
    expect(await harmed((_, files) => writeFile(files[2]!, segmentHeader('99999999', 40)))).toEqual([[40, 'wrong_log']])
    expect(await harmed((_, files) => writeFile(files[2]!, ''))).toEqual([[40, 'bad_segment_header']])
    expect(await withLog([], check)).toMatchObject({ ok: false, damage: [{ kind: 'missing_segment', index: 0 }] })
  })

  it('calls half a last record a torn tail in the last segment only', async () => {
    const torn = framesOf(texts(0, 20))
    torn[19] = torn[19]!.subarray(0, 30)
    expect((await withLog(one(torn), check)).damage).toMatchObject([{ index: 19, kind: 'torn_tail' }])
    const next = { first: 20, frames: framesOf(texts(20, 30)) }
    const { damage } = await withLog([...one(torn), next], check)
    expect(damage[0]).toMatchObject({ index: 19, kind: 'bad_crc' })
  })
})
