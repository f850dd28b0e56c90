/** The audit log's port: a record is durable before the effect it speaks of. */
import type { Reason, Unavailable } from '../oauth/refusal.ts'

export const EVENT_TYPES = [
  'token.issuing', // intent: durable before the token leaves
  'token.unsigned', // the intent came to nothing: who has the key did not sign
  'token.refused',
  'token.reissued', // the same claims signed again for an idempotent retry
  'token.introspected',
  'token.inspected_refused', // introspection or revocation by somebody it is not for
  'task.opened',
  'agent.admitted', // of a platform, seen for the first time
  'task.ended',
  'task.suspended',
  'task.contained',
  'task.heartbeat',
  'task.reserved',
  'task.refused',
  'revocation.added',
  'revocation.asked', // for a second person to confirm; nothing is revoked by it
  'revocation.expanded', // by component: which releases it stands for
  'revocation.readmitted',
  'revocation.resumed',
  'revocation.marked', // a place in the log by time, each minute in which something was issued
  'receipt.issued', // its statement's digest: the receipt carries the proof of this record
  'drill.finished',
  'subject.signed_out', // everything of a user ended; they may sign in again
  'signal.received', // a security event that ends nothing
  'signal.stream', // a receiver of security events manages its stream
  'signal.refused', // an order or a signal of somebody who is known
  'decision.evaluated', // AuthZEN and dry_run
  'agent.joining', // intent: an agent registers a key of its own with a join token
  'agent.join_refused',
  'key.moved',
  'config.loaded',
  'config.rejected',
  'trust.changed', // intent: another bundle of a trust domain takes effect
  'admin.acted',
  'admin.refused',
  'strangers.refused', // folded: source, reason, second, count
  'store.sealed', // it may have lost something
  'store.unsealed',
  'service.sealed', // by an administrator: nothing is issued
  'service.unsealed',
  'service.started',
  'service.stopped',
  'clock_regressed',
  'recovered_tail',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** JSON without undefined: what a record may hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json }

/** What a use case says; `audit/record.ts` turns it into the canonical record. */
export interface AuditEvent {
  readonly type: EventType
  readonly decision?: 'permit' | 'refuse'
  readonly reason?: Reason
  /** `dec_…` */
  readonly decisionId?: string
  /** client_id of the agent. */
  readonly agent?: string
  /** The subject in the clear: the record holds a keyed hash, and the clear value sealed under a key per subject. */
  readonly subject?: string
  readonly task?: string
  readonly parentTask?: string
  readonly root?: string
  readonly tool?: string
  readonly operations?: readonly string[]
  /** Ids of the policies or checks that determined it. */
  readonly rules?: readonly string[]
  readonly attestation?: { readonly kind: string; readonly tier: string; readonly release?: string }
  readonly risk?: string
  /** The request's correlation id, `req_…`, or the caller's own where it sent one. */
  readonly correlation?: string
  /** jti, decision or revocation that this one follows from. */
  readonly cause?: string
  /** The epoch known when it was written. */
  readonly epoch?: string
  readonly jti?: string
  /** The whole claims of an intent, `sub` included: the record seals what is personal. Never a token. */
  readonly claims?: { readonly [name: string]: Json }
  /** Sealed in the record. */
  readonly purpose?: string
  /** Who acted where it was no agent: `admin`, a tool's client id, `system`. */
  readonly by?: string
  /** Folded records: address block and count. */
  readonly source?: string
  readonly count?: number
  /** Everything else worth knowing; no secrets, no tokens, no personal data. */
  readonly details?: { readonly [name: string]: Json }
}

const ENDINGS: readonly EventType[] = [
  'revocation.added',
  'task.ended',
  'task.suspended',
  'task.contained',
  'subject.signed_out',
  'service.sealed',
]

/** That somebody, and not the service by itself, ended something: it is recorded also where the disk is full. */
export const endsByOrder = ({ type, by }: AuditEvent): boolean => ENDINGS.includes(type) && by !== 'system'

export interface Receipt {
  readonly logId: string
  readonly index: number
}

/** A record as it stands in the log, read back: canonical JSON, parsed. */
export interface AuditRecord {
  readonly v: 1
  /** Index in the log, from 0. */
  readonly i: number
  /** Unix milliseconds. Order is by index; this is for people. */
  readonly t: number
  readonly type: EventType
  readonly [name: string]: Json | undefined
}

export interface AuditLog {
  readonly logId: string
  /**
   * Resolves when the record is on disk (one sync may serve many). Throws `Unavailable('audit_unavailable')` where
   * it cannot be made durable; the effect it announces must then not happen.
   */
  append(event: AuditEvent): Promise<Receipt>
  /** Counts a refused stranger into the folded record of (source, reason, second). Never throws, never waits. */
  countStranger(source: string, reason: Reason): void
  /** Whether appending works at this moment, for `/ready`. */
  healthy(): boolean
  /** Why nothing may be issued though records are taken: a mirror that must not fall behind has. */
  holding?(): Unavailable | undefined
  /** Finishes what is queued, syncs and closes. */
  close(): Promise<void>
}

export interface AuditSearch {
  /** Unix milliseconds, as `t`; both ends are included. A search by id takes them as a hint. */
  readonly since?: number
  readonly until?: number
  /** The newest that matches besides, however old it is. */
  readonly newest?: boolean
  readonly type?: EventType
  readonly agent?: string
  /** In the clear; compared by its keyed hash. */
  readonly subject?: string
  readonly task?: string
  /** Every task of the tree below it. */
  readonly root?: string
  readonly jti?: string
  readonly decisionId?: string
  readonly reason?: string
  /** What it follows from: a revocation, say. */
  readonly cause?: string
  /** A text that stands in it whole, as whatever member. */
  readonly mentions?: string
  readonly limit?: number
}

export interface AuditReader {
  readonly size: number
  get(index: number): Promise<AuditRecord | undefined>
  /** Records that match, newest first. */
  search(query: AuditSearch): Promise<readonly AuditRecord[]>
  /** Records from `index` on, oldest first, at most `limit`. */
  from(index: number, limit: number): Promise<readonly AuditRecord[]>
  /** The sealed parts in the clear (`subject`, `purpose`, the claims' `sub`); undefined where the person was erased. */
  unseal(record: AuditRecord): Promise<Unsealed | undefined>
}

export interface Unsealed {
  readonly subject?: string
  readonly purpose?: string
  /** The claims of an intent, whole again. */
  readonly claims?: { readonly [name: string]: Json }
}
