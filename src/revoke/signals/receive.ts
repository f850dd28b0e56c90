/**
 * What a signal of an identity provider does here: some events end everything of the user they are about (CAEP 1.0), the
 * rest is acknowledged and written down. Nothing else of it is believed.
 */
import { createHash } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import type { ReplayGuard } from '../../attest/replay-guard.ts'
import type { AuditEvent, AuditLog } from '../../audit/log.ts'
import { ok, type Refusal, type Result, refuse, Unavailable } from '../../oauth/refusal.ts'
import type { SignOuts } from '../../tokens/sign-outs.ts'
import { SIGN_OUT_KNOWN_SECONDS, type SignOut } from '../sign-out.ts'
import { readSecurityEvent, type SecurityEvent, type Source } from './security-event.ts'
import { subjectNamedBy } from './subject-id.ts'
import { EVENT } from './words.ts'

/** What one provider may have carried out or written down in a second: each is an entry that verifiers keep, or a record. */
const EVENTS_PER_SECOND = 100
/** Whoever was sent an event of a provider that is not for us can send it here: such have a ration beside that. */
const REFUSALS_PER_SECOND = 1
const REFUSED_KNOWN_SECONDS = 86_400

/**
 * `known` where the key of a provider had signed it. `first` where it was that and had not come before: carried out, or
 * refused and written down. Whatever comes again is paid for by who sends it.
 */
export type Receive = (
  token: string,
  by: 'push' | Source,
  correlation?: string,
) => Promise<Result<string> & { readonly known: boolean; readonly first: boolean }>

export interface ReceiveDeps {
  readonly now: () => number
  readonly issuer: string
  readonly issuers: () => Parameters<typeof subjectNamedBy>[1]
  readonly replayGuard: ReplayGuard
  readonly signOuts: Pick<SignOuts, 'settled'>
  readonly signOut: SignOut
  readonly audit: Pick<AuditLog, 'append'>
  readonly onUnrecorded?: (type: string) => void
  /** Seconds to wait, or 0 where one more of so many a second may go on. */
  readonly ration: (key: string, perSecond: number) => number
}

export function createReceive(deps: ReceiveDeps): Receive {
  return async (token, by, correlation) => {
    let source: Source | undefined
    const read = await readSecurityEvent(
      token,
      { now: deps.now(), audience: deps.issuer, sourceOf: (iss) => sourceOf(deps, by, iss) },
      (known) => {
        source = known
      },
    )
    if (!read.ok) {
      const first = source !== undefined && (await refusedTo(deps, source, token, read.refusal, correlation))
      return { ...read, known: source !== undefined, first }
    }
    const done = await act(deps, source!, read.value, correlation)
    if (!done.ok) return { ...done, known: true, first: false }
    return { ok: true, value: read.value.jti, known: true, first: done.value }
  }
}

/** A provider whose events are fetched pushes none. */
function sourceOf({ issuers }: ReceiveDeps, by: 'push' | Source, iss: string): Source | undefined {
  if (by !== 'push') return by.signals.transmitter === iss ? by : undefined
  return issuers().all.find(
    (issuer): issuer is Source => issuer.signals?.transmitter === iss && issuer.signals.poll === undefined,
  )
}

/** Whether it was the first time. */
async function act(
  deps: ReceiveDeps,
  source: Source,
  event: SecurityEvent,
  correlation: string | undefined,
): Promise<Result<boolean>> {
  const kept = event.issuedAt + SIGN_OUT_KNOWN_SECONDS + CLOCK_LEEWAY_SECONDS
  // What ends something is let in also where the disk is full.
  const isFirst = (ends = false) => deps.replayGuard.spend(event.id, kept, ends)
  const ration = () => deps.ration(`signals:${source.name}`, EVENTS_PER_SECOND)
  const more = correlation === undefined ? {} : { correlation }
  const by = `issuer:${source.name}`
  const ended = endedBy(event.events)
  const named = ended === undefined ? undefined : subjectNamedBy(userIn(event.subjectId), deps.issuers())
  // A provider speaks for its own users; what it says of anybody else's is noted and nothing more.
  if (ended === undefined || named?.found !== 'subject' || named.issuer.name !== source.name) {
    if (!(await isFirst())) return ok(false)
    if (ration() > 0) deps.onUnrecorded?.('signal.received')
    else await told(deps, { type: 'signal.received', by, ...more, details: detailsOf(event) })
    return ok(true)
  }
  const { subject } = named
  const before = Math.min(ended.at ?? event.issuedAt, event.issuedAt)
  const settled = await deps.signOuts.settled(subject)
  const carriedOut = settled !== undefined && settled >= before
  if (carriedOut && !(await isFirst(true))) return ok(false)
  const wait = ration()
  if (carriedOut && wait > 0) {
    deps.onUnrecorded?.('subject.signed_out')
    return ok(true)
  }
  // Nothing of it is spent: it comes again, and is carried out then.
  if (wait > 0) return refuse('rate_limited', 'api', { retryAfterSeconds: wait })
  await deps.signOut({
    subject,
    before,
    tokensLiveSeconds: source.maxTokenLifetimeSeconds,
    reason: `a signal of the identity provider: ${nameOf(ended.type)}`,
    by,
    ...more,
    event: ended.type,
  })
  // Spent last: cut off before, it comes again and is carried out then.
  if (!carriedOut) await isFirst(true)
  return ok(true)
}

/** Which event ends everything of its user, and when it happened, where it says. */
function endedBy(
  events: SecurityEvent['events'],
): { readonly type: string; readonly at: number | undefined } | undefined {
  for (const [type, event] of Object.entries(events)) {
    if (typeof event !== 'object' || event === null || !ends(type, event as Readonly<Record<string, unknown>>)) continue
    const at = (event as Readonly<Record<string, unknown>>)['event_timestamp']
    return { type, at: typeof at === 'number' && Number.isSafeInteger(at) && at >= 0 ? at : undefined }
  }
  return undefined
}

function ends(type: string, event: Readonly<Record<string, unknown>>): boolean {
  switch (type) {
    case EVENT.sessionRevoked:
      return true
    case EVENT.credentialChange:
      // A credential that was added takes nothing from those that there are.
      return event['change_type'] !== 'create'
    case EVENT.riskLevelChange:
      return event['principal'] === 'USER' && event['current_level'] === 'HIGH'
    default:
      return false
  }
}

/** SSF §3.3: of a complex subject the user; that only one session of theirs ended does not keep the others here. */
function userIn(subjectId: unknown): unknown {
  if (typeof subjectId !== 'object' || subjectId === null) return subjectId
  const { format, user } = subjectId as Readonly<Record<string, unknown>>
  return format === 'complex' ? user : subjectId
}

const nameOf = (type: string): string => type.slice(type.lastIndexOf('/') + 1)
const detailsOf = ({ jti, events }: SecurityEvent) => ({ set: jti, events: Object.keys(events).slice(0, 8) })

/** Written down once, and of each provider some at a time: whether it was. */
async function refusedTo(
  deps: ReceiveDeps,
  source: Source,
  token: string,
  { reason }: Refusal,
  correlation: string | undefined,
): Promise<boolean> {
  if (deps.ration(`refused-signals:${source.name}`, REFUSALS_PER_SECOND) > 0) return false
  // Of what was signed alone: some signatures can be written in two ways.
  const signed = createHash('sha256')
    .update(token.slice(0, token.lastIndexOf('.')))
    .digest('base64url')
  if (!(await deps.replayGuard.spend(`refused-event:${signed}`, deps.now() + REFUSED_KNOWN_SECONDS))) return false
  await told(deps, {
    type: 'signal.refused',
    decision: 'refuse',
    reason,
    by: `issuer:${source.name}`,
    ...(correlation === undefined ? {} : { correlation }),
    details: { route: 'security event' },
  })
  return true
}

/** Nothing depends on these records. */
async function told(deps: ReceiveDeps, event: AuditEvent): Promise<void> {
  try {
    await deps.audit.append(event)
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    deps.onUnrecorded?.(event.type)
  }
}
