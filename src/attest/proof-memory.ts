/**
 * Remembers in memory alone which proofs were used: enough where every proof that counts carries a nonce of this run
 * of this one process (docs/decisions/proofs-of-one-run.md). Sixteen bytes a proof, outside the heap, forgotten with
 * the window in which their nonces were good.
 */
import { hash } from 'node:crypto'
import { Unavailable } from '../oauth/refusal.ts'

export interface ProofMemory {
  /** Notes the proof and says whether this use was the first. Throws `Unavailable` where there is no room. */
  spend(id: string): boolean
}

const WORDS = 4
const LEAST_PLACES = 1024

/** Places for digests of 128 bits, at most half of them taken. */
interface Part {
  words: Uint32Array
  taken: number
}

export function createProofMemory(deps: {
  /** The window of now, by a clock that never goes back: a nonce is good in its own and in the next. */
  readonly window: () => number
  readonly maxProofs?: number
}): ProofMemory {
  const { maxProofs = 4_000_000 } = deps
  const nothing: Part = { words: new Uint32Array(LEAST_PLACES * WORDS), taken: 0 }
  const digest = new Uint32Array(WORDS)
  let window = deps.window()
  let current = nothing
  let before = nothing

  function turn(): void {
    const now = deps.window()
    if (now === window) return
    before = now === window + 1 ? current : nothing
    // As large as the one before has become: under a steady load none grows while it is in use.
    current = { words: new Uint32Array(before.words.length), taken: 0 }
    window = now
  }

  return {
    spend: (id) => {
      turn()
      if (current === nothing) current = { words: new Uint32Array(nothing.words.length), taken: 0 }
      readDigest(id, digest)
      if (before.words[placeOf(before, digest)] !== 0) return false
      let at = placeOf(current, digest)
      if (current.words[at] !== 0) return false
      if (current.taken + before.taken >= maxProofs)
        throw new Unavailable('replay_guard_unavailable', 'too many proofs are remembered')
      if (current.taken * 2 * WORDS >= current.words.length) {
        current = grown(current)
        at = placeOf(current, digest)
      }
      current.words.set(digest, at)
      current.taken += 1
      return true
    },
  }
}

/** Where it stands, or the empty place where it belongs. */
function placeOf({ words }: Part, digest: Uint32Array): number {
  const last = words.length - WORDS
  for (let at = (digest[0]! * WORDS) & last; ; at = (at + WORDS) & last) {
    if (words[at] === 0) return at
    if (
      words[at] === digest[0] &&
      words[at + 1] === digest[1] &&
      words[at + 2] === digest[2] &&
      words[at + 3] === digest[3]
    )
      return at
  }
}

function grown({ words, taken }: Part): Part {
  const larger = { words: new Uint32Array(words.length * 2), taken }
  for (let at = 0; at < words.length; at += WORDS) {
    if (words[at] === 0) continue
    const digest = words.subarray(at, at + WORDS)
    larger.words.set(digest, placeOf(larger, digest))
  }
  return larger
}

/** The first half of SHA-256; whoever finds two ids with one has spent both with one of them. */
function readDigest(id: string, into: Uint32Array): void {
  // As text: a buffer of its own costs twice the hash.
  const bytes = hash('sha256', id, 'binary')
  for (let word = 0; word < WORDS; word++) {
    const at = word * 4
    into[word] =
      bytes.charCodeAt(at) |
      (bytes.charCodeAt(at + 1) << 8) |
      (bytes.charCodeAt(at + 2) << 16) |
      (bytes.charCodeAt(at + 3) << 24)
  }
  // Zero marks an empty place.
  if (into[0] === 0) into[0] = 1
}
