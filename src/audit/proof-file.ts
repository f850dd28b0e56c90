/** A record with its proof, in one file that verifies anywhere with the issuer's public keys and nothing else. */
import { canonicalize } from './canonical.ts'
import { openCheckpoint, parseCheckpoint } from './checkpoint.ts'
import { leafHash } from './leaf.ts'
import type { AuditRecord, Json } from './log.ts'
import type { InclusionProof } from './log-proof.ts'
import { HASH_BYTES, verifyInclusion } from './merkle.ts'
import { noteKey, parseNote } from './note.ts'

export const PROOF_FORMAT = 'errand-log-proof/1'

export interface ProofFile extends InclusionProof {
  readonly format: typeof PROOF_FORMAT
  readonly record: AuditRecord
  /** The signed note that the path leads to. */
  readonly checkpoint: string
}

export type Proven =
  | { readonly ok: true; readonly record: AuditRecord; readonly origin: string; readonly size: number }
  | { readonly ok: false; readonly why: string }

const MAX_PATH = 64
const no = (why: string): Proven => ({ ok: false, why })

/** `keys`: the 32 bytes of each key that may have signed. */
export function checkProof(proof: ProofFile, keys: readonly Buffer[]): Proven {
  const { format, record, log, index, leaf_hash, size, path, checkpoint } = proof
  if (format !== PROOF_FORMAT) return no(`its format is not ${PROOF_FORMAT}`)
  if (typeof checkpoint !== 'string' || typeof record !== 'object' || record === null || !Array.isArray(path))
    return no('it is not whole')
  const parsed = parseNote(checkpoint)
  const { origin = '' } = (parsed && parseCheckpoint(parsed.text)) ?? {}
  if (origin === '') return no('what should be a checkpoint is none')
  const signed = openCheckpoint(
    checkpoint,
    keys.map((raw) => noteKey(origin, raw)),
  )
  if (signed === undefined) return no('none of the keys has signed the checkpoint')
  if (!origin.endsWith(`/log/${log}`) || record['log'] !== log) return no(`record and checkpoint are not of log ${log}`)
  if (record.i !== index || signed.size !== size) return no('record, proof and checkpoint are not about one place')
  const leaf = leafOf(record)
  if (leaf?.toString('base64') !== leaf_hash) return no('the record is not the one that was proven')
  const hashes = path.slice(0, MAX_PATH).map((hash) => Buffer.from(String(hash), 'base64'))
  const whole = path.length <= MAX_PATH && hashes.every(({ length }) => length === HASH_BYTES)
  if (!whole || !verifyInclusion(leaf, index, size, hashes, signed.root))
    return no('the path does not lead to the root that was signed')
  return { ok: true, record, origin, size }
}

/** Undefined where it has no canonical form. */
function leafOf(record: AuditRecord): Buffer | undefined {
  try {
    return leafHash(Buffer.from(canonicalize(record as Json), 'utf8'))
  } catch {
    return undefined
  }
}

/** Undefined where it is no JSON object. */
export function readProofFile(text: string): ProofFile | undefined {
  try {
    const parsed = JSON.parse(text) as ProofFile | null
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined
  } catch {
    return undefined
  }
}
