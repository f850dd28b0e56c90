/** A record's leaf in the Merkle tree of the log (RFC 9162 §2.1.1). */
import { createHash } from 'node:crypto'

const LEAF_PREFIX = new Uint8Array([0x00]) // a leaf can never be taken for a node, whose prefix is 0x01

export const leafHash = (canonicalBytes: Uint8Array): Buffer =>
  createHash('sha256').update(LEAF_PREFIX).update(canonicalBytes).digest()
