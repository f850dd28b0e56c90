/**
 * The use case: attested agent + subject token + task → access token (RFC 8693 §2). The steps, in order: who asks
 * (evidence verified, then spent), for whom and in which task, for which tool, what policy permits, what has been
 * revoked (time read first; entries, bans and epoch together), the task opened or charged, the one-use grant spent,
 * the intent durable, the token signed and checked. Stopping anywhere is safe: a record without a token at worst.
 */
import type { AccessTokenClaims, Confirmation, Grant, ToolAuthorization } from '@errand/verifier/claims.ts'
import { MAX_UNFOLLOWED_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { meetGrants, scopeOf, toAuthorizationDetails } from '@errand/verifier/grants.ts'
import { type CheckedHop, hopsOf, trustDomainOf } from '@errand/verifier/shapes.ts'
import { isSelfActor } from '../attest/attest.ts'
import type { AttestationResult } from '../attest/attestation-result.ts'
import type { KeyPins } from '../attest/key-pins.ts'
import { newDecisionId, newJti } from '../audit/ids.ts'
import type { AuditLog, AuditReader, Receipt } from '../audit/log.ts'
import { ok, type Reason, type Refusal, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import { GRANT, TOKEN_TYPE } from '../oauth/words.ts'
import type { Decision } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { newId } from '../tasks/ids.ts'
import { stateAt, type Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import { type HandOverClaims, hopsOfHandOver } from '../tokens/hand-over.ts'
import { type Issuer, type SigningKeys, tokenLength, type TokenFacts } from '../tokens/issue.ts'
import type { RevocationAnswer, Revocations } from '../tokens/revocations.ts'
import type { ReadSubjectToken, SubjectToken } from '../tokens/subject.ts'
import type { ProvenAgent, ProveAgent, Wire } from './authenticate.ts'
import type { Directory } from './directory.ts'
import type { IdempotencyStore } from './idempotency.ts'
import { permitEvent, refusalEvent, verdictRows } from './record.ts'
import { withinReach } from './reach.ts'
import { boundKey, claimRetry, operationIdFor, requestDigest, taskIdFor } from './retry.ts'
import { LEAST_USEFUL_SECONDS, type Standing, standOn } from './standing.ts'
import { readTarget, type Target } from './targets.ts'
import type { TokenRequest } from './token-request.ts'

export interface TokenResponse {
  readonly access_token: string
  readonly issued_token_type: string
  readonly token_type: 'DPoP' | 'Bearer' | 'N_A'
  readonly expires_in: number
  readonly scope: string
  readonly authorization_details: readonly ToolAuthorization[]
  readonly task_id: string
  readonly decision_id: string
  readonly log: { readonly id: string; readonly index: number }
}

export interface DryRunResponse {
  readonly dry_run: true
  readonly allowed: boolean
  readonly decision_id: string
  readonly would_issue?: {
    readonly audience: string
    readonly scope: string
    readonly authorization_details: readonly ToolAuthorization[]
    readonly expires_in: number
    readonly token_type: string
  }
  readonly verdicts: readonly object[]
}

export interface ExchangeDeps {
  readonly directory: () => Directory
  readonly now: () => number
  readonly nowMs: () => number
  readonly proveAgent: ProveAgent
  readonly readSubject: (directory: Directory) => ReadSubjectToken
  readonly tasks: TaskStore
  readonly revocations: Revocations
  readonly grants: KeyPins
  readonly issuer: Issuer
  readonly keys: SigningKeys
  readonly audit: AuditLog
  readonly reader: Pick<AuditReader, 'get' | 'unseal'>
  readonly idempotency: IdempotencyStore
}

export type Exchange = (request: TokenRequest, wire: Wire) => Promise<Result<TokenResponse | DryRunResponse>>

/** What was worked out before anything is changed. */
interface Prepared {
  readonly directory: Directory
  readonly proven: ProvenAgent
  readonly standing: Standing
  readonly target: Target
  readonly decision: Decision
  readonly decisionId: string
  readonly handOverTo?: string
  readonly taskId: string
  readonly deadline: number
}

export function createExchange(deps: ExchangeDeps): Exchange {
  return async (request, wire) => {
    const directory = deps.directory()
    const grant = checkGrant(request)
    if (!grant.ok) return stranger(deps, wire, grant.refusal)
    const proven = await deps.proveAgent(directory, request, wire)
    if (!proven.ok) return stranger(deps, wire, proven.refusal)
    let answer = await exchangeFor(deps, directory, proven.value, request, wire)
    // The policies changed between reading them and the check: judge once more by those in force.
    if (answer === 'policy_changed') {
      answer = await exchangeFor(deps, deps.directory(), proven.value, request, wire)
    }
    if (answer === 'policy_changed')
      throw new Unavailable('overloaded', 'policies change faster than requests are judged')
    return answer
  }
}

function checkGrant(request: TokenRequest): Result<void> {
  const { grantType, subjectToken, subjectTokenType, requestedTokenType, actorToken, actorTokenType } = request
  if (grantType === GRANT.exchange) {
    if (subjectToken !== undefined && subjectTokenType === undefined) {
      return refuse('param_missing', 'request', { detail: 'subject_token_type is missing' }) // RFC 8693 §2.1
    }
    if ((actorToken === undefined) !== (actorTokenType === undefined)) {
      return refuse('param_missing', 'request', { detail: 'actor_token and actor_token_type come together' })
    }
    if (actorToken !== undefined && subjectToken !== undefined && isSelfActor(subjectToken, actorToken))
      return refuse('self_actor', 'actor_token')
  } else if (grantType !== GRANT.clientCredentials) {
    return refuse('unsupported_grant_type', 'request')
  } else if (subjectToken !== undefined || actorToken !== undefined) {
    return refuse('bad_param', 'request', { detail: 'client_credentials takes no subject_token and no actor_token' })
  }
  const types: readonly string[] = [TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt, TOKEN_TYPE.handOver]
  if (requestedTokenType !== undefined && !types.includes(requestedTokenType)) {
    return refuse('token_type_unsupported', 'request')
  }
  return ok(undefined)
}

function stranger(deps: ExchangeDeps, wire: Wire, refusal: Refusal): { readonly ok: false; readonly refusal: Refusal } {
  deps.audit.countStranger(wire.source, refusal.reason)
  return { ok: false, refusal }
}

async function exchangeFor(
  deps: ExchangeDeps,
  directory: Directory,
  proven: ProvenAgent,
  request: TokenRequest,
  wire: Wire,
): Promise<Result<TokenResponse | DryRunResponse> | 'policy_changed'> {
  const decisionId = newDecisionId(deps.audit.logId, deps.nowMs())
  const context: { standing?: Standing; tool?: Tool; decision?: Decision } = {}

  /** A refusal of a caller that has proven who it is: written down, then told. */
  const no = async (refusal: Refusal) => {
    const told = { ...refusal, proven: true, explanation: { decisionId, ...refusal.explanation } }
    await deps.audit.append(refusalEvent(told, { ...context, decisionId, proven, wire }))
    return { ok: false as const, refusal: told }
  }

  const handOverTo = delegate(directory, proven.attested, request)
  if (!handOverTo.ok) return no(handOverTo.refusal)

  const subject = await readSubject(deps, directory, request)
  if (!subject.ok) return no(subject.refusal)
  const standing = await standOn(deps, directory, proven.attested.agent, proven.confirmation, request, subject.value)
  if (!standing.ok) return no(standing.refusal)
  context.standing = standing.value
  if (handOverTo.value !== undefined && standing.value.kind !== 'own') {
    return no({
      reason: 'presenter_not_audience',
      slot: 'subject_token',
      detail: 'a hand-over is made from a token that the agent holds itself',
    })
  }
  const actors = chainLength(standing.value) + (handOverTo.value === undefined ? 0 : 1)
  if (actors > directory.settings.tasks.maxActors) return no({ reason: 'depth', slot: 'request' })

  const target = readTarget(request, directory, proven.attested.agent)
  if (!target.ok) return no(target.refusal)
  context.tool = target.value.tool
  const bound = checkBinding(target.value.tool, standing.value, proven)
  if (!bound.ok) return no(bound.refusal)

  const decision = withinReach(
    decide(directory, proven, standing.value, target.value, deps.now()),
    proven.attested.agent,
    target.value.requested !== undefined,
  )
  context.decision = decision
  const permitted = judge(decision, target.value, standing.value, proven.attested, request.dryRun)
  if (!permitted.ok) return no(permitted.refusal)

  const { task } = standing.value
  const key = wire.idempotencyKey === undefined ? undefined : boundKey(proven, wire.idempotencyKey)
  let prepared: Prepared = {
    directory,
    proven,
    standing: standing.value,
    target: target.value,
    decision,
    decisionId,
    ...(handOverTo.value === undefined ? {} : { handOverTo: handOverTo.value }),
    taskId: 'existing' in task ? task.existing.id : newId('task'),
    deadline: 'existing' in task ? task.existing.deadline : task.deadline,
  }
  if (request.dryRun) return dryRun(deps, prepared, wire, no)
  if (key === undefined) return issue(deps, prepared, wire, undefined, no)

  const digest = requestDigest(request, standing.value, target.value, handOverTo.value)
  const claim = await claimRetry(deps, key, digest, directory.settings.tokens.idempotencySeconds)
  if (!claim.ok) return no(claim.refusal)
  if (claim.value.outcome === 'again') return reissue(deps, prepared, claim.value, wire, no)
  if (!('existing' in task)) {
    const taskId = taskIdFor(key, digest)
    const before = await deps.tasks.get(taskId)
    // Opened by a first try that a crash cut short, it ends when it was to end. One that is over is not taken up again.
    if (!before || stateAt(before, deps.now()) === 'active') {
      prepared = { ...prepared, taskId, deadline: Math.min(prepared.deadline, before?.deadline ?? prepared.deadline) }
    }
  }
  const claimedAt = deps.now()
  let done = false
  try {
    const answer = await issue(deps, prepared, wire, key, no)
    done = answer !== 'policy_changed' && answer.ok
    return answer
  } finally {
    // A refusal or a fault gives the key back, while it is surely still ours.
    if (!done && deps.now() - claimedAt <= CLAIM_SECONDS) await deps.idempotency.release(key)
  }
}

/** RFC 8693 §2.1 with our `delegate_to`: whom a hand-over is for. Unknown and forbidden are one answer (D21). */
function delegate(
  directory: Directory,
  attested: AttestationResult,
  request: TokenRequest,
): Result<string | undefined> {
  if (request.requestedTokenType !== TOKEN_TYPE.handOver) {
    if (request.delegateTo === undefined) return ok(undefined)
    return refuse('bad_param', 'request', { detail: 'delegate_to goes with a requested_token_type of hand-over' })
  }
  if (request.delegateTo === undefined) return refuse('param_missing', 'request', { detail: 'delegate_to is missing' })
  const other = directory.agents.byClientId(request.delegateTo)
  if (!other || other.disabled || !attested.agent.delegatesTo.includes(other.clientId)) {
    return refuse('policy_denied', 'request', {
      explanation: {
        rule: 'delegates_to',
        next: `add the agent to delegates_to in ${attested.agent.file}, or name another`,
      },
    })
  }
  return ok(other.spiffeId)
}

async function readSubject(
  deps: ExchangeDeps,
  directory: Directory,
  request: TokenRequest,
): Promise<Result<SubjectToken | undefined>> {
  if (request.grantType === GRANT.clientCredentials) return ok(undefined)
  if (request.subjectToken === undefined) {
    return refuse('param_missing', 'request', { detail: 'subject_token is missing' })
  }
  return deps.readSubject(directory)(request.subjectToken, request.subjectTokenType!)
}

/** Actors in the chain that the new token will have, an autonomous subject included. */
function chainLength({ actor, subject }: Standing): number {
  let length = subject.autonomous ? 1 : 0
  for (let each = actor; each; each = each.act) length += 1
  return length
}

function checkBinding(tool: Tool, standing: Standing, proven: ProvenAgent): Result<void> {
  if (standing.onlyAudience !== undefined && tool.audience !== standing.onlyAudience) {
    return refuse('audience_denied', 'request', {
      explanation: {
        rule: 'parent',
        next: "a holder's own token can be renewed or narrowed for its own audience only",
      },
    })
  }
  if (!proven.confirmation && !tool.acceptsBearer) {
    return refuse('proof_required', 'dpop', {
      explanation: { rule: 'sender_constraint', next: 'send a DPoP proof (RFC 9449), or come over mTLS' },
    })
  }
  return ok(undefined)
}

function decide(directory: Directory, proven: ProvenAgent, standing: Standing, target: Target, now: number): Decision {
  const { attested, confirmation } = proven
  const { task, subject, subjectRights, parentGrants } = standing
  const context = 'existing' in task ? task.existing.context : task.opens.context
  return directory.decide({
    tools: [target.tool],
    ...(target.requested ? { requested: target.requested } : {}),
    operands: {
      ...(subjectRights ? { subject: subjectRights } : {}),
      ceiling: attested.agent.ceiling,
      ...('existing' in task ? { task: task.existing.authority } : {}),
      ...(parentGrants ? { parent: parentGrants } : {}),
    },
    facts: {
      agent: attested.agent,
      attestation: {
        kind: attested.kind,
        tier: attested.tier,
        ...(attested.release === undefined ? {} : { release: attested.release }),
      },
      subject,
      task: { ...context, depth: chainLength(standing) },
      senderConstraint: !confirmation ? 'bearer' : 'jkt' in confirmation ? 'dpop' : 'mtls',
      now,
    },
  })
}

/** Asking for more is refused whole, with the refused part named; asking for nothing in particular gets what there is. */
function judge(
  decision: Decision,
  target: Target,
  standing: Standing,
  { agent }: AttestationResult,
  dryRun: boolean,
): Result<void> {
  if (!dryRun && (agent.stage === 'suggest' || agent.stage === 'draft')) {
    return refuse('stage_no_token', 'request', {
      explanation: {
        rule: 'stage',
        next: `an agent at stage ${agent.stage} gets no token: use dry_run, or raise its stage in ${agent.file}`,
      },
    })
  }
  if (decision.allowed || dryRun) return ok(undefined)
  const lost = decision.verdicts.filter((verdict) => !verdict.permitted)
  const explanation = {
    ...(lost[0] ? { rule: lost[0].policies[0] ?? lost[0].lostAt ?? 'default_deny' } : {}),
    missing: lost.map((verdict) => `${verdict.tool}:${verdict.operation}`),
    ...(lost[0]?.leastChange ? { next: lost[0].leastChange } : {}),
  }
  const byPolicy = lost.filter((verdict) => verdict.lostAt === 'policy')
  if (!target.requested) {
    // Nothing of this tool is left: by policy, or because it was never the caller's to reach.
    return byPolicy.length > 0
      ? refuse('policy_denied', 'request', { explanation })
      : refuse('audience_denied', 'request', { explanation })
  }
  // D24: an own token is renewed within the ceiling of today, whatever the token once was.
  if (standing.kind === 'own' && lost.some((verdict) => verdict.lostAt === 'ceiling')) {
    return refuse('policy_denied', 'request', { explanation })
  }
  if (outsideParent(target.requested, standing)) return refuse('audience_denied', 'request', { explanation })
  return byPolicy.length === lost.length
    ? refuse('policy_denied', 'request', { explanation })
    : refuse('scope_not_granted', target.askedIn, { explanation })
}

/** D3: the parent has nothing at all at this audience. */
const outsideParent = (requested: readonly Grant[], { parentGrants }: Standing): boolean =>
  parentGrants !== undefined && requested.every(({ tool }) => !parentGrants.some((grant) => grant.tool === tool))

/** A claim on an idempotency key lapses after 10 s: past this somebody else may have taken over. */
const CLAIM_SECONDS = 7

type No = (refusal: Refusal) => Promise<{ readonly ok: false; readonly refusal: Refusal }>

/** Seconds of life: the least of every bound. */
function lifetime(prepared: Prepared, now: number): number {
  const { directory, target, decision, deadline, proven, standing, handOverTo } = prepared
  const { tool } = target
  const { settings } = directory
  return Math.floor(
    Math.min(
      settings.tokens.maxLifetimeSeconds,
      tool.maxTokenLifetimeSeconds,
      decision.obligations.maxLifetimeSeconds ?? Number.POSITIVE_INFINITY,
      tool.followsFeed && proven.confirmation ? Number.POSITIVE_INFINITY : MAX_UNFOLLOWED_LIFETIME_SECONDS,
      ...(handOverTo === undefined
        ? []
        : [settings.tokens.handOverLifetimeSeconds, (standing.subjectExpiresAt ?? deadline) - now]),
      deadline - now,
    ),
  )
}

/** A hand-over of a token that is about to end is refused by that name; everything else ends with its task. */
function tooLate({ standing, handOverTo, deadline }: Prepared, now: number): Refusal | undefined {
  const subjectEnds = standing.subjectExpiresAt ?? deadline
  if (handOverTo !== undefined && subjectEnds - now < LEAST_USEFUL_SECONDS) {
    return { reason: 'parent_expiring', slot: 'subject_token' }
  }
  return deadline - now < 1 ? { reason: 'task_expired', slot: 'request' } : undefined
}

/** The revocation question of this exchange: its ancestors as they are, and the hop it would add. */
async function checkRevocation(
  deps: ExchangeDeps,
  prepared: Prepared,
  jti: string,
  kid: string,
  root: string,
  hops: readonly CheckedHop[] = prepared.standing.checked,
): Promise<RevocationAnswer> {
  const { proven, standing, target, decision, taskId, handOverTo } = prepared
  const { attested } = proven
  return deps.revocations.check({
    hops,
    issuing: {
      jti,
      kid,
      root,
      task: taskId,
      sub: standing.subject.id,
      agent: attested.agent.spiffeId,
      domain: trustDomainOf(attested.agent.spiffeId),
      client_id: attested.agent.clientId,
      aud: handOverTo === undefined ? target.tool.audience : prepared.directory.settings.issuer,
      policy: decision.policyDigest,
      ...(attested.release === undefined ? {} : { release: attested.release }),
    },
  })
}

function refusedByRevocation(answer: RevocationAnswer): Refusal | 'policy_changed' | undefined {
  if (answer.dead) return { reason: 'revoked', slot: 'subject_token', explanation: { rule: answer.dead.entry } }
  if (!answer.banned) return undefined
  const { dimensions, entry } = answer.banned
  if (dimensions.length === 1 && dimensions[0] === 'policy') return 'policy_changed'
  const reason: Reason = dimensions.includes('task') || dimensions.includes('root') ? 'task_not_active' : 'banned'
  return {
    reason,
    slot: 'request',
    explanation: { rule: entry, ...(reason === 'banned' ? { next: 'ask security staff for a re-admission' } : {}) },
  }
}

const rootOf = ({ standing, taskId }: Prepared): { root: string; depth: number; parent?: Task } => {
  const { task } = standing
  if ('existing' in task) return { root: task.existing.root, depth: task.existing.depth }
  if (!task.parent) return { root: taskId, depth: 1 }
  return { root: task.parent.root, depth: task.parent.depth + 1, parent: task.parent }
}

async function issue(
  deps: ExchangeDeps,
  prepared: Prepared,
  wire: Wire,
  key: string | undefined,
  no: No,
): Promise<Result<TokenResponse> | 'policy_changed'> {
  const { standing, decision, target, proven, directory, decisionId, taskId, handOverTo } = prepared
  // Time is read before revocation is asked: a paused issuer can only make a token that is already old.
  const now = deps.now()
  const kid = deps.keys.activeKid('token')
  const jti = newJti(deps.audit.logId, deps.nowMs())
  const place = rootOf(prepared)
  const late = tooLate(prepared, now)
  if (late) return no(late)
  const life = lifetime(prepared, now)
  const answer = await checkRevocation(deps, prepared, jti, kid, place.root)
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)

  const facts: TokenFacts = {
    jti,
    kid,
    audience: target.tool.audience,
    issuedAt: now,
    expiresAt: now + life,
    clientId: proven.attested.agent.clientId,
    subject: standing.subject.id,
    ...(standing.actor ? { actor: standing.actor } : {}),
    grants: decision.permitted,
    details: toAuthorizationDetails(
      decision.permitted,
      (_, operation) => target.tool.operations.get(operation)!.effect,
    ),
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
  const claims = handOverTo === undefined ? deps.issuer.draft(facts) : deps.issuer.draftHandOver(facts, handOverTo)
  // A hand-over goes to us alone, not into the headers of tool APIs.
  if (handOverTo === undefined && tokenLength(claims as AccessTokenClaims, kid) > MAX_TOKEN_BYTES) {
    return no({
      reason: 'token_too_large',
      slot: 'request',
      detail: 'the token would be larger than 2 KB',
      explanation: { next: 'ask for fewer operations' },
    })
  }

  // Effects come after their record; those that can still refuse come before it, and only while it can be written.
  if (!deps.audit.healthy()) throw new Unavailable('audit_unavailable', 'the audit log cannot be written')
  const charged = await openAndCharge(deps, prepared, place, now, key)
  if (!charged.ok) return no(charged.refusal)

  const event = permitEvent(facts, claims, { ...prepared, wire, parent: place.parent?.id })
  const receipt = await deps.audit.append(event)
  if (key !== undefined && deps.now() - now > CLAIM_SECONDS) {
    throw new Unavailable('overloaded', 'the exchange took longer than its idempotency key is held')
  }
  const token =
    handOverTo === undefined
      ? deps.issuer.sign(claims as AccessTokenClaims, kid)
      : deps.issuer.signHandOver(claims as HandOverClaims, kid)
  const response = respond(prepared, facts, token, receipt)
  if (key !== undefined) {
    const { access_token: _, ...rest } = response
    await deps.idempotency.complete(key, {
      ...receipt,
      response: JSON.stringify({ ...rest, kid, decision_id: decisionId }),
    })
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

/** The last steps that can refuse: the one-use grant, the task opened, its budget charged. */
async function openAndCharge(
  deps: ExchangeDeps,
  prepared: Prepared,
  place: ReturnType<typeof rootOf>,
  now: number,
  key: string | undefined,
): Promise<Result<void>> {
  const { standing, taskId, proven, deadline, directory } = prepared
  const { task } = standing
  const payer = 'existing' in task ? task.existing : task.parent
  // Looked at before a grant is spent or a task opened; what is reserved below is what counts.
  for (let each = payer; each; each = each.parent === undefined ? undefined : await deps.tasks.get(each.parent)) {
    if (exhausted(each)) return budgetExhausted('exchanges')
  }
  if (standing.oneUse) {
    // Spent by owner: a retry with the same idempotency key after a crash finds its own name, anybody else a stranger's.
    const own = key ?? newId('op')
    const owner = await deps.grants.pin(standing.oneUse.id, own, standing.oneUse.expiresAt)
    if (owner !== own) return refuse('replayed', 'subject_token')
  }
  if (!('existing' in task)) {
    const opened: Task = {
      id: taskId,
      ...(task.parent ? { parent: task.parent.id } : {}),
      root: place.root,
      depth: place.depth,
      subject: standing.subject,
      agent: proven.attested.agent.clientId,
      agentSpiffeId: proven.attested.agent.spiffeId,
      purpose: task.opens.purpose,
      context: task.opens.context,
      budget: task.opens.budget,
      authority: taskAuthority(standing, proven.attested),
      state: 'active',
      createdAt: now,
      deadline,
      ...(task.opens.heartbeatSeconds === undefined
        ? {}
        : { heartbeatSeconds: task.opens.heartbeatSeconds, heartbeatBy: now + task.opens.heartbeatSeconds }),
      spent: { calls: 0, exchanges: 0, cost: 0 },
    }
    const outcome = await deps.tasks.open(opened, now)
    if (outcome === 'parent_not_active') return refuse('task_not_active', 'subject_token')
    if (outcome === 'exists') {
      // The same request with the same idempotency key opened it, and the answer was lost in a crash.
      const before = await deps.tasks.get(taskId)
      const same = before?.agent === opened.agent && before.subject.id === opened.subject.id
      if (!before || !same || stateAt(before, now) !== 'active' || before.deadline < now + 1) {
        return refuse('task_not_active', 'request')
      }
    }
  }
  // Only a budget of exchanges, here or above, makes an exchange a write.
  const counted =
    'existing' in task ? task.existing.budget.maxExchanges !== undefined : task.opens.budget.maxExchanges !== undefined
  if (!counted && !payerHasParents(payer, standing)) return ok(undefined)
  const reserved = await deps.tasks.reserve(
    taskId,
    // An id makes a retry free, and costs a row: only a retried request has one.
    {
      calls: 0,
      cost: 0,
      exchanges: 1,
      ...(key === undefined
        ? {}
        : { operationId: operationIdFor(key, now, directory.settings.tokens.idempotencySeconds) }),
    },
    now,
  )
  if (reserved.outcome === 'exhausted') return budgetExhausted(reserved.budget)
  if (reserved.outcome === 'not_active') return refuse('task_not_active', 'request')
  return ok(undefined)
}

const payerHasParents = (payer: Task | undefined, { task }: Standing): boolean =>
  payer !== undefined && (!('existing' in task) || payer.parent !== undefined)

const exhausted = ({ budget, spent }: Task): boolean =>
  budget.maxExchanges !== undefined && spent.exchanges >= budget.maxExchanges

const budgetExhausted = (which: string) =>
  refuse('budget_exhausted', 'request', {
    explanation: { rule: `budget.max_${which}`, next: 'open a new task with a larger budget' },
  })

/** What a task may do at most: what its subject, its agent and its parent all may. */
export function taskAuthority(
  { subjectRights, parentGrants }: Pick<Standing, 'subjectRights' | 'parentGrants'>,
  { agent }: AttestationResult,
): readonly Grant[] {
  let authority = agent.ceiling
  if (subjectRights) authority = meetGrants(authority, subjectRights)
  if (parentGrants) authority = meetGrants(authority, parentGrants)
  return authority
}

function respond(prepared: Prepared, facts: TokenFacts, token: string, { logId, index }: Receipt): TokenResponse {
  const { handOverTo, taskId, decisionId } = prepared
  return {
    access_token: token, // RFC 8693 §2.2.1: so named whatever it is
    issued_token_type: handOverTo === undefined ? TOKEN_TYPE.accessToken : TOKEN_TYPE.handOver,
    token_type: tokenType(handOverTo, facts.confirmation),
    expires_in: facts.expiresAt - facts.issuedAt,
    scope: scopeOf(facts.grants),
    authorization_details: facts.details,
    task_id: taskId,
    decision_id: decisionId,
    log: { id: logId, index },
  }
}

const tokenType = (
  handOverTo: string | undefined,
  confirmation: Confirmation | undefined,
): TokenResponse['token_type'] =>
  handOverTo !== undefined ? 'N_A' : confirmation && 'jkt' in confirmation ? 'DPoP' : 'Bearer' // RFC 9449 §5, RFC 8705 §3

/** The recorded claims signed again, after evidence was shown anew and revocation was asked anew (D20). */
async function reissue(
  deps: ExchangeDeps,
  prepared: Prepared,
  again: { readonly index: number; readonly response: string },
  wire: Wire,
  no: No,
): Promise<Result<TokenResponse> | 'policy_changed'> {
  const record = await deps.reader.get(again.index)
  const unsealed = record && (await deps.reader.unseal(record))
  const claims = unsealed?.claims as unknown as AccessTokenClaims | undefined
  if (!claims) throw new Unavailable('audit_unavailable', 'the record of the first try cannot be read')
  const now = deps.now()
  if (now >= claims.exp)
    return no({ reason: 'expired', slot: 'request', detail: 'what the first try issued has expired' })
  const { kid, ...response } = JSON.parse(again.response) as Omit<TokenResponse, 'access_token'> & { kid: string }
  const handOver = response.issued_token_type === TOKEN_TYPE.handOver
  const own = handOver ? hopsOfHandOver(claims as unknown as HandOverClaims, kid) : hopsOf(claims, kid)
  if (!own) throw new Error('the recorded claims of the first try do not hold together')
  // What it is a second time it was the first time: dead, where an entry since then matches it.
  const answer = await checkRevocation(
    deps,
    { ...prepared, taskId: claims.task.id },
    claims.jti,
    kid,
    claims.task.root,
    [...own, ...prepared.standing.checked],
  )
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)
  await deps.audit.append({
    type: 'token.reissued',
    decision: 'permit',
    decisionId: response.decision_id,
    agent: claims.client_id,
    task: claims.task.id,
    root: claims.task.root,
    jti: claims.jti,
    correlation: wire.correlation,
    epoch: formatEpoch(answer.epoch),
  })
  const token = handOver
    ? deps.issuer.signHandOver(claims as unknown as HandOverClaims, kid)
    : deps.issuer.sign(claims, kid)
  return ok({ ...response, access_token: token, expires_in: claims.exp - now })
}

/** The whole decision and what would be issued; nothing is opened, charged, spent or signed. */
async function dryRun(
  deps: ExchangeDeps,
  prepared: Prepared,
  wire: Wire,
  no: No,
): Promise<Result<DryRunResponse> | 'policy_changed'> {
  const { decision, target, proven, standing, decisionId, handOverTo } = prepared
  const now = deps.now()
  const place = rootOf(prepared)
  const late = tooLate(prepared, now)
  if (late) return no(late)
  const life = lifetime(prepared, now)
  const kid = deps.keys.activeKid('token')
  const answer = await checkRevocation(deps, prepared, newJti(deps.audit.logId, deps.nowMs()), kid, place.root)
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)
  await deps.audit.append({
    type: 'decision.evaluated',
    decision: decision.allowed ? 'permit' : 'refuse',
    decisionId,
    agent: proven.attested.agent.clientId,
    subject: standing.subject.id,
    ...('existing' in standing.task ? { task: standing.task.existing.id } : {}),
    tool: target.tool.name,
    operations: decision.verdicts.map((verdict) => verdict.operation),
    rules: decision.policies,
    correlation: wire.correlation,
    epoch: formatEpoch(answer.epoch),
    details: { dry_run: true, verdicts: verdictRows(decision) },
  })
  return ok({
    dry_run: true,
    allowed: decision.allowed,
    decision_id: decisionId,
    ...(decision.allowed
      ? {
          would_issue: {
            audience: target.tool.audience,
            scope: scopeOf(decision.permitted),
            authorization_details: toAuthorizationDetails(
              decision.permitted,
              (_, operation) => target.tool.operations.get(operation)!.effect,
            ),
            expires_in: life,
            token_type: tokenType(handOverTo, proven.confirmation),
          },
        }
      : {}),
    verdicts: verdictRows(decision),
  })
}
