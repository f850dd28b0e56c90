/**
 * What a signal of an identity provider does here: some events end everything of the user they are about (CAEP 1.0), the
 * rest is acknowledged and written down. Nothing else of it is believed.
 */
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import type { ReplayGuard } from '../../attest/replay-guard.ts'
import type { AuditEvent, AuditLog } from '../../audit/log.ts'
import { type Refusal, type Result, Unavailable } from '../../oauth/refusal.ts'
import type { SignOuts } from '../../tokens/sign-outs.ts'
import { SIGN_OUT_KNOWN_SECONDS, type SignOut } from '../sign-out.ts'
import { readSecurityEvent, type SecurityEvent, type Source } from './security-event.ts'
import { subjectNamedBy } from './subject-id.ts'
import { EVENT } from './words.ts'

/** `known` where somebody whose key had signed it was refused: written down already. */
export type Receive = (
  token: string,
  by: 'push' | Source,
  correlation?: string,
) => Promise<Result<string> & { readonly known: boolean }>

export interface ReceiveDeps {
  readonly now: () => number
  readonly issuer: string
  readonly issuers: () => Parameters<typeof subjectNamedBy>[1]
  readonly replayGuard: ReplayGuard
  readonly signOuts: Pick<SignOuts, 'settled'>
  readonly signOut: SignOut
  readonly audit: Pick<AuditLog, 'append'>
  readonly onUnrecorded?: (type: string) => void
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
    if (read.ok) {
      await act(deps, source!, read.value, correlation)
      return { ok: true, value: read.value.jti, known: true }
    }
    if (source) await refusedTo(deps, source, read.refusal, correlation)
    return { ...read, known: source !== undefined }
  }
}

/** A provider whose events are fetched pushes none. */
function sourceOf({ issuers }: ReceiveDeps, by: 'push' | Source, iss: string): Source | undefined {
  if (by !== 'push') return by.signals.transmitter === iss ? by : undefined
  return issuers().all.find(
    (issuer): issuer is Source => issuer.signals?.transmitter === iss && issuer.signals.poll === undefined,
  )
}

async function act(deps: ReceiveDeps, source: Source, event: SecurityEvent, correlation: string | undefined) {
  const kept = event.issuedAt + SIGN_OUT_KNOWN_SECONDS + CLOCK_LEEWAY_SECONDS
  const isFirst = () => deps.replayGuard.spend(event.id, kept)
  const more = correlation === undefined ? {} : { correlation }
  const by = `issuer:${source.name}`
  const ended = endedBy(event.events)
  const named = ended === undefined ? undefined : subjectNamedBy(userIn(event.subjectId), deps.issuers())
  // A provider speaks for its own users; what it says of anybody else's is noted and nothing more.
  if (ended === undefined || named?.found !== 'subject' || named.issuer.name !== source.name) {
    if (await isFirst()) await told(deps, { type: 'signal.received', by, ...more, details: detailsOf(event) })
    return
  }
  const { subject } = named
  const before = Math.min(ended.at ?? event.issuedAt, event.issuedAt)
  const settled = await deps.signOuts.settled(subject)
  const carriedOut = settled !== undefined && settled >= before
  if (carriedOut && !(await isFirst())) return
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
  if (!carriedOut) await isFirst()
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

const refusedTo = (deps: ReceiveDeps, source: Source, { reason }: Refusal, correlation: string | undefined) =>
  told(deps, {
    type: 'signal.refused',
    decision: 'refuse',
    reason,
    by: `issuer:${source.name}`,
    ...(correlation === undefined ? {} : { correlation }),
    details: { route: 'security event' },
  })

/** Nothing depends on these records. */
async function told(deps: ReceiveDeps, event: AuditEvent): Promise<void> {
  try {
    await deps.audit.append(event)
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    deps.onUnrecorded?.(event.type)
  }
}
