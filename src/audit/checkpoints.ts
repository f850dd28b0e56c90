/**
 * Signs how large the log's tree is and what its root hash, again and again while it grows. Never twice of two
 * histories: before the first one after a start, the newest that was kept must be the beginning of what is there.
 */
import { type Checkpoint, checkpointText, parseCheckpoint } from './checkpoint.ts'
import { AuditDamage } from './damage.ts'
import { type ReadHashes, rootAt } from './merkle.ts'
import { formatNote, isSignedBy, type NoteKey, type NoteSignature, parseNote } from './note.ts'
import type { Tile } from './tile.ts'

/** The tree over the log's durable records. */
export interface LogTree {
  readonly size: number
  /** Whether it holds every durable record; after a start there may be some to catch up with. */
  caughtUp(): boolean
  root(): Buffer
  /** The leaf hashes after the last full tile. */
  edge(): Buffer
  /** Throws `AuditDamage` where a tile was lost and the records that it was made from are damaged. */
  readonly read: ReadHashes
  /** As wide as asked for; undefined where the tree has no such tile. */
  tile(tile: Tile): Promise<Buffer | undefined>
  /** Reads what it has missed, then makes full tiles durable. */
  settle(): Promise<void>
}

/** Where checkpoints rest. */
export interface KeptCheckpoints {
  newest(): Promise<string | undefined>
  /** Whether any are kept beside it. */
  hasOthers(): Promise<boolean>
  /** In the place of the one before, and whole. A crash may bring that one back: all it says still holds. */
  put(note: string, edge: Buffer): Promise<void>
  /** Beside the newest: what a later check of the folder compares with. The oldest of many are thinned out. */
  keep(size: number, note: string): Promise<void>
  /** The public keys that ever signed, as a JWKS. */
  putKeys(jwks: string): Promise<void>
}

export interface Signed {
  readonly note: string
  readonly checkpoint: Checkpoint
}

export interface Checkpoints {
  newest(): Signed | undefined
  /** Why nothing is signed any more. */
  damage(): AuditDamage | undefined
  /** The newest one, as soon as that record is under it; undefined where that takes longer than `ms`. */
  covering(index: number, ms: number): Promise<Signed | undefined>
  /** What the timer does: settles the tree, and signs it where it has grown. */
  tick(): Promise<void>
}

export interface CheckpointsDeps {
  readonly logId: string
  readonly origin: string
  readonly tree: LogTree
  readonly kept: KeptCheckpoints
  readonly sign: (text: string) => NoteSignature | Promise<NoteSignature>
  /** Of every key that ever signed checkpoints, under the name of an origin. */
  readonly keys: (origin: string) => readonly NoteKey[]
  /** The same for people who hold a copy of the folder. */
  readonly jwks: () => string
  readonly onDamage?: (damage: AuditDamage) => void
}

/** Where one is signed each second this is one for each minute of writing. */
const KEEP_EVERY = 60

export function createCheckpoints(deps: CheckpointsDeps): Checkpoints {
  const { logId, origin, tree, kept, sign, keys, jwks } = deps
  let newest: Signed | undefined
  let damage: AuditDamage | undefined
  let agreed = false
  let signed = 0
  let keysKept: string | undefined
  let waiting: (() => void)[] = []

  const wake = () => {
    const woken = waiting
    waiting = []
    for (const resolve of woken) resolve()
  }

  /** What was signed before must be the beginning of what is there now. */
  const agree = async () => {
    const note = await kept.newest()
    if (note === undefined && (await kept.hasOthers()))
      throw harmed('bad_checkpoint', 0, 'it is missing, and earlier ones are there: restore it')
    if (note !== undefined) {
      const parsed = parseNote(note)
      const before = parsed && parseCheckpoint(parsed.text)
      // The issuer's URL may have become another one; the log is the same.
      const ours = before?.origin.endsWith(`/log/${logId}`) && isSignedBy(parsed!, keys(before.origin))
      if (!before || !ours) throw harmed('bad_checkpoint', 0, 'it is not signed by a key of this service')
      if (before.size > tree.size)
        throw harmed('checkpoint_ahead', tree.size, `it was signed over ${before.size} records, ${tree.size} are there`)
      if (!(await rootAt(before.size, tree.read)).equals(before.root))
        throw harmed('checkpoint_mismatch', 0, `the first ${before.size} records are not those it was signed over`)
      newest = { note, checkpoint: before }
    }
    agreed = true
  }

  const step = async () => {
    if (damage !== undefined) return
    await tree.settle()
    if (!tree.caughtUp()) return
    if (!agreed) await agree()
    const { size } = tree
    const before = newest?.checkpoint
    if (size === 0 || (before?.size === size && before.origin === origin)) return
    const checkpoint = { origin, size, root: tree.root() }
    const edge = tree.edge()
    const text = checkpointText(checkpoint)
    const note = formatNote({ text, signatures: [await sign(text)] })
    const known = jwks()
    if (known !== keysKept) await kept.putKeys(known)
    keysKept = known
    await kept.put(note, edge)
    newest = { note, checkpoint }
    if (signed % KEEP_EVERY === 0) await kept.keep(size, note)
    signed += 1
  }

  let stepping: Promise<void> | undefined
  return {
    newest: () => newest,
    damage: () => damage,
    covering: async (index, ms) => {
      let late = false
      const timer = setTimeout(() => {
        late = true
        wake()
      }, ms)
      while ((newest?.checkpoint.size ?? 0) <= index && !late && damage === undefined)
        await new Promise<void>((resolve) => waiting.push(resolve))
      clearTimeout(timer)
      return (newest?.checkpoint.size ?? 0) > index ? newest : undefined
    },
    tick: () => {
      stepping ??= step()
        .catch((error: unknown) => {
          if (!(error instanceof AuditDamage)) throw error
          damage = error
          deps.onDamage?.(error)
        })
        .finally(() => {
          stepping = undefined
          wake()
        })
      return stepping
    },
  }
}

const harmed = (kind: AuditDamage['kind'], index: number, detail: string) =>
  new AuditDamage(kind, index, 'checkpoint', detail)
