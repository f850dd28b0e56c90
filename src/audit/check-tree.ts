/**
 * The part of `errand audit verify` that looks at the tree: the records' own leaves against the stored tiles, and the
 * root they make against every checkpoint. The records are read once, by checker.ts, which hands their bytes over here.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Checkpoint, parseCheckpoint } from './checkpoint.ts'
import type { Damage } from './damage.ts'
import { createGrowingTree } from './growing-tree.ts'
import { CHECKPOINT_FILE, CHECKPOINT_FOLDER, CHECKPOINT_KEYS_FILE, EDGE_FILE } from './layout.ts'
import { leafHash } from './leaf.ts'
import { HASH_BYTES } from './merkle.ts'
import { isSignedBy, noteKey, parseNote } from './note.ts'
import { readNoteKeys } from './note-keys.ts'
import { TILE_BYTES, TILE_HASHES, tilePath } from './tile.ts'

/** Whose word the signatures were checked by: keys from elsewhere, those beside the log, or nobody's. */
export type CheckedBy = 'given_keys' | 'kept_keys' | 'no_keys'

export interface TreeReport {
  /** Of the whole log, in base64; absent where damage leaves no tree to speak of. */
  readonly root?: string
  /** Tiles that were compared. */
  readonly tiles: number
  /** Checkpoints that were compared with the records. */
  readonly checkpoints: number
  /** How many of the records stand under one. */
  readonly signed: number
  readonly signatures: CheckedBy
}

export interface TreeCheck {
  /** The bytes of the record at that index. */
  record(index: number, payload: Buffer): void
  /** Reads the tiles of the records so far. */
  compare(): Promise<void>
  /** What was found, once all records were read. `broken`: where other damage ends the unbroken beginning. */
  finish(broken: number | undefined): { readonly damage: readonly Damage[]; readonly report: TreeReport }
}

interface Held extends Checkpoint {
  readonly file: string
  found?: Buffer
}

interface Difference {
  readonly index: number
  readonly file: string
}

/** Reads the checkpoints before any record is read: of a log that is being written to they are never ahead. */
export async function checkTree({
  home,
  logId,
  jwks,
  others = [],
}: {
  readonly home: string
  readonly logId: string | undefined
  /** Public keys of the issuer, as a JWKS. */
  readonly jwks?: string
  /** Checkpoints that somebody else kept: a witness. */
  readonly others?: readonly { readonly file: string; readonly note: string }[]
}): Promise<TreeCheck> {
  const damage: Damage[] = []
  const kept = await readFile(join(home, CHECKPOINT_KEYS_FILE), 'utf8').catch(() => undefined)
  const keys = readNoteKeys(jwks ?? kept ?? '', { compromisedToo: true })
  const signatures: CheckedBy = jwks !== undefined ? 'given_keys' : keys.length > 0 ? 'kept_keys' : 'no_keys'

  const held: Held[] = []
  const bad = (file: string, index: number, detail: string) =>
    void damage.push({ index, kind: 'bad_checkpoint', file, detail })
  const hold = (file: string, note: string) => {
    const parsed = parseNote(note)
    const checkpoint = parsed && parseCheckpoint(parsed.text)
    if (!checkpoint) return bad(file, 0, 'it is no checkpoint')
    const { origin, size } = checkpoint
    if (logId !== undefined && !origin.endsWith(`/log/${logId}`)) return bad(file, size, `it is of ${origin}`)
    const known = keys.map((raw) => noteKey(origin, raw))
    if (signatures !== 'no_keys' && !isSignedBy(parsed, known)) return bad(file, size, 'none of the keys has signed it')
    held.push({ ...checkpoint, file })
  }
  const note = await readFile(join(home, CHECKPOINT_FILE), 'utf8').catch(() => undefined)
  const before = await readdir(join(home, CHECKPOINT_FOLDER)).catch(() => [])
  if (note !== undefined) hold(CHECKPOINT_FILE, note)
  else if (before.length > 0 || kept !== undefined) bad(CHECKPOINT_FILE, 0, 'it is missing')
  for (const name of before.sort().filter((each) => !each.endsWith('.tmp'))) {
    const file = join(CHECKPOINT_FOLDER, name)
    hold(file, await readFile(join(home, file), 'utf8'))
  }
  for (const { file, note } of others) hold(file, note)
  held.sort((one, other) => one.size - other.size)
  const newest = held.find(({ file }) => file === CHECKPOINT_FILE)
  const wanted = Math.floor((newest?.size ?? 0) / TILE_HASHES)
  const edge = await readFile(join(home, EDGE_FILE)).catch(() => undefined)

  let tail: Buffer | undefined
  let tiles = 0
  let next = 0
  const differing: Difference[] = []
  const full: { readonly level: number; readonly index: number; readonly hashes: Buffer }[] = []
  const tree = createGrowingTree({ onTile: (level, index, hashes) => void full.push({ level, index, hashes }) })

  const compare = async () => {
    for (const { level, index, hashes } of full.splice(0)) {
      const file = tilePath({ level, index, width: TILE_HASHES })
      const stored = await readFile(join(home, file)).catch(() => undefined)
      const first = index * TILE_HASHES ** (level + 1)
      if (stored === undefined) {
        // Beyond the newest checkpoint they may not have been written yet; those above the leaves come when they come.
        if (level === 0 && index < wanted)
          damage.push({ index: first, kind: 'bad_tile', file, detail: 'it is missing' })
        continue
      }
      tiles += 1
      if (stored.equals(hashes)) continue
      if (stored.length !== TILE_BYTES)
        damage.push({ index: first, kind: 'bad_tile', file, detail: `it has ${stored.length} bytes` })
      else differing.push({ index: first + unlike(stored, hashes) * TILE_HASHES ** level, file })
    }
  }

  /** Which of the newest checkpoint's last records is not the one that was signed. */
  const placeInEdge = (): number | undefined => {
    const first = wanted * TILE_HASHES
    const own = tail ?? (tree.size >= first && tree.size < first + TILE_HASHES ? tree.edge(0) : Buffer.alloc(0))
    const common = Math.min(own.length, edge?.length ?? 0)
    if (edge === undefined || own.subarray(0, common).equals(edge.subarray(0, common))) return undefined
    return first + unlike(own, edge)
  }

  return {
    record(index, payload) {
      // Where indexes jump there is other damage, and no tree.
      if (index !== tree.size) return
      tree.append(leafHash(payload))
      while (next < held.length && held[next]!.size <= tree.size) {
        const checkpoint = held[next++]!
        if (checkpoint.size !== tree.size) continue
        checkpoint.found = tree.root()
        if (checkpoint.file === CHECKPOINT_FILE) tail = Buffer.from(tree.edge(0))
      }
    },
    compare,
    finish(broken) {
      const { size } = tree
      const good = held.findLast(({ root, found }) => found?.equals(root))?.size ?? 0
      const disagreeing = held.find(({ root, found }) => found !== undefined && !found.equals(root))
      const report: TreeReport = {
        ...(broken === undefined ? { root: tree.root().toString('base64') } : {}),
        tiles,
        checkpoints: held.length,
        signed: good,
        signatures,
      }
      // Under a root that was signed the records are what they were, and the tile is wrong; else there is nothing for them.
      const inEdge = good < (newest?.size ?? 0) ? placeInEdge() : undefined
      if (inEdge !== undefined) differing.push({ index: inEdge, file: EDGE_FILE })
      for (const { index, file } of differing) {
        damage.push(
          index < good
            ? { index, kind: 'bad_tile', file, detail: 'its hashes are not those of the records' }
            : { index, kind: 'altered', file, detail: 'the record is not the one whose hash stands there' },
        )
      }
      if (disagreeing !== undefined && !differing.some(({ index }) => index >= good)) {
        const detail = `the records up to ${disagreeing.size} are not those that were signed`
        damage.push({ index: good, kind: 'checkpoint_mismatch', file: disagreeing.file, detail })
      }
      for (const { size: signed, file, found } of held) {
        if (broken !== undefined || found !== undefined || signed <= size) continue
        const detail = `it was signed over ${signed} records, ${size} are there`
        damage.push({ index: size, kind: 'checkpoint_ahead', file, detail })
      }
      return { damage, report }
    },
  }
}

/** The number of the first hash in which they differ. */
function unlike(one: Buffer, other: Buffer): number {
  let at = 0
  while (at < one.length && one[at] === other[at]) at += 1
  return Math.floor(at / HASH_BYTES)
}
