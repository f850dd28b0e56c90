/** The chain of actors that a trusted issuer asserts (RFC 8693 §4.1): bounded before it is followed, agents only. */
import { type Actor, MAX_ACTORS } from '@errand/verifier/claims.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'

const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]{1,255}){1,16}$/

export function readActors(value: unknown, slot: 'subject_token' | 'assertion', depth = 1): Result<Actor> {
  if (depth > MAX_ACTORS) return refuse('depth', slot)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse('bad_claim', slot)
  const { sub, act, ...more } = value as Record<string, unknown>
  // What else an issuer says of an actor would be lost on the way: better refused than half believed.
  if (Object.keys(more).length > 0) return refuse('unknown_claim', slot)
  if (typeof sub !== 'string' || !SPIFFE_ID.test(sub)) return refuse('bad_claim', slot)
  if (act === undefined) return ok({ sub })
  const earlier = readActors(act, slot, depth + 1)
  return earlier.ok ? ok({ sub, act: earlier.value }) : earlier
}
