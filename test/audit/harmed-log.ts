/** A log with its tree and checkpoints, harmed in every way that one edit can, each time found by the check (FI-14). */
import { cp, mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import { checkAuditLog } from '../../src/audit/checker.ts'
import { FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES } from '../../src/audit/frame.ts'
import type { Json } from '../../src/audit/log.ts'
import { openAuditLog } from '../../src/store/files/audit-log.ts'
import { issuing, manualTimer, memorySubjectKeys, vaultOver } from './fixtures.ts'
import { frameOf, LOG } from './log-file.ts'
import { checkpointsOf, signerOf } from './signer.ts'

const RECORDS = 300
export const JWKS = JSON.stringify({ keys: [signerOf(1).jwk] })

/** A small generator with a seed, so that a failure can be run again. */
function random(seed: number) {
  let state = seed
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Two segments, one full tile and an edge, three checkpoints of which the first was kept. */
export async function makeLog(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-harm-'))
  const log = await openAuditLog({
    folder,
    logId: LOG,
    now: () => 1_800_000_000_000,
    subjectVault: vaultOver(memorySubjectKeys()),
    maxSegmentBytes: 100_000,
    every: manualTimer().every,
  })
  const checkpoints = checkpointsOf(log)
  for (const count of [40, 200, RECORDS - 240]) {
    await Promise.all(Array.from({ length: count }, () => log.append(issuing(LOG, 1_800_000_000_000))))
    await checkpoints.tick()
  }
  await log.close()
  return folder
}

interface Edit {
  /** Files of the log's folder as they become; undefined where one is removed. */
  readonly files: Readonly<Record<string, Buffer | undefined>>
  /** The first record that is not what it was; undefined where only tree or checkpoint were touched. */
  readonly index?: number
}

interface Segment {
  readonly name: string
  readonly bytes: Buffer
  readonly first: number
  /** Payloads of its frames. */
  readonly texts: readonly string[]
  /** Where each frame begins, and the end. */
  readonly starts: readonly number[]
}

function read(name: string, bytes: Buffer): Segment {
  const texts: string[] = []
  const starts: number[] = []
  for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4)
    starts.push(at)
    texts.push(bytes.toString('utf8', at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length))
    at += FRAME_HEADER_BYTES + length
  }
  return { name, bytes, first: Number(name.slice(0, 16)), texts, starts: [...starts, bytes.length] }
}

/** Frames with their lengths and CRCs right, and records that number themselves as the log would. */
const rebuilt = (segment: Segment, texts: readonly string[]): Buffer =>
  Buffer.concat([
    segment.bytes.subarray(0, SEGMENT_HEADER_BYTES),
    ...texts.map((text, at) =>
      frameOf(canonicalize({ ...(JSON.parse(text) as { readonly [name: string]: Json }), i: segment.first + at })),
    ),
  ])

function editsOf(segments: readonly Segment[], others: Readonly<Record<string, Buffer>>, pick: (n: number) => number) {
  const last = segments.at(-1)!
  const some = () => segments[pick(segments.length)]!
  const into = (segment: Segment, bytes: Buffer, index: number): Edit => ({ files: { [segment.name]: bytes }, index })
  const frameAt = ({ starts, first }: Segment, offset: number) =>
    first +
    Math.max(
      0,
      starts.findLastIndex((start) => start <= offset),
    )
  const raw = (change: (bytes: Buffer, at: number) => Buffer) => (): Edit => {
    const segment = some()
    const bytes = change(
      Buffer.from(segment.bytes),
      SEGMENT_HEADER_BYTES + pick(segment.bytes.length - SEGMENT_HEADER_BYTES),
    )
    const differing = bytes.findIndex((byte, at) => byte !== segment.bytes[at])
    return into(segment, bytes, frameAt(segment, differing < 0 ? bytes.length : differing))
  }
  /** Of the last segment, so that no other one stands behind it with indexes that give it away. */
  const mended = (change: (texts: string[], at: number) => number) => (): Edit => {
    const texts = [...last.texts]
    const index = change(texts, pick(texts.length))
    return into(last, rebuilt(last, texts), last.first + index)
  }
  const other = (name: string, change: (bytes: Buffer) => Buffer | undefined) => (): Edit => ({
    files: { [name]: change(Buffer.from(others[name]!)) },
  })
  const flip = (bytes: Buffer) => {
    bytes[pick(bytes.length)]! ^= 1 << pick(8)
    return bytes
  }
  const tiles = Object.keys(others).filter((name) => name.startsWith('tile/'))
  const notes = Object.keys(others).filter((name) => name.startsWith('checkpoint') && !name.endsWith('.json'))
  const edits: Readonly<Record<string, () => Edit>> = {
    'a bit flipped': raw((bytes, at) => {
      bytes[at]! ^= 1 << pick(8)
      return bytes
    }),
    'bytes cut out': raw((bytes, at) => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + pick(40))])),
    'bytes added': raw((bytes, at) =>
      Buffer.concat([bytes.subarray(0, at), Buffer.alloc(1 + pick(40), pick(256)), bytes.subarray(at)]),
    ),
    'the end cut off anywhere': () => {
      const at = SEGMENT_HEADER_BYTES + pick(last.bytes.length - SEGMENT_HEADER_BYTES)
      return into(last, last.bytes.subarray(0, at), frameAt(last, at))
    },
    'the end cut off between two records': () => {
      const at = pick(last.texts.length)
      return into(last, last.bytes.subarray(0, last.starts[at]), last.first + at)
    },
    'the last segment removed': () => ({ files: { [last.name]: undefined }, index: last.first }),
    'a record changed, its CRC made right': () => {
      const segment = some()
      const at = pick(segment.texts.length)
      const text = segment.texts[at]!.replace('"agent":"research"', `"agent":"resear${'abdefg'[pick(6)]}h"`)
      return into(segment, rebuilt(segment, segment.texts.with(at, text)), segment.first + at)
    },
    'a member taken out, the CRC made right': () => {
      const segment = some()
      const at = pick(segment.texts.length)
      const text = segment.texts[at]!.replace('"decision":"permit",', '')
      return into(segment, rebuilt(segment, segment.texts.with(at, text)), segment.first + at)
    },
    'a record deleted, those after it numbered anew': mended((texts, at) => {
      texts.splice(at, 1)
      return at
    }),
    'two records swapped, numbered anew': mended((texts, at) => {
      const next = (at + 1 + pick(texts.length - 1)) % texts.length
      const [one, two] = [texts[at]!, texts[next]!]
      texts[at] = two
      texts[next] = one
      return Math.min(at, next)
    }),
    'a record inserted, those after it numbered anew': mended((texts, at) => {
      texts.splice(
        at,
        0,
        canonicalize(JSON.parse(JSON.stringify({ ...issuing(LOG, 1), v: 1, t: 1, log: LOG })) as Json),
      )
      return at
    }),
    'a bit of a tile flipped': () => other(tiles[pick(tiles.length)]!, flip)(),
    'a tile cut short': () => other(tiles[pick(tiles.length)]!, (bytes) => bytes.subarray(0, pick(bytes.length)))(),
    'a tile removed': () => other(tiles[pick(tiles.length)]!, () => undefined)(),
    'a bit of a checkpoint flipped': () => other(notes[pick(notes.length)]!, flip)(),
    'a checkpoint cut short': () =>
      other(notes[pick(notes.length)]!, (bytes) => bytes.subarray(0, pick(bytes.length)))(),
    'the newest checkpoint removed': other('checkpoint', () => undefined),
  }
  return edits
}

async function filesOf(home: string): Promise<Record<string, Buffer>> {
  const found = await readdir(home, { recursive: true, withFileTypes: true })
  const names = found.filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))
  return Object.fromEntries(
    await Promise.all(names.map(async (path) => [path.slice(home.length + 1), await readFile(path)] as const)),
  )
}

/** So many edits in turn and by chance; throws with its seed at the first one that is not found, or not in its place. */
export async function harmAndCheck(rounds: number, seed = Number(process.hrtime.bigint() % 1_000_000n)): Promise<void> {
  const source = await makeLog()
  const folder = await mkdtemp(join(tmpdir(), 'errand-harmed-'))
  try {
    await cp(source, folder, { recursive: true })
    const home = join(folder, LOG)
    const whole = await filesOf(home)
    const segments = Object.keys(whole)
      .filter((name) => name.endsWith('.seg'))
      .sort()
      .map((name) => read(name, whole[name]!))
    expect([segments.length, segments.flatMap(({ texts }) => texts).length]).toEqual([2, RECORDS])
    const pick = random(seed)
    const edits = editsOf(segments, whole, pick)
    const names = Object.keys(edits)
    const check = () => checkAuditLog({ folder, jwks: JWKS })
    expect(await check()).toMatchObject({
      ok: true,
      tree: { signed: RECORDS, checkpoints: 2, signatures: 'given_keys' },
    })
    for (let round = 0; round < rounds; round += 1) {
      const name = names[round % names.length]!
      const { files, index } = edits[name]!()
      const unchanged = Object.entries(files).every(([file, bytes]) => bytes?.equals(whole[file]!))
      if (unchanged) continue
      for (const [file, bytes] of Object.entries(files)) {
        if (bytes === undefined) await unlink(join(home, file))
        else await writeFile(join(home, file), bytes)
      }
      const { ok, damage } = await check()
      const at = index === undefined ? undefined : damage[0]?.index
      expect({ seed, round, name, ok, at }).toEqual({ seed, round, name, ok: false, at: index })
      for (const file of Object.keys(files)) await writeFile(join(home, file), whole[file]!)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
    await rm(source, { recursive: true, force: true })
  }
}
