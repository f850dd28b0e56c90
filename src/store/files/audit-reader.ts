/** Reading the log back while it is written to: by index, by time, and by what records say. */
import { join } from 'node:path'
import { canonicalString } from '../../audit/canonical.ts'
import { AuditDamage } from '../../audit/damage.ts'
import { FRAME_HEADER_BYTES, frameLength } from '../../audit/frame.ts'
import { segmentName, timeOf } from '../../audit/layout.ts'
import type { AuditReader, AuditRecord, AuditSearch } from '../../audit/log.ts'
import { recordText, sealedUnder, unsealRecord } from '../../audit/record.ts'
import type { SubjectVault } from '../../audit/subject-vault.ts'
import { BLOCK_RECORDS, type Block } from './blocks.ts'
import type { LogFiles } from './log-files.ts'
import { type ActiveSegment, readSidecar, type Segment } from './segments.ts'

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 10_000
const REMEMBERED_SIDECARS = 8

export interface ReaderDeps {
  readonly files: LogFiles
  readonly folder: string
  readonly logId: string
  readonly closed: readonly Segment[]
  readonly active: () => ActiveSegment
  readonly subjectVault: SubjectVault
}

/** A segment as it was when the reading began. */
interface View {
  readonly first: number
  readonly size: number
  readonly count: number
  readonly blocks: readonly Block[]
}

export interface FileReader extends AuditReader {
  /** The canonical bytes of some records from that index on, one at least. */
  payloadsFrom(index: number): Promise<readonly Buffer[]>
}

export function createAuditReader(deps: ReaderDeps): FileReader {
  const { files, folder, logId, closed, active, subjectVault } = deps
  const remembered = new Map<number, readonly Block[]>()

  const size = () => active().first + active().blocks.count

  const blocksOf = async (segment: Segment): Promise<readonly Block[]> => {
    const known = remembered.get(segment.first)
    if (known !== undefined) return known
    const blocks = (await readSidecar({ files, folder, logId }, segment.first))?.blocks
    if (blocks === undefined)
      throw new AuditDamage('missing_segment', segment.first, segmentName(segment.first), 'its sidecar is gone')
    if (remembered.size >= REMEMBERED_SIDECARS) remembered.delete(remembered.keys().next().value!)
    remembered.set(segment.first, blocks)
    return blocks
  }
  const viewOf = async (segment: Segment): Promise<View> => ({ ...segment, blocks: await blocksOf(segment) })
  const viewOfActive = (): View => {
    const { first, size, blocks } = active()
    return { first, size, count: blocks.count, blocks: blocks.list.slice() }
  }

  const reading = async <T>(view: View, read: (fd: number) => Promise<T>): Promise<T> => {
    const fd = await files.open(join(folder, segmentName(view.first)), 'read')
    try {
      return await read(fd)
    } finally {
      await files.close(fd)
    }
  }

  /** The payloads of one block, in order, and the bytes that they are views of. */
  const readBlock = async (fd: number, view: View, block: number) => {
    const start = view.blocks[block]![0]
    const end = view.blocks[block + 1]?.[0] ?? view.size
    const bytes = Buffer.allocUnsafe(end - start)
    for (let have = 0; have < bytes.length; ) {
      const count = await files.read(fd, bytes.subarray(have), start + have)
      if (count === 0) break
      have += count
    }
    const payloads: Buffer[] = []
    for (let at = 0; at < bytes.length; ) {
      const length = frameLength(bytes, at, bytes.length)
      const index = view.first + block * BLOCK_RECORDS + payloads.length
      if (length <= 0) throw new AuditDamage('bad_crc', index, segmentName(view.first), `at byte ${start + at}`)
      payloads.push(bytes.subarray(at + FRAME_HEADER_BYTES, at + length))
      at += length
    }
    return { bytes, payloads }
  }

  const viewAt = async (index: number): Promise<View | undefined> => {
    if (!Number.isSafeInteger(index) || index < 0 || index >= size()) return undefined
    if (index >= active().first) return viewOfActive()
    let low = 0
    let high = closed.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (closed[middle]!.first <= index) low = middle
      else high = middle - 1
    }
    const segment = closed[low]
    return segment === undefined ? undefined : viewOf(segment)
  }

  const payloadsFrom = async (index: number): Promise<readonly Buffer[]> => {
    const view = await viewAt(index)
    if (view === undefined) return []
    const block = Math.floor((index - view.first) / BLOCK_RECORDS)
    const { payloads } = await reading(view, (fd) => readBlock(fd, view, block))
    return payloads.slice((index - view.first) % BLOCK_RECORDS)
  }

  const from = async (index: number, limit: number): Promise<readonly AuditRecord[]> => {
    const wanted = bounded(limit)
    const records: AuditRecord[] = []
    for (let at = Math.max(0, index); records.length < wanted; ) {
      const payloads = await payloadsFrom(at)
      if (payloads.length === 0) break
      for (const payload of payloads) {
        if (records.length === wanted) break
        records.push(parse(payload))
        at += 1
      }
    }
    return records
  }

  return {
    get size() {
      return size()
    },
    get: async (index) => (await viewAt(index)) && (await from(index, 1))[0],
    from,
    payloadsFrom,
    search: async (query) => {
      const wanted = bounded(query.limit ?? DEFAULT_LIMIT)
      const members = await membersOf(query, subjectVault)
      if (members === undefined) return []
      const wholes = members.map(([name, text]) => `"${name}":${canonicalString(text)}`)
      if (query.mentions !== undefined) wholes.push(canonicalString(query.mentions))
      const patterns = wholes.map((whole) => Buffer.from(whole, 'utf8'))
      const byId = query.jti !== undefined || query.decisionId !== undefined
      const { since = 0, until = Number.POSITIVE_INFINITY } = query
      const records: AuditRecord[] = []
      const tooOld = (time: number) => time < since && !(query.newest && records.length === 0)
      const take = ({ bytes, payloads }: Awaited<ReturnType<typeof readBlock>>) => {
        // In most blocks nothing matches: one look at all of it is a tenth of the work of a look at each record.
        if (!patterns.every((pattern) => bytes.includes(pattern))) return
        for (let at = payloads.length - 1; at >= 0 && records.length < wanted; at -= 1) {
          const payload = payloads[at]!
          if (!patterns.every((pattern) => payload.includes(pattern))) continue
          const time = timeOf(payload)
          // An id made just before the clock was set back stands under a time that is not its own.
          if ((tooOld(time) || time > until) && !byId) continue
          const record = parse(payload)
          // The bytes may stand deeper in the record; the member itself decides.
          if (members.every(([name, text]) => record[name] === text)) records.push(record)
        }
      }
      for (let at = closed.length; at >= 0 && records.length < wanted; at -= 1) {
        const segment = closed[at]
        if (segment !== undefined && (tooOld(segment.maxTime) || segment.minTime > until)) continue
        const view = segment === undefined ? viewOfActive() : await viewOf(segment)
        await reading(view, async (fd) => {
          for (let block = view.blocks.length - 1; block >= 0 && records.length < wanted; block -= 1) {
            const [, min, max] = view.blocks[block]!
            if (!tooOld(max) && min <= until) take(await readBlock(fd, view, block))
          }
        })
      }
      return records
    },
    unseal: async (record) => {
      const hash = sealedUnder(record)
      const seal = hash === undefined ? undefined : await subjectVault.byHash(hash)
      return seal === undefined ? undefined : unsealRecord(record, seal)
    },
  }
}

const parse = (payload: Buffer): AuditRecord => JSON.parse(payload.toString('utf8')) as AuditRecord
const bounded = (limit: number) => Math.max(0, Math.min(MAX_LIMIT, Math.floor(limit)))

/** What a record must hold; undefined where no record can. */
async function membersOf(query: AuditSearch, vault: SubjectVault): Promise<[string, string][] | undefined> {
  const { type, agent, task, root, jti, decisionId, reason, cause, subject } = query
  const members: [string, string][] = []
  const add = (name: string, text: string | undefined) => {
    if (text !== undefined) members.push([name, recordText(text)])
  }
  add('type', type)
  add('agent', agent)
  add('task', task)
  add('root', root)
  add('jti', jti)
  add('decision_id', decisionId)
  add('reason', reason)
  add('cause', cause)
  if (subject === undefined) return members
  const hash = await vault.hashOf(subject)
  if (hash === undefined) return undefined
  add('subject', hash)
  return members
}
