/** Proofs of the log as they are sent and kept: that a record stands at its index, that a tree only grew. */
import type { Signed, LogTree } from './checkpoints.ts'
import { consistencyProof, inclusionProof, rootAt, verifyConsistency, verifyInclusion } from './merkle.ts'

/** Hashes in base64, as notes have them. */
export interface InclusionProof {
  readonly log: string
  readonly index: number
  readonly leaf_hash: string
  /** Of the tree that it is proven in. */
  readonly size: number
  readonly path: readonly string[]
}

export interface ConsistencyProof {
  readonly log: string
  readonly from: number
  readonly to: number
  readonly path: readonly string[]
}

const text = (hashes: readonly Buffer[]) => hashes.map((hash) => hash.toString('base64'))

/** Undefined where what is stored does not make the root that was signed: no proof leaves that we would not take. */
export async function proveInclusion(
  tree: LogTree,
  log: string,
  index: number,
  size: number,
  root: Buffer,
): Promise<InclusionProof | undefined> {
  const [[leaf], path] = await Promise.all([tree.read([{ level: 0, index }]), inclusionProof(index, size, tree.read)])
  if (leaf === undefined || !verifyInclusion(leaf, index, size, path, root)) return undefined
  return { log, index, leaf_hash: Buffer.from(leaf).toString('base64'), size, path: text(path) }
}

export async function proveConsistency(
  tree: LogTree,
  log: string,
  from: number,
  to: number,
  newest: Signed,
): Promise<ConsistencyProof | undefined> {
  const { size, root } = newest.checkpoint
  const [before, after, path] = await Promise.all([
    rootAt(from, tree.read),
    to === size ? root : rootAt(to, tree.read),
    consistencyProof(from, to, tree.read),
  ])
  if (!verifyConsistency(from, before, to, after, path)) return undefined
  return { log, from, to, path: text(path) }
}
