/** After a start: counts the tokens that were issued before it and still live, as the audit log says. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type AccessTokenClaims, MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { hopsOf } from '@errand/verifier/shapes.ts'
import type { AuditReader, AuditRecord } from '../audit/log.ts'
import { type HandOverClaims, hopsOfHandOver } from '../tokens/hand-over.ts'
import type { LiveTokens } from './live-tokens.ts'

/** Seconds that the clock may have been wrong by while they were written. */
const SLACK_SECONDS = 60
const PAGE = 200
/** Of what is older, nothing is known but how many records there are. */
const MAX_READ = 500_000

export interface LiveRestoreDeps {
  readonly reader: Pick<AuditReader, 'size' | 'get' | 'from' | 'unseal'>
  readonly live: Pick<LiveTokens, 'note' | 'noteUnknown' | 'uncounted'>
  readonly now: () => number
  readonly stopped?: () => boolean
}

/** Where records have their key's id nothing stands: which key signed is not known of them. */
const NO_KID = ''

/**
 * Reads what was in the log when it was called. Until it is done, and for what it does not read, every count is an upper
 * bound: a record is one token at most.
 */
export async function restoreLive({ reader, live, now, stopped }: LiveRestoreDeps): Promise<void> {
  const end = reader.size
  const until = now() + MAX_TOKEN_LIFETIME_SECONDS
  live.uncounted(end, until)
  const first = await firstSince(reader, end, (now() - MAX_TOKEN_LIFETIME_SECONDS - SLACK_SECONDS) * 1000)
  const start = Math.max(first, end - MAX_READ)
  const skipped = start - first
  const subjects = new Map<string, string | undefined>()
  for (let at = start; at < end && !stopped?.(); ) {
    live.uncounted(skipped + end - at, until)
    const records = await reader.from(at, Math.min(PAGE, end - at))
    if (records.length === 0) break
    for (const record of records) if (record.type === 'token.issuing') await count(record)
    at += records.length
    if (at >= end) live.uncounted(skipped, until)
    await nextTurn()
  }
  if (start >= end) live.uncounted(skipped, until)

  async function count(record: AuditRecord): Promise<void> {
    const claims = record['claims'] as unknown as AccessTokenClaims | HandOverClaims
    if (claims.exp <= now()) return
    const sub = typeof claims.sub === 'string' ? claims.sub : await subjectOf(record)
    const rev = parseEpoch(claims.rev)
    // What others take says nothing of its task; of somebody who was erased nothing is known.
    if (sub === undefined || !rev || !('task' in claims)) {
      live.noteUnknown(claims.exp)
      return
    }
    const { aud, exp, client_id: clientId, pol, task, act, att, hops = [] } = claims
    const whole = { ...claims, sub }
    live.note(
      {
        kid: NO_KID,
        audience: aud,
        expiresAt: exp,
        clientId,
        policyDigest: pol,
        task,
        attestation: att,
        hops,
        ...(act === undefined ? {} : { actor: act }),
      },
      rev,
      () => ('may_act' in whole ? hopsOfHandOver(whole, NO_KID) : hopsOf(whole, NO_KID)),
    )
  }

  async function subjectOf(record: AuditRecord): Promise<string | undefined> {
    const hash = String(record['subject'])
    if (!subjects.has(hash)) {
      const sub = (await reader.unseal(record))?.claims?.['sub']
      subjects.set(hash, typeof sub === 'string' ? sub : undefined)
    }
    return subjects.get(hash)
  }
}

/** The first record of that time or later, in a log whose times ascend but for the slack. */
async function firstSince(reader: LiveRestoreDeps['reader'], end: number, sinceMs: number): Promise<number> {
  let low = 0
  let high = end
  while (low < high) {
    const middle = (low + high) >> 1
    if (((await reader.get(middle))?.t ?? 0) < sinceMs) low = middle + 1
    else high = middle
  }
  return low
}
