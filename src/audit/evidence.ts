/**
 * A task as evidence, in one file that verifies anywhere: its records with their proofs, the checkpoint they lead to,
 * every public key, the policies that decided, and a statement by the issuer of what the file holds.
 *
 * Proven of a record is that it stands in the log as it is shown. That the file holds every record that names the task
 * is what the issuer signs; whoever has the log, or a copy of it, can look (`namesTask`).
 */
import { createHash } from 'node:crypto'
import { canonicalize, canonicalString } from './canonical.ts'
import { openCheckpoint, parseCheckpoint } from './checkpoint.ts'
import { leafHash } from './leaf.ts'
import type { AuditRecord, Json } from './log.ts'
import { HASH_BYTES, verifyInclusion } from './merkle.ts'
import { isSignedBy, noteKey, parseNote } from './note.ts'
import { readNoteKeys } from './note-keys.ts'

export const EVIDENCE_FORMAT = 'errand-task-evidence/1'

export interface PolicyText {
  readonly id: string
  readonly file: string
  readonly line: number
  readonly text: string
}

/** `policies` is absent where the service that decided no longer has them. */
export interface PoliciesInForce {
  readonly digest: string
  readonly policies?: readonly PolicyText[]
}

export interface Evidence {
  readonly format: typeof EVIDENCE_FORMAT
  readonly task: string
  readonly log: string
  /** Of the tree that the paths are of. */
  readonly size: number
  readonly checkpoint: string
  readonly records: readonly { readonly record: AuditRecord; readonly path: readonly string[] }[]
  readonly policies: readonly PoliciesInForce[]
  /** Every public key there ever was, as a JWKS. */
  readonly jwks: { readonly keys: readonly Json[] }
  /** A signed note over what is in here: see `statementText`. */
  readonly statement: string
}

export type EvidenceFault =
  | 'not_whole' // no evidence of a task, or not all of it
  | 'wrong_key' // none of the keys has signed it
  | 'bad_statement' // of another task, or of another tree
  | 'record_changed'
  | 'record_left_out'
  | 'record_added'
  | 'policy_swapped'
  | 'policy_left_out'
  | 'keys_changed'
  | 'log_damaged' // the copy of the log that it was compared with

export type Judged =
  | {
      readonly ok: true
      readonly task: string
      readonly origin: string
      readonly size: number
      readonly records: readonly AuditRecord[]
      /** Digests of policies that decided and are not in it. */
      readonly missingPolicies: readonly string[]
      /** By the keys in the file itself: whoever made it could have made those. */
      readonly byOwnKeys: boolean
    }
  | { readonly ok: false; readonly fault: EvidenceFault; readonly detail: string }

const MAX_PATH = 64

const digestOf = (value: Json): string => createHash('sha256').update(canonicalize(value)).digest('base64')

const leafOf = (record: AuditRecord): Buffer => leafHash(Buffer.from(canonicalize(record as Json), 'utf8'))

/** Whether it holds the task's id, anywhere. */
export const namesTask = (payload: Buffer, task: string): boolean => payload.includes(canonicalString(task))

/** Digests of the policies that tokens in the records were decided by, their ancestors' included. */
export function policiesNamed(records: readonly AuditRecord[]): readonly string[] {
  const named = records.flatMap(({ claims }) => {
    const { pol, hops } = (claims ?? {}) as { readonly pol?: Json; readonly hops?: readonly { readonly pol?: Json }[] }
    return [pol, ...(Array.isArray(hops) ? hops.map((hop) => hop?.pol) : [])]
  })
  return [...new Set(named.filter((each) => typeof each === 'string'))].sort()
}

/** What the issuer signs: no checkpoint has such a first line, so neither is ever taken for the other. */
export function statementText(
  origin: string,
  { task, size, records, policies, jwks }: Omit<Evidence, 'statement'>,
): string {
  const leaves = records.map(({ record }): Json => [record.i, leafOf(record).toString('base64')])
  return [
    EVIDENCE_FORMAT,
    origin,
    task,
    String(size),
    `records ${records.length} ${digestOf(leaves)}`,
    `policies ${policies.length} ${digestOf(policies as unknown as Json)}`,
    `keys ${jwks.keys.length} ${digestOf(jwks as Json)}`,
    '',
  ].join('\n')
}

/** `jwks`: the issuer's public keys from elsewhere. `policyDigest` says by what digest tokens name those policies. */
export function checkEvidence(
  evidence: Evidence,
  deps: {
    readonly jwks?: string
    readonly policyDigest: (policies: readonly PolicyText[]) => string | undefined
  },
): Judged {
  try {
    return judged(evidence, deps)
  } catch {
    // A member that is missing, or of another kind.
    return no('not_whole', 'it is not whole')
  }
}

const no = (fault: EvidenceFault, detail: string): Judged => ({ ok: false, fault, detail })

function judged(evidence: Evidence, { jwks, policyDigest }: Parameters<typeof checkEvidence>[1]): Judged {
  const { format, task, log, size, records, policies } = evidence
  if (format !== EVIDENCE_FORMAT) return no('not_whole', `its format is not ${EVIDENCE_FORMAT}`)
  const parsed = parseNote(evidence.checkpoint)
  const { origin = '' } = (parsed && parseCheckpoint(parsed.text)) ?? {}
  const statement = parseNote(evidence.statement)
  if (origin === '' || !statement) return no('not_whole', 'its checkpoint or its statement is none')
  const keys = readNoteKeys(jwks ?? JSON.stringify(evidence.jwks)).map((raw) => noteKey(origin, raw))
  const signed = openCheckpoint(evidence.checkpoint, keys)
  if (!signed) return no('wrong_key', 'none of the keys has signed its checkpoint')
  if (!isSignedBy(statement, keys)) return no('wrong_key', 'none of the keys has signed its statement')
  if (!origin.endsWith(`/log/${log}`) || signed.size !== size)
    return no('bad_statement', `its checkpoint is not of log ${log} with ${size} records`)

  for (const { record, path } of records) {
    const hashes = path.slice(0, MAX_PATH + 1).map((hash) => Buffer.from(hash, 'base64'))
    const formed = hashes.length <= MAX_PATH && hashes.every(({ length }) => length === HASH_BYTES)
    if (!formed || record['log'] !== log || !verifyInclusion(leafOf(record), record.i, size, hashes, signed.root))
      return no('record_changed', `record ${record.i} is not the one that stands in the log`)
  }
  for (const { digest, policies: texts } of policies) {
    if (texts !== undefined && policyDigest(texts) !== digest)
      return no('policy_swapped', `the policies given for ${digest} are others`)
  }

  const [said, saysOrigin, saysTask, saysSize, ...parts] = statement.text.split('\n')
  const [ownRecords, ownPolicies, ownKeys] = statementText(origin, evidence).split('\n').slice(4)
  if (said !== EVIDENCE_FORMAT || saysOrigin !== origin || saysTask !== task || saysSize !== String(size))
    return no('bad_statement', 'its statement is about another task, another log or another size')
  const countIn = (line: string | undefined) => Number(line?.split(' ')[1])
  if (parts[0] !== ownRecords) {
    const stated = countIn(parts[0])
    const detail = `the issuer signed ${stated} records, and there are ${records.length}`
    return records.length < stated ? no('record_left_out', detail) : no('record_added', detail)
  }
  if (parts[1] !== ownPolicies) {
    return countIn(parts[1]) > policies.length
      ? no(
          'policy_left_out',
          `the issuer signed ${countIn(parts[1])} sets of policies, and there are ${policies.length}`,
        )
      : no('policy_swapped', 'the policies are not those that the issuer signed')
  }
  if (parts[2] !== ownKeys) return no('keys_changed', 'the public keys in it are not those that the issuer signed')
  return {
    ok: true,
    task,
    origin,
    size,
    records: records.map(({ record }) => record),
    missingPolicies: policies.flatMap(({ digest, policies: texts }) => (texts === undefined ? [digest] : [])),
    byOwnKeys: jwks === undefined,
  }
}

/** Undefined where it is no JSON object. */
export function readEvidence(text: string): Evidence | undefined {
  try {
    const parsed = JSON.parse(text) as Evidence | null
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined
  } catch {
    return undefined
  }
}
