/**
 * Ends everything of a user, who may come again by signing in anew. In this order: the mark that refuses older sign-ins,
 * the entry that kills what was issued, the tasks. Stopping in between leaves less than was asked for, and whoever asked
 * has no answer and asks again.
 */
import type { AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'
import type { SignOuts } from '../tokens/sign-outs.ts'
import type { Revoke } from './revoke.ts'

/** How long an order may come again, late or repeated, and still be known. */
export const SIGN_OUT_KNOWN_SECONDS = 7 * 86_400
const MARGIN_SECONDS = 120

export interface SignOutRequest {
  readonly subject: string
  /** Unix seconds: sign-ins at or before it count no more. */
  readonly before: number
  /** How long the user's tokens of before may still be presented. */
  readonly tokensLiveSeconds: number
  readonly reason: string
  readonly by: string
  readonly correlation?: string
  /** What of a signal said so. */
  readonly event?: string
}

/** `added` is false where all of it had been carried out before. */
export type SignOut = (request: SignOutRequest) => Promise<{ readonly added: boolean; readonly tasks: number }>

export function createSignOut(deps: {
  readonly now: () => number
  readonly signOuts: SignOuts
  readonly revoke: Pick<Revoke, 'byMatch'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly onUnrecorded?: (type: string) => void
}): SignOut {
  return async ({ subject, before, tokensLiveSeconds, reason, by, correlation, event }) => {
    const now = deps.now()
    const settled = await deps.signOuts.settled(subject)
    const added = settled === undefined || settled < before
    let tasks: readonly string[] = []
    let entry: string | undefined
    if (added) {
      const kept = Math.max(tokensLiveSeconds, SIGN_OUT_KNOWN_SECONDS) + MARGIN_SECONDS
      await deps.signOuts.mark(subject, before, now + kept)
      // A ban that is over at once: it ends the tasks too, and stands in nobody's way who signs in anew.
      const done = await deps.revoke.byMatch({
        match: { sub: subject },
        mode: 'ban',
        banUntil: now,
        reason,
        by,
        ...(correlation === undefined ? {} : { correlation }),
      })
      tasks = done.tasks
      entry = done.entry.id
      await deps.signOuts.settle(subject, before)
    }
    try {
      await deps.audit.append({
        type: 'subject.signed_out',
        subject,
        by,
        ...(correlation === undefined ? {} : { correlation }),
        ...(entry === undefined ? {} : { cause: entry }),
        details: { added, before, reason, tasks: tasks.length, ...(event === undefined ? {} : { event }) },
      })
    } catch (error) {
      // After the effect, which stands also where the disk is full.
      if (!(error instanceof Unavailable)) throw error
      deps.onUnrecorded?.('subject.signed_out')
    }
    return { added, tasks: tasks.length }
  }
}
