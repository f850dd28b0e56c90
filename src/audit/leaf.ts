/** A record's leaf in the Merkle tree of the log (RFC 9162 §2.1.1). */
import { hash } from 'node:crypto'

const LEAF_PREFIX = 0x00 // a leaf can never be taken for a node, whose prefix is 0x01

export function leafHash(canonicalBytes: Uint8Array): Buffer {
  const input = Buffer.allocUnsafe(1 + canonicalBytes.length)
  input[0] = LEAF_PREFIX
  input.set(canonicalBytes, 1)
  // As text it comes out of the hash function in half the time.
  return Buffer.from(hash('sha256', input, 'binary'), 'binary')
}
