/** From a decision to a token: time, revocation, effects, record, signature; and the same again for a retry (D20). */
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { type CheckedHop, hopsOf } from '@errand/verifier/shapes.ts'
import { newJti } from '../audit/ids.ts'
import type { Receipt } from '../audit/log.ts'
import { ok, type Result, Unavailable } from '../oauth/refusal.ts'
import { TOKEN_TYPE } from '../oauth/words.ts'
import { type HandOverClaims, hopsOfHandOver } from '../tokens/hand-over.ts'
import { type Signed, type TokenFacts, tokenLength } from '../tokens/issue.ts'
import type { Wire } from './authenticate.ts'
import { type ForeignClaims, signForeign } from '../tokens/foreign.ts'
import { draftForeign, foreignScope, foreignTokenType } from './foreign.ts'
import { apart, listedIn, statusFor } from './listed.ts'
import { openAndCharge } from './open-and-charge.ts'
import {
  checkRevocation,
  type ExchangeDeps,
  issuingHop,
  lifetime,
  type No,
  type Prepared,
  refusedByRevocation,
  rootOf,
  signedOut,
  tokenType,
  tooLate,
  type TokenResponse,
  type JudgeAgain,
  unread,
} from './prepared.ts'
import { permitEvent, unsignedEvent } from './record.ts'
import { CLAIM_SECONDS, type HeldKey } from './retry.ts'
import type { Standing } from './standing.ts'

export async function issue(
  deps: ExchangeDeps,
  prepared: Prepared,
  wire: Wire,
  held: HeldKey | undefined,
  no: No,
): Promise<Result<TokenResponse> | JudgeAgain> {
  const { standing, decision, target, proven, directory, taskId, handOverTo } = prepared
  const key = held?.key
  // Time is read before revocation is asked: a paused issuer can only make a token that is already old.
  const now = deps.now()
  const kid = deps.keys.activeKid(target.tool.takes?.kind ?? 'token')
  const jti = newJti(deps.audit.logId, deps.nowMs())
  const place = rootOf(prepared)
  const late = tooLate(prepared, now)
  if (late) return no(late)
  const life = lifetime(prepared, now)
  const listed = listedIn(deps, prepared, kid, place.root)
  const { checked } = standing
  const asked = listed?.held ? [...checked, ...listed.held.hops] : checked
  const whole = await checkRevocation(deps, prepared, jti, kid, place.root, asked)
  const { answer, marked } = apart(whole, checked.length)
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)
  const after = unread(answer, prepared)
  if (after.length > 0) return { after }
  const left = await signedOut(deps, prepared.standing)
  if (left) return no(left)

  const granted = deps.granted(decision, target.tool)
  const unlisted: TokenFacts = {
    jti,
    kid,
    audience: target.tool.audience,
    issuedAt: now,
    expiresAt: now + life,
    clientId: proven.attested.agent.clientId,
    subject: standing.subject.id,
    ...(standing.actor ? { actor: standing.actor } : {}),
    scope: granted.scope,
    details: granted.details,
    ...(proven.confirmation ? { confirmation: proven.confirmation } : {}),
    task: { id: taskId, root: place.root, depth: place.depth },
    attestation: {
      kind: proven.attested.kind,
      tier: proven.attested.tier,
      ...(proven.attested.release === undefined ? {} : { release: proven.attested.release }),
    },
    epoch: formatEpoch(answer.epoch),
    policyDigest: decision.policyDigest,
    hops: handOverTo === undefined ? standing.hops : [ownHop(standing), ...standing.hops],
    development: directory.settings.developmentShortcuts.length > 0,
  }
  const facts = listed ? { ...unlisted, status: await statusFor(deps, listed, marked, unlisted, answer) } : unlisted
  const { agent } = proven.attested
  const foreign = draftForeign(directory.settings.issuer, facts, target, decision, agent, prepared.context)
  const own = () => (handOverTo === undefined ? deps.issuer.draft(facts) : deps.issuer.draftHandOver(facts, handOverTo))
  const claims = foreign ?? own()
  // A hand-over goes to us alone, and what is for others is not ours to measure.
  const text = foreign || handOverTo !== undefined ? undefined : JSON.stringify(claims)
  if (text !== undefined && tokenLength(text, kid) > MAX_TOKEN_BYTES) {
    return no({
      reason: 'token_too_large',
      slot: 'request',
      detail: 'the token would be larger than 2 KB',
      explanation: { next: 'ask for fewer operations' },
    })
  }

  // Effects come after their record; those that can still refuse come before it, and only while it can be written.
  if (!deps.audit.healthy()) throw new Unavailable('audit_unavailable', 'the audit log cannot be written')
  const behind = deps.audit.holding?.()
  if (behind) throw behind
  const charged = await openAndCharge(deps, prepared, place, now, key)
  if (!charged.ok) return no(charged.refusal)

  const event = permitEvent(facts, claims, prepared, { granted, wire, parent: place.parent?.id })
  // The charge and its record reach the disk beside one another; nothing leaves before both have.
  const { durable } = charged.value
  const written = deps.audit.append(event)
  const receipt = await written
  await durable
  if (held && deps.now() - held.since > CLAIM_SECONDS) {
    throw new Unavailable('overloaded', 'the exchange took longer than its idempotency key is held')
  }
  const ownFacts = () => issuingHop(prepared, jti, kid, place.root)
  deps.noteIssued(facts, answer.epoch, () =>
    foreign ? [{ rev: answer.epoch, facts: ownFacts() }, ...standing.checked] : hopsWithin(claims, kid),
  )
  let token: string
  try {
    const signed = sign(deps, claims, kid, text)
    token = typeof signed === 'string' ? signed : await signed
  } catch (cause) {
    await deps.audit.append(unsignedEvent(event, cause)).catch(() => undefined) // the next request is told why
    throw cause
  }
  const response = respond(prepared, facts, token, receipt)
  if (key !== undefined) {
    const { access_token: _, ...rest } = response
    const hop = { rev: answer.epoch, facts: ownFacts() }
    const recorded: Recorded = { ...rest, kid, claims, ...(foreign ? { hop } : {}) }
    const sealed = deps.sealer.seal(SEALED, key, Buffer.from(JSON.stringify(recorded)))
    await deps.idempotency.complete(key, { ...receipt, response: sealed })
  }
  return ok(response)
}

/** Tool APIs take it in a header, beside a proof (DESIGN.md, *Access token*). */
const MAX_TOKEN_BYTES = 2048

const ownHop = (standing: Standing): Standing['hops'][number] => {
  const own = standing.checked[0]!
  const { facts, rev } = own
  return {
    jti: facts.jti!,
    task: facts.task!,
    aud: facts.aud!,
    client_id: facts.client_id!,
    kid: facts.kid!,
    pol: facts.policy!,
    rev: formatEpoch(rev),
    ...(facts.release === undefined ? {} : { rel: facts.release }),
  }
}

function respond(prepared: Prepared, facts: TokenFacts, token: string, { logId, index }: Receipt): TokenResponse {
  const { handOverTo, taskId, decisionId, target, decision } = prepared
  return {
    access_token: token, // RFC 8693 §2.2.1: so named whatever it is
    issued_token_type:
      foreignTokenType(target.tool) ?? (handOverTo === undefined ? TOKEN_TYPE.accessToken : TOKEN_TYPE.handOver),
    token_type: tokenType(prepared, facts.confirmation),
    expires_in: facts.expiresAt - facts.issuedAt,
    scope: target.tool.takes ? foreignScope(decision, target.tool) : facts.scope,
    authorization_details: facts.details,
    task_id: taskId,
    decision_id: decisionId,
    log: { id: logId, index },
  }
}

const SEALED = 'idempotency'

/** What is kept of a first try: the answer without its token, and the claims to sign again, at whichever replica. */
type Recorded = Omit<TokenResponse, 'access_token'> & {
  readonly kid: string
  readonly claims: AccessTokenClaims | HandOverClaims | ForeignClaims
  /** Of a token for others, which says nothing of it itself. */
  readonly hop?: CheckedHop
}

/** The recorded claims signed again, after evidence was shown anew and revocation was asked anew (D20). */
export async function reissue(
  deps: ExchangeDeps,
  prepared: Prepared,
  key: string,
  first: { readonly response: string },
  wire: Wire,
  no: No,
): Promise<Result<TokenResponse> | 'policy_changed'> {
  const opened = Buffer.from(deps.sealer.open(SEALED, key, first.response)).toString('utf8')
  const { kid, claims, hop, ...response } = JSON.parse(opened) as Recorded
  const now = deps.now()
  if (now >= claims.exp)
    return no({ reason: 'expired', slot: 'request', detail: 'what the first try issued has expired' })
  const own = hop ? [hop] : hopsWithin(claims, kid)
  const { jti, task, root, client_id: agent } = own?.[0]?.facts ?? {}
  if (!own || jti === undefined || task === undefined || root === undefined || agent === undefined)
    throw new Error('the recorded claims of the first try do not hold together')
  // What it is a second time it was the first time: dead, where an entry since then matches it.
  const again = { ...prepared, taskId: task }
  const listed = 'status' in claims && claims.status ? deps.statusIndexes.hopsOf(claims.status) : []
  const answer = await checkRevocation(deps, again, jti, kid, root, [...own, ...prepared.standing.checked, ...listed])
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)
  const left = await signedOut(deps, prepared.standing)
  if (left) return no(left)
  // Signed before the record: a key that may sign no more leaves no record of a token that never was.
  const token = await sign(deps, claims, kid)
  await deps.audit.append({
    type: 'token.reissued',
    decision: 'permit',
    decisionId: response.decision_id,
    agent,
    task,
    root,
    jti,
    correlation: wire.correlation,
    epoch: formatEpoch(answer.epoch),
  })
  return ok({ ...response, access_token: token, expires_in: claims.exp - now })
}

function hopsWithin(claims: Recorded['claims'], kid: string): readonly CheckedHop[] | undefined {
  if ('may_act' in claims) return hopsOfHandOver(claims, kid)
  return 'task' in claims ? hopsOf(claims, kid) : undefined
}

function sign({ issuer, keys }: ExchangeDeps, claims: Recorded['claims'], kid: string, text?: string): Signed {
  if ('may_act' in claims) return issuer.signHandOver(claims, kid)
  return 'task' in claims ? issuer.sign(claims, kid, text) : signForeign(keys, claims, kid)
}
