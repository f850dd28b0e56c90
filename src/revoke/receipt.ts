/**
 * The receipt of a revocation, and its check. What it says is one statement, signed; what anchors it are two records of
 * the audit log, whole, with their proofs to one signed checkpoint: that of the revocation, and that of the receipt,
 * which holds the statement's digest. So it verifies with the issuer's public keys alone.
 */
import { createHash } from 'node:crypto'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { canonicalize } from '../audit/canonical.ts'
import type { AuditRecord, Json } from '../audit/log.ts'
import { shownMatch } from './component-match.ts'
import type { Containment } from './containment.ts'
import type { TouchedTasks } from './containments.ts'
import type { Revocation } from './revocation-log.ts'

export interface AnchoredRecord {
  readonly index: number
  /** Canonical JSON, as it stands in the log: its hash is the leaf. */
  readonly record: string
  /** Base64, from the leaf to the root. */
  readonly path: readonly string[]
}

export interface Anchor {
  readonly id: string
  readonly size: number
  /** A signed note. */
  readonly checkpoint: string
  /** That of the revocation, where one could be written; then that of the receipt. */
  readonly records: readonly AnchoredRecord[]
}

/** What ended downstream. No secret is leased by this service, so there is none; each engine says what *ended* means. */
export interface DownstreamResult {
  readonly lease: string
  readonly connection: string
  readonly engine: string
  readonly ended: 'revoked' | 'expires' | 'rotation_needed' | 'pending'
  readonly until?: number
}

export interface Statement extends Omit<Containment, 'pending_downstream'> {
  readonly iss: string
  readonly iat: number
  readonly revocation: Json
  readonly tasks: TouchedTasks
  /** By component: those that it stands for. */
  readonly releases?: readonly string[]
  readonly downstream: readonly DownstreamResult[]
}

/** How the log writes a match: a subject stands beside it, as a keyed hash. */
const matchInLog = (match: Revocation['match']): { readonly [dimension: string]: string } =>
  match.sub === undefined ? { ...shownMatch(match) } : { ...shownMatch(match), sub: '(subject)' }

export function statementOf(facts: {
  readonly issuer: string
  readonly now: number
  readonly entry: Revocation
  readonly record: AuditRecord | undefined
  readonly containment: Containment
  readonly tasks: Statement['tasks']
  readonly releases?: readonly string[] | undefined
  /** Whether the subject is named: then the receipt is for nobody else. */
  readonly named: boolean
}): Statement {
  const { issuer, now, entry, record, tasks } = facts
  const { pending_downstream: _, ...containment } = facts.containment
  const { id, epoch, match, mode, reason, by, at } = entry
  const subject = record?.['subject']
  return {
    iss: issuer,
    iat: now,
    revocation: {
      id,
      epoch: `${epoch.generation}.${epoch.sequence}`,
      match: matchInLog(match),
      ...(subject === undefined ? {} : { subject }),
      ...(facts.named && match.sub !== undefined ? { subject_name: match.sub } : {}),
      mode,
      ...(record ? asRecorded(record) : limitsOf(entry)),
      reason,
      by,
      ...(entry.confirmedBy === undefined ? {} : { confirmed_by: entry.confirmedBy }),
      at,
    },
    ...containment,
    tasks,
    ...(facts.releases === undefined ? {} : { releases: facts.releases }),
    downstream: [],
  }
}

/** Names that a record holds; all of them stand in the entry. */
const MOST_RECORDED = 64

/** What was taken, and before which mark, as records and receipts say it. */
export function limitsOf({ taken, before }: Pick<Revocation, 'taken' | 'before'>): { readonly [name: string]: Json } {
  const names = taken && [...taken.tools, ...taken.operations]
  return {
    ...(names === undefined ? {} : { taken: names.slice(0, MOST_RECORDED) }),
    ...(names === undefined || names.length <= MOST_RECORDED ? {} : { taken_total: names.length }),
    ...(before === undefined ? {} : { before: formatEpoch(before) }),
  }
}

/** As the log says it, where it does: the two are held against one another. */
function asRecorded({ details }: AuditRecord): { readonly [name: string]: Json } {
  const said = (details ?? {}) as { readonly [name: string]: Json }
  const members = ['taken', 'taken_total', 'before'].filter((name) => said[name] !== undefined)
  return Object.fromEntries(members.map((name) => [name, said[name]!]))
}

/** Of a statement as it was signed: what the log holds of a receipt. */
export const statementDigest = (statement: object): string =>
  createHash('sha256')
    .update(canonicalize(statement as unknown as Json))
    .digest('base64url')
