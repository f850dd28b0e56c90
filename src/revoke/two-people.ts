/**
 * Broad revocations that the configuration wants two people for: one administrator asks, another confirms exactly what
 * was asked, within 15 minutes and once. Meanwhile nothing is revoked; what is narrower one person does at once.
 */
import { createHash } from 'node:crypto'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { canonicalize } from '../audit/canonical.ts'
import type { AuditEvent, AuditLog, Json } from '../audit/log.ts'
import { ok, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import type { Bulk } from './bulk.ts'
import { shownMatch } from './component-match.ts'
import type { HeldRevocation, PendingRevocation, PendingRevocations } from './pending-revocations.ts'
import type { Revocation, RevocationLog, RevocationMode } from './revocation-log.ts'
import type { Revoke } from './revoke.ts'

const LIFETIME_SECONDS = 900
const TAKEN = 'another revocation has its id: ask for it anew'
/** They say whose tokens are meant: beside one of them a match is not broad, unless it is listed itself. */
const NARROW: readonly string[] = ['jti', 'task', 'root', 'sub', 'agent', 'client_id']

/** What is asked for; `id` where it may be asked for again. */
export type Asked = Omit<PendingRevocation, 'at' | 'expiresAt'>

export interface Made {
  readonly entry: Revocation
  readonly mode: RevocationMode
  readonly tasks: readonly string[]
  readonly releases?: readonly string[]
}

export interface TwoPeople {
  needed(match: HopFacts): boolean
  /** Answers it as it stands: where it was confirmed meanwhile, by whom. */
  ask(asked: Asked, correlation: string): Promise<Result<HeldRevocation>>
  /** `digest`: of what the person has seen. */
  confirm(id: string, by: string, digest: string, correlation: string): Promise<Result<Made>>
  find(id: string): Promise<PendingRevocation | undefined>
  /** Whether the id is of something that two people were asked for and that is not made: one person may not use it. */
  holds(id: string): Promise<boolean>
  open(): Promise<readonly PendingRevocation[]>
  /** What was confirmed, and a fault or a stop came in between of. What fails is reported, and keeps nothing else up. */
  finish(): Promise<void>
}

export interface TwoPeopleDeps {
  readonly now: () => number
  readonly held: PendingRevocations
  readonly log: Pick<RevocationLog, 'get'>
  /** Dimensions, `component` and `everything`, as the configuration in force lists them. */
  readonly broad: () => readonly string[]
  readonly isAdmin: (clientId: string) => boolean
  readonly revoke: Pick<Revoke, 'byMatch'>
  readonly bulk: Pick<Bulk, 'confirmed'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly onUnrecorded?: (type: string) => void
  /** What was confirmed cannot be carried out for now. */
  readonly onFault: (error: unknown) => void
}

export function isBroad(match: HopFacts, listed: readonly string[]): boolean {
  const named = Object.keys(shownMatch(match))
  if (named.length === 0) return listed.includes('everything')
  return (
    named.some((name) => listed.includes(name)) &&
    !named.some((name) => NARROW.includes(name) && !listed.includes(name))
  )
}

/** Of everything that is confirmed by it, and of when it ends. */
export function digestOf({ before, pin, ...rest }: PendingRevocation): string {
  const text = canonicalize({
    ...rest,
    ...(before === undefined ? {} : { before: formatEpoch(before) }),
    ...(pin === undefined ? {} : { tasks: pin.tasks }),
  } as unknown as Json)
  return createHash('sha256').update(text).digest('base64url')
}

export function createTwoPeople(deps: TwoPeopleDeps): TwoPeople {
  const { now, held } = deps

  async function told(event: AuditEvent): Promise<void> {
    try {
      await deps.audit.append(event)
    } catch (error) {
      // As with every revocation: it does not wait for a disk.
      if (!(error instanceof Unavailable)) throw error
      deps.onUnrecorded?.(event.type)
    }
  }

  const underWay = new Set<string>()
  /** Reported already: a sweep comes each second. */
  const faulty = new Set<string>()
  async function carryOut(
    pending: PendingRevocation,
    confirmedBy: string,
    correlation?: string,
  ): Promise<Result<Made>> {
    underWay.add(pending.id)
    try {
      return await carryOutOnce(pending, confirmedBy, correlation)
    } finally {
      underWay.delete(pending.id)
    }
  }

  /** Again, it does what is left to do. */
  async function carryOutOnce(
    pending: PendingRevocation,
    confirmedBy: string,
    correlation?: string,
  ): Promise<Result<Made>> {
    const { id, match, mode, taken, before, pin, reason, by } = pending
    const request = correlation === undefined ? {} : { correlation }
    const made = pin
      ? await deps.bulk.confirmed({ ...pin, confirmedBy }, reason, correlation)
      : await deps.revoke.byMatch({
          id,
          match,
          mode,
          ...(taken ? { taken } : {}),
          ...(before ? { before } : {}),
          reason,
          by,
          confirmedBy,
          ...request,
        })
    // The entry of this id is of something else: what was confirmed is not in force, so it is not done.
    if ('another' in made && made.another)
      return refuse('confirmation_changed', 'request', { proven: true, detail: TAKEN })
    await held.done(id)
    faulty.delete(id)
    return ok({ mode, ...made })
  }

  return {
    needed: (match) => isBroad(match, deps.broad()),
    async ask(asked, correlation) {
      const at = now()
      const expiresAt = Math.min(at + LIFETIME_SECONDS, asked.pin?.expiresAt ?? Number.POSITIVE_INFINITY)
      const wanted: PendingRevocation = { ...asked, at, expiresAt }
      const known = await held.find(asked.id)
      // The name of one that took nobody else.
      if (!known && (await deps.log.get(asked.id))) return refuse('idempotency_conflict', 'request', { proven: true })
      const stands = await held.ask(wanted)
      const { pending } = stands
      if (digestOf({ ...pending, at, expiresAt }) !== digestOf(wanted))
        return refuse('idempotency_conflict', 'request', { proven: true })
      if (!known) {
        const { match, mode, reason, by, id } = pending
        await told({
          type: 'revocation.asked',
          cause: id,
          by,
          correlation,
          ...(match.sub === undefined ? {} : { subject: match.sub }),
          details: {
            match: { ...shownMatch(match), ...(match.sub === undefined ? {} : { sub: '(subject)' }) },
            mode,
            reason,
            digest: digestOf(pending),
            expires_at: expiresAt,
          },
        })
      }
      return ok(stands)
    },
    async confirm(id, by, digest, correlation) {
      const no = (detail?: string) => ({ proven: true, ...(detail === undefined ? {} : { detail }) })
      // Read first: where it was made of what waits, that is known to be confirmed below.
      const made = await deps.log.get(id)
      const known = await held.find(id)
      if (!known) return refuse('not_found', 'request', no('no revocation of this id waits for a second person'))
      if (made && known.confirmedBy === undefined && !known.pending.pin)
        return refuse('confirmation_changed', 'request', no(TAKEN))
      if (digestOf(known.pending) !== digest) return refuse('confirmation_changed', 'request', no())
      if (!deps.isAdmin(known.pending.by))
        return refuse('confirmation_changed', 'request', no('whoever asked for it is no administrator any more'))
      const answer = await held.confirm(id, by, now())
      if (answer.outcome === 'unknown') return refuse('not_found', 'request', no())
      if (answer.outcome === 'own') return refuse('confirmation_own', 'request', no())
      if (answer.outcome === 'expired') return refuse('confirmation_expired', 'request', no())
      if (answer.outcome === 'used') return refuse('confirmation_used', 'request', no(`${answer.by} confirmed it`))
      return carryOut(answer.pending, by, correlation)
    },
    async find(id) {
      const known = await held.find(id)
      return known?.confirmedBy === undefined ? known?.pending : undefined
    },
    // A hold is asked for first: a revocation that is made of it meanwhile is found.
    holds: async (id) => (await held.find(id)) !== undefined && (await deps.log.get(id)) === undefined,
    open: () => held.open(now()),
    async finish() {
      for (const { pending, confirmedBy } of await held.unfinished()) {
        if (underWay.has(pending.id)) continue
        try {
          const made = await carryOut(pending, confirmedBy)
          if (!made.ok) throw new Error(`${pending.id} was confirmed: ${TAKEN}`)
        } catch (error) {
          if (!faulty.has(pending.id)) deps.onFault(error)
          faulty.add(pending.id)
        }
      }
    },
  }
}
