/**
 * The use case: attested agent + subject token + task → access token (RFC 8693 §2). The steps, in order: who asks
 * (evidence verified, then spent), for whom and in which task, for which tool, what policy permits, what has been
 * revoked (time read first; entries, bans and epoch together), the task opened or charged, the one-use grant spent,
 * the intent durable, the token signed and checked. Stopping anywhere is safe: a record without a token at worst.
 */
import type { AttestationResult } from '../attest/attestation-result.ts'
import { isSelfActor } from '../attest/attest.ts'
import { registrationOf } from '../attest/platform.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { newDecisionId } from '../audit/ids.ts'
import { ok, type Refusal, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import { GRANT, TOKEN_TYPE } from '../oauth/words.ts'
import type { Decision } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { newId } from '../tasks/ids.ts'
import { stateAt } from '../tasks/task.ts'
import type { SubjectToken } from '../tokens/subject.ts'
import { asGrant, isWorkloadGrant, readAssertion } from './assertion-grant.ts'
import type { ProvenAgent, Wire } from './authenticate.ts'
import { checkRelease } from './check-release.ts'
import type { Directory } from './directory.ts'
import { type DryRunResponse, dryRun } from './dry-run.ts'
import { checkArguments, checkForeign, readForeign } from './foreign.ts'
import { createGranted } from './granted.ts'
import { issue, reissue } from './issue-token.ts'
import { checkBinding, decide, judge } from './judge.ts'
import type { ExchangeDeps, ExchangeParts, JudgeAgain, Prepared, TokenResponse } from './prepared.ts'
import { refusalEvent } from './record.ts'
import { boundKey, CLAIM_SECONDS, claimRetry, requestDigest, taskIdFor } from './retry.ts'
import { chainLength, type Standing, standOn } from './standing.ts'
import { createReadTarget } from './targets.ts'
import type { TokenRequest } from './token-request.ts'

/** Judged again so often at most: each time because something changed meanwhile. */
const MOST_ROUNDS = 4

export type Exchange = (request: TokenRequest, wire: Wire) => Promise<Result<TokenResponse | DryRunResponse>>

export function createExchange(parts: ExchangeParts): Exchange {
  const deps: ExchangeDeps = { ...parts, granted: createGranted(), readTarget: createReadTarget() }
  return async (request, wire) => {
    const directory = deps.directory()
    const grant = checkGrant(request)
    if (!grant.ok) return stranger(deps, wire, grant.refusal)
    const workload = isWorkloadGrant(request)
    if (!workload.ok) return stranger(deps, wire, workload.refusal)
    const proven = await (workload.value ? deps.proveWorkload : deps.proveAgent)(directory, request, wire)
    if (!proven.ok) return stranger(deps, wire, proven.refusal)
    const reread = new Set<string>()
    let [now, agent] = [directory, proven.value]
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const answer = await exchangeFor(deps, now, agent, request, wire, reread)
      if (typeof answer === 'object' && 'after' in answer) {
        for (const id of answer.after) reread.add(id)
        continue
      }
      if (answer !== 'policy_changed') return answer
      // The policies changed between reading them and the check: judge once more by those in force.
      now = deps.directory()
      // And the agent by its registration of now: a reload that narrows both must not leave a half of each.
      const registered = registeredNow(now, proven.value)
      if (!registered || registered.disabled) return stranger(deps, wire, refuse('agent_disabled', 'client').refusal)
      agent = { ...proven.value, attested: { ...proven.value.attested, agent: registered } }
    }
    throw new Unavailable('overloaded', 'policies and authority change faster than requests are judged')
  }
}

function checkGrant(request: TokenRequest): Result<void> {
  const { grantType, assertion, subjectToken, subjectTokenType, requestedTokenType, actorToken, actorTokenType } =
    request
  if (grantType === GRANT.exchange) {
    if (subjectToken !== undefined && subjectTokenType === undefined) {
      return refuse('param_missing', 'request', { detail: 'subject_token_type is missing' }) // RFC 8693 §2.1
    }
    if ((actorToken === undefined) !== (actorTokenType === undefined)) {
      return refuse('param_missing', 'request', { detail: 'actor_token and actor_token_type come together' })
    }
    if (actorToken !== undefined && subjectToken !== undefined && isSelfActor(subjectToken, actorToken))
      return refuse('self_actor', 'actor_token')
  } else if (grantType !== GRANT.clientCredentials && grantType !== GRANT.jwtBearer) {
    return refuse('unsupported_grant_type', 'request')
  } else if (grantType === GRANT.jwtBearer && assertion === undefined) {
    return refuse('param_missing', 'request', { detail: 'assertion is missing' }) // RFC 7523 §2.1
  } else if (subjectToken !== undefined || actorToken !== undefined) {
    return refuse('bad_param', 'request', { detail: 'this grant takes no subject_token and no actor_token' })
  }
  const types: readonly string[] = [
    ...[TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt, TOKEN_TYPE.handOver],
    ...(grantType === GRANT.jwtBearer ? [] : [TOKEN_TYPE.idJag, TOKEN_TYPE.txnToken]),
  ]
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
  reread: ReadonlySet<string>,
): Promise<Result<TokenResponse | DryRunResponse> | JudgeAgain> {
  const decisionId = newDecisionId(deps.audit.logId, deps.nowMs())
  const context: { standing?: Standing; tool?: Tool; decision?: Decision } = {}

  /** A refusal of a caller that has proven who it is: written down, then told. */
  const no = async (refusal: Refusal) => {
    const by = request.grantType === GRANT.jwtBearer ? asGrant(refusal) : refusal
    const told = { ...by, proven: true, explanation: { decisionId, ...by.explanation } }
    await deps.audit.append(refusalEvent(told, { ...context, decisionId, proven, wire }))
    return { ok: false as const, refusal: told }
  }

  const released = checkRelease(proven.attested, request.measurements)
  if (!released.ok) return no(released.refusal)
  const handOverTo = delegate(directory, proven.attested, request)
  if (!handOverTo.ok) return no(handOverTo.refusal)

  const granted =
    request.grantType === GRANT.jwtBearer ? await readAssertion(directory, proven, request, deps.now()) : ok(undefined)
  if (!granted.ok) return no(granted.refusal)
  const foreign = readForeign(granted.value?.request ?? request, directory, proven.attested.agent)
  if (!foreign.ok) return no(foreign.refusal)
  const asked = foreign.value.request
  const subject = granted.value ? ok(granted.value.subject) : await readSubject(deps, directory, request)
  if (!subject.ok) return no(subject.refusal)
  const stood = await standOn(deps, directory, proven.attested.agent, proven.confirmation, asked, subject.value)
  if (!stood.ok) return no(stood.refusal)
  const standing = granted.value ? granted.value.stand(stood.value) : stood.value
  context.standing = standing
  if (handOverTo.value !== undefined && standing.kind !== 'own') {
    return no({
      reason: 'presenter_not_audience',
      slot: 'subject_token',
      detail: 'a hand-over is made from a token that the agent holds itself',
    })
  }
  const actors = chainLength(standing) + (handOverTo.value === undefined ? 0 : 1)
  if (actors > directory.settings.tasks.maxActors) return no({ reason: 'depth', slot: 'request' })

  const target = deps.readTarget(asked, directory, proven.attested.agent)
  if (!target.ok) return no(target.refusal)
  context.tool = target.value.tool
  const within = granted.value?.permitsTarget(target.value)
  if (within && !within.ok) return no(within.refusal)
  const taken = checkForeign(request, target.value, standing, proven.attested.agent)
  if (!taken.ok) return no(taken.refusal)
  const bound = checkBinding(target.value.tool, standing, proven)
  if (!bound.ok) return no(bound.refusal)

  const decision = decide(directory, proven, standing, target.value, deps.now(), request.dryRun)
  context.decision = decision
  const permitted = judge(decision, target.value, standing, proven.attested, request.dryRun)
  if (!permitted.ok) return no(permitted.refusal)
  const sayable = checkArguments(target.value.tool, decision, foreign.value.context)
  if (!sayable.ok) return no(sayable.refusal)

  const { task } = standing
  const key = wire.idempotencyKey === undefined ? undefined : boundKey(proven, wire.idempotencyKey)
  let prepared: Prepared = {
    directory,
    proven,
    standing,
    target: target.value,
    decision,
    decisionId,
    ...(handOverTo.value === undefined ? {} : { handOverTo: handOverTo.value }),
    context: foreign.value.context,
    taskId: 'existing' in task ? task.existing.id : (standing.opensTask ?? newId('task')),
    deadline: 'existing' in task ? task.existing.deadline : task.deadline,
    reread,
  }
  if (request.dryRun) return dryRun(deps, prepared, wire, no)
  if (key === undefined) return issue(deps, prepared, wire, undefined, no)

  const digest = requestDigest(request, standing, target.value, handOverTo.value)
  const since = deps.now()
  // As long as a one-use grant could be presented: its spending is bound to this key, and must not outlive its answer.
  const presentable = (standing.oneUse?.expiresAt ?? since) - since
  const claim = await claimRetry(deps, key, digest, Math.max(directory.settings.tokens.idempotencySeconds, presentable))
  if (!claim.ok) return no(claim.refusal)
  if (claim.value.outcome === 'again') return reissue(deps, prepared, key, claim.value, wire, no)
  if (!('existing' in task)) {
    const taskId = standing.opensTask ?? taskIdFor(key, digest)
    const before = await deps.tasks.get(taskId)
    // Opened by a first try that a crash cut short, it ends when it was to end. One that is over is not taken up again.
    if (!before || stateAt(before, deps.now()) === 'active') {
      prepared = { ...prepared, taskId, deadline: Math.min(prepared.deadline, before?.deadline ?? prepared.deadline) }
    }
  }
  let done = false
  try {
    const answer = await issue(deps, prepared, wire, { key, since }, no)
    done = typeof answer === 'object' && 'ok' in answer && answer.ok
    return answer
  } finally {
    // A refusal or a fault gives the key back, while it is surely still ours.
    if (!done && deps.now() - since <= CLAIM_SECONDS) await deps.idempotency.release(key)
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

/** The same agent by the configuration of now; an agent of a platform by what its platform may have now. */
function registeredNow(directory: Directory, { attested, workload }: ProvenAgent): AgentRegistration | undefined {
  if (!workload) return directory.agents.byClientId(attested.agent.clientId)
  const platform = directory.platforms.all.find(
    ({ name, issuer }) => name === workload.platform.name && issuer === workload.platform.issuer,
  )
  return platform && registrationOf(platform, workload.sub)
}
