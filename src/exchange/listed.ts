/** The place in a status list of a token for a tool that reads such lists; other tokens have none, and cost nothing here. */
import { createHash } from 'node:crypto'
import type { StatusClaim } from '@errand/verifier/claims.ts'
import { hopsOf } from '@errand/verifier/shapes.ts'
import type { TokenFacts } from '../tokens/issue.ts'
import type { RevocationAnswer } from '../tokens/revocations.ts'
import type { StatusIndex } from '../tokens/status.ts'
import { type ExchangeDeps, issuingHop, type Prepared } from './prepared.ts'

export interface Listed {
  /** What tokens have in common that every revocation kills together, but for those before a cut. */
  readonly group: string
  readonly held?: StatusIndex
}

export function listedIn(deps: ExchangeDeps, prepared: Prepared, kid: string, root: string): Listed | undefined {
  const { target, handOverTo, standing } = prepared
  if (!target.tool.statusList || target.tool.takes || handOverTo !== undefined) return undefined
  const { jti: _, ...own } = issuingHop(prepared, '', kid, root)
  const text = JSON.stringify([own, standing.actor ?? null, standing.hops])
  const group = createHash('sha256').update(text).digest('base64url')
  const held = deps.statusIndexes.held(group)
  return { group, ...(held ? { held } : {}) }
}

/** What the check says of the token itself, and whether it may have the index that was asked about after `own` hops. */
export function apart(
  answer: RevocationAnswer,
  own: number,
): { readonly answer: RevocationAnswer; readonly marked: boolean } {
  if (!answer.dead || answer.dead.hop < own) return { answer, marked: false }
  const { dead: _, ...rest } = answer
  return { answer: rest, marked: true }
}

/** Its place, under which a revocation by its id finds it wherever that is heard. */
export async function statusFor(...its: Parameters<typeof placeFor>): Promise<StatusClaim> {
  const [deps, , , { jti, expiresAt }] = its
  const status = await placeFor(...its)
  await deps.statusIndexes.enter(jti, status, expiresAt)
  return status
}

/** The index held, where it is not marked; or another, which stands for what is checked from this token on. */
async function placeFor(
  deps: ExchangeDeps,
  { group, held }: Listed,
  marked: boolean,
  facts: TokenFacts,
  { epoch }: RevocationAnswer,
): Promise<StatusClaim> {
  // A store that lost what it held began other lists.
  const isUsable = held && !marked && held.hops[0]!.rev.generation === epoch.generation
  if (isUsable && (await deps.statusIndexes.keep(held, facts.expiresAt))) return held.status
  const [own, ...others] = hopsOf(deps.issuer.draft(facts), facts.kid) ?? []
  if (!own) throw new Error('the token just drafted does not say what could revoke it')
  const { jti: _, ...kind } = own.facts
  const hops = [{ rev: own.rev, facts: kind }, ...others.map(({ rev, facts: its }) => ({ rev, facts: its }))]
  return (await deps.statusIndexes.take(group, hops, facts.expiresAt)).status
}
