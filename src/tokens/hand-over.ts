/**
 * The hand-over token: the holder of a token gives a part of its task to one named agent. Audience is the issuer, one
 * use, 60 s at most, refused by every tool (its `typ` is its own).
 */
import { createHash } from 'node:crypto'
import type { AccessTokenClaims, Actor, Hop, ToolAuthorization } from '@errand/verifier/claims.ts'
import { readAccessTokenClaims } from '@errand/verifier/claims-check.ts'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { type Inherited, unpackHops, type WholeHop } from '@errand/verifier/hops.ts'
import { type CheckedHop, hopsOf, trustDomainOf } from '@errand/verifier/shapes.ts'
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

/** What the hops of a token leave out where it is the same. */
export const inheritedFrom = (
  { aud, client_id, pol, rev }: Pick<AccessTokenClaims, 'aud' | 'client_id' | 'pol' | 'rev'>,
  kid: string,
): Inherited => ({ aud, client_id, kid, pol, rev })

/** What the token that stands behind a delegated one leaves in its descendants. */
export const hopFrom = (claims: AccessTokenClaims, kid: string): WholeHop => ({
  jti: claims.jti,
  task: claims.task.id,
  ...inheritedFrom(claims, kid),
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

/** Every hop that a hand-over token speaks of: its own, the token it was made from, and that token's ancestors. */
export function hopsOfHandOver(claims: HandOverClaims, kid: string): readonly CheckedHop[] | undefined {
  const { may_act: _, hops, ...rest } = claims
  const [parent, ...ancestors] = unpackHops(inheritedFrom(claims, kid), hops)
  // Own hop and ancestors as those of an access token; the token behind it was the same actor's.
  const behind = hopsOf({ ...rest, ...(ancestors.length === 0 ? {} : { hops: ancestors }) }, kid)
  const rev = parseEpoch(parent?.rev)
  if (!behind || !parent || !rev) return undefined
  const agent = claims.act?.sub ?? claims.sub
  return [
    ...behind,
    {
      rev,
      facts: {
        sub: claims.sub,
        root: claims.task.root,
        agent,
        domain: trustDomainOf(agent),
        jti: parent.jti,
        task: parent.task,
        aud: parent.aud,
        client_id: parent.client_id,
        kid: parent.kid,
        policy: parent.pol,
        ...(parent.rel === undefined ? {} : { release: parent.rel }),
      },
    },
  ]
}

function isParty(value: unknown): value is { iss: string; sub: string } {
  if (typeof value !== 'object' || value === null) return false
  const { iss, sub, ...more } = value as Record<string, unknown>
  return typeof iss === 'string' && typeof sub === 'string' && Object.keys(more).length === 0
}

/** The task that a hand-over opens is named after it: whoever revokes the one finds the other, and it opens once. */
export const handOverTaskId = ({ iss, jti }: Pick<HandOverClaims, 'iss' | 'jti'>): string =>
  `task_${createHash('sha256').update('task\0').update(iss).update('\0').update(jti).digest('base64url').slice(0, 22)}`

/** Under which a hand-over token is remembered as spent: by (iss, jti), never by its text. */
export const handOverSpendId = (claims: Pick<HandOverClaims, 'iss' | 'jti'>): string =>
  `hand-over:${createHash('sha256').update(claims.iss).update('\0').update(claims.jti).digest('base64url')}`
