/**
 * The hand-over token: the holder of a token gives a part of its task to one named agent. Audience is the issuer, one
 * use, 60 s at most, refused by every tool (its `typ` is its own).
 */
import { createHash } from 'node:crypto'
import type { AccessTokenClaims, Actor, Hop, ToolAuthorization } from '@errand/verifier/claims.ts'
import { readAccessTokenClaims } from '@errand/verifier/claims-check.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'

export interface HandOverClaims {
  readonly iss: string
  /** The issuer itself. */
  readonly aud: string
  readonly exp: number
  readonly iat: number
  readonly jti: string
  /** Who handed over. */
  readonly client_id: string
  readonly sub: string
  /** RFC 8693 §4.4: the one agent that may act on it. */
  readonly may_act: { readonly iss: string; readonly sub: string }
  readonly act?: Actor
  readonly scope: string
  readonly authorization_details: readonly ToolAuthorization[]
  /** The task of which a part is handed over: the parent of the task to be opened. */
  readonly task: AccessTokenClaims['task']
  readonly att: AccessTokenClaims['att']
  readonly rev: string
  readonly pol: string
  /** The hop of the token it was made from, then that token's own. */
  readonly hops: readonly Hop[]
  readonly dev?: true
}

/** What the token that stands behind a delegated one leaves in its descendants. */
export const hopFrom = (claims: AccessTokenClaims, kid: string): Hop => ({
  jti: claims.jti,
  task: claims.task.id,
  aud: claims.aud,
  client_id: claims.client_id,
  kid,
  pol: claims.pol,
  rev: claims.rev,
  ...(claims.att.release === undefined ? {} : { rel: claims.att.release }),
})

/**
 * Reads the claims of a hand-over token whose signature holds. Its first hop is the token it was made from, so without
 * `may_act` and that hop it must read as an access token with one hop less than actors: the same schema serves both.
 */
export function readHandOverClaims(payload: Readonly<Record<string, unknown>>): Result<HandOverClaims> {
  const { may_act: mayAct, hops, ...rest } = payload
  if (!isParty(mayAct) || !Array.isArray(hops) || hops.length === 0) return refuse('bad_claim', 'subject_token')
  const ancestors = hops.slice(1)
  const read = readAccessTokenClaims({ ...rest, ...(ancestors.length === 0 ? {} : { hops: ancestors }) })
  if (!read.ok) return refuse(read.fault, 'subject_token')
  return ok({ ...read.value, may_act: mayAct, hops: hops as readonly Hop[] })
}

function isParty(value: unknown): value is { iss: string; sub: string } {
  if (typeof value !== 'object' || value === null) return false
  const { iss, sub, ...more } = value as Record<string, unknown>
  return typeof iss === 'string' && typeof sub === 'string' && Object.keys(more).length === 0
}

/** Under which a hand-over token is remembered as spent: by (iss, jti), never by its text. */
export const handOverSpendId = (claims: Pick<HandOverClaims, 'iss' | 'jti'>): string =>
  `hand-over:${createHash('sha256').update(claims.iss).update('\0').update(claims.jti).digest('base64url')}`
