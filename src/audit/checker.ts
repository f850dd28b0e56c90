/**
 * `errand audit verify`: reads a log's folder, or a copy of it, and names every damage by index and kind. It needs no
 * service, no key and no index file, and changes nothing.
 */
import { type FileHandle, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalize } from './canonical.ts'
import { checkTree, type TreeCheck, type TreeReport } from './check-tree.ts'
import type { Damage } from './damage.ts'
import { type Bytes, classifyTail, nextFrame, readSegmentHeader, SEGMENT_HEADER_BYTES, scanFrames } from './frame.ts'
import { firstOfSegment, LOG_ID_FILE, REGRESSION_MS, segmentName } from './layout.ts'
import type { AuditRecord, Json } from './log.ts'

export interface CheckReport {
  readonly ok: boolean
  readonly logId: string
  readonly records: number
  readonly segments: number
  readonly bytes: number
  /** How often the clock was set back, as the log itself says. */
  readonly regressions: number
  readonly tree: TreeReport
  /** In the order of the log; the first so many. */
  readonly damage: readonly Damage[]
}

const MAX_DAMAGE = 100
/** What stands before such an end is whole. */
const TAILS: readonly string[] = ['torn_tail', 'zero_tail', 'clock_unrecorded', 'duplicate_jti', 'stray_file']

/** `folder` holds the segments themselves, or `log-id` and one folder per log. */
export async function checkAuditLog({
  folder,
  onRecord,
  ...against
}: {
  readonly folder: string
  /** Told of each that is in good form. */
  readonly onRecord?: (index: number, payload: Buffer) => void
  /** The issuer's public keys, as a JWKS; without them those beside the log are taken at their word. */
  readonly jwks?: string
  /** Checkpoints that somebody else kept. */
  readonly others?: readonly { readonly file: string; readonly note: string }[]
}): Promise<CheckReport> {
  const named = await readFile(join(folder, LOG_ID_FILE), 'latin1').catch(() => undefined)
  const home = named === undefined ? folder : join(folder, named.trim())
  const names = (await readdir(home)).sort()
  const files = names.filter((name) => firstOfSegment(name) !== undefined)
  const tree = await checkTree({ home, logId: named?.trim(), ...against })
  const state = newState(named?.trim(), tree, onRecord)
  for (const [at, file] of files.entries()) {
    const handle = await open(join(home, file), 'r')
    try {
      await checkSegment(state, handle, file, at === files.length - 1)
    } finally {
      await handle.close()
    }
  }
  for (const name of names) {
    if (name.endsWith('.seg') && firstOfSegment(name) === undefined)
      found(state, { index: state.next, kind: 'stray_file', file: name, detail: 'its name is no segment name' })
  }
  if (files.length === 0)
    found(state, { index: 0, kind: 'missing_segment', file: segmentName(0), detail: 'no segments' })
  const { logId = '', records, bytes, regressions } = state
  const ofTree = tree.finish(state.damage.find(({ kind }) => !TAILS.includes(kind))?.index)
  // Records are told of in the order they were met; after the first that is out of place, indexes may go back.
  const first = state.damage[0]?.index ?? Number.POSITIVE_INFINITY
  const [before, after] = [(at: number) => at < first, (at: number) => at >= first].map((on) =>
    ofTree.damage.filter(({ index }) => on(index)).sort((one, other) => one.index - other.index),
  )
  const damage = [...before!, ...state.damage, ...after!].slice(0, MAX_DAMAGE)
  const counted = { records, segments: files.length, bytes, regressions }
  return { ok: damage.length === 0, logId, ...counted, tree: ofTree.report, damage }
}

interface State {
  logId: string | undefined
  /** The index that must come next. */
  next: number
  records: number
  bytes: number
  high: number
  regressions: number
  /** About 70 bytes for each token issued. */
  readonly issued: Set<string>
  readonly damage: Damage[]
  readonly tree: TreeCheck
  readonly told: ((index: number, payload: Buffer) => void) | undefined
}

const newState = (logId: string | undefined, tree: TreeCheck, told: State['told']): State => ({
  logId,
  tree,
  told,
  next: 0,
  records: 0,
  bytes: 0,
  high: 0,
  regressions: 0,
  issued: new Set(),
  damage: [],
})

function found(state: State, damage: Damage): void {
  if (state.damage.length < MAX_DAMAGE) state.damage.push(damage)
}

async function checkSegment(state: State, handle: FileHandle, file: string, last: boolean): Promise<void> {
  const { size } = await handle.stat()
  state.bytes += size
  const bytes: Bytes = {
    size,
    read: async (into, position) => (await handle.read(into, 0, into.length, position)).bytesRead,
  }
  const head = Buffer.alloc(SEGMENT_HEADER_BYTES)
  const header = readSegmentHeader(head.subarray(0, await bytes.read(head, 0)))
  const named = firstOfSegment(file) ?? 0
  if (!header.ok) {
    found(state, { index: named, kind: header.kind, file, detail: 'the segment header cannot be read' })
    if (header.kind === 'format_newer') return
  } else {
    state.logId ??= header.logId
    const wrong = header.logId !== state.logId
    if (wrong) found(state, { index: named, kind: 'wrong_log', file, detail: `it belongs to ${header.logId}` })
    if (header.first !== named || named < state.next) {
      const detail = `its records begin at ${header.first}, and ${state.next} was expected`
      found(state, { index: header.first, kind: 'duplicate_segment', file, detail })
      return
    }
    if (wrong) return
  }
  if (named > state.next) {
    const detail = `no segment holds ${state.next} to ${named - 1}`
    found(state, { index: state.next, kind: 'missing_segment', file, detail })
    state.next = named
  }

  for (let from = SEGMENT_HEADER_BYTES; ; ) {
    const stopped = await scanFrames(bytes, from, (payload) => checkRecord(state, payload, file))
    await state.tree.compare()
    if (stopped >= size) return
    const resumed = await nextFrame(bytes, stopped + 1)
    const detail = `at byte ${stopped} of ${size}`
    if (resumed === undefined) {
      const kind = last ? await classifyTail(bytes, stopped) : 'bad_crc'
      found(state, { index: state.next, kind, file, detail })
      return
    }
    found(state, { index: state.next, kind: 'bad_crc', file, detail })
    // How many records the damaged bytes held is told by the next one's index.
    state.next = Number.NaN
    from = resumed.offset
  }
}

function checkRecord(state: State, payload: Buffer, file: string): void {
  const text = payload.toString('utf8')
  const record = parse(text)
  state.records += 1
  if (record === undefined || !isCanonical(record, text, payload)) {
    found(state, { index: state.next, kind: 'not_canonical', file, detail: 'its bytes are no canonical record' })
    state.next += 1
    return
  }
  const { i, t, type, jti, log } = record
  if (i !== state.next && !Number.isNaN(state.next)) {
    const kind = i > state.next ? 'missing' : 'out_of_order'
    found(state, { index: state.next, kind, file, detail: `record ${i} stands there` })
  }
  state.next = i + 1
  state.tree.record(i, payload)
  state.told?.(i, payload)
  if (log !== state.logId) found(state, { index: i, kind: 'wrong_log', file, detail: 'the record names another log' })
  if (type === 'token.issuing' && typeof jti === 'string') {
    if (state.issued.has(jti))
      found(state, { index: i, kind: 'duplicate_jti', file, detail: `${jti} was issued before` })
    state.issued.add(jti)
  }
  if (t < state.high - REGRESSION_MS) {
    state.regressions += 1
    if (type !== 'clock_regressed')
      found(state, { index: i, kind: 'clock_unrecorded', file, detail: `${state.high - t} ms back` })
    state.high = t
  } else if (t > state.high) state.high = t
}

function parse(text: string): AuditRecord | undefined {
  try {
    const record = JSON.parse(text) as AuditRecord
    const { v, i, t, type } = record
    const whole = v === 1 && Number.isSafeInteger(i) && Number.isSafeInteger(t) && typeof type === 'string'
    return whole ? record : undefined
  } catch {
    return undefined
  }
}

function isCanonical(record: AuditRecord, text: string, payload: Buffer): boolean {
  try {
    // The length as well: bytes that are not UTF-8 decode to text that may be canonical.
    return canonicalize(record as Json) === text && Buffer.byteLength(text) === payload.length
  } catch {
    return false
  }
}
