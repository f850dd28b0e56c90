/**
 * On what ground the agent stands: from the subject token and the task it names to the operands of the decision, the
 * chain of actors and what must not have been revoked. Reads stores, changes nothing.
 */
import type { AccessTokenClaims, Actor, Confirmation, Grant } from '@errand/verifier/claims.ts'
import { fromAuthorizationDetails, meetGrants } from '@errand/verifier/grants.ts'
import { unpackHops, type WholeHop } from '@errand/verifier/hops.ts'
import { actorFacts, type CheckedHop, hopsOf } from '@errand/verifier/shapes.ts'
import type { AttestationResult } from '../attest/attestation-result.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { isId } from '../tasks/ids.ts'
import { parseRequestDetails, type RequestDetails } from '../tasks/request-details.ts'
import { type SubjectFacts, stateAt, type Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import { handOverSpendId, handOverTaskId, hopFrom, hopsOfHandOver, inheritedFrom } from '../tokens/hand-over.ts'
import type { SubjectToken } from '../tokens/subject.ts'
import type { Directory } from './directory.ts'
import type { TokenRequest } from './token-request.ts'

/** Less life than this left in a parent is no use to a child. */
export const LEAST_USEFUL_SECONDS = 2

export interface Standing {
  readonly kind: 'user' | 'autonomous' | 'own' | 'audience' | 'hand_over'
  readonly subject: SubjectFacts
  /** The operand *subject*; absent for an autonomous task. */
  readonly subjectRights?: readonly Grant[]
  /** The operand *parent*. */
  readonly parentGrants?: readonly Grant[]
  readonly task:
    | { readonly existing: Task }
    | { readonly opens: RequestDetails; readonly parent?: Task; readonly deadline: number }
  readonly actor?: Actor
  readonly hops: readonly WholeHop[]
  /** Hops that exist already: the subject token's own and its ancestors', and actors that its issuer vouched for. */
  readonly checked: readonly CheckedHop[]
  /** The token that stands behind this request; the new one may be for its audience alone (kind `own`). */
  readonly onlyAudience?: string
  /** When that token ends: a hand-over of it ends no later (kind `own`). */
  readonly subjectExpiresAt?: number
  /** A one-use grant, spent last: (iss, jti) and when it stops being accepted. */
  readonly oneUse?: { readonly id: string; readonly expiresAt: number; readonly issuedAt?: number }
  /** The name of the task that this grant opens, where it opens one and only one. */
  readonly opensTask?: string
  /** The grant of somebody else that this rests on: who gave it can find it in his own records. */
  readonly grant?: { readonly issuer: string; readonly jti: string }
  /** jti of the token this one follows from. */
  readonly cause?: string
  /** When the user signed in whose own word this is (kind `user`). */
  readonly signedInAt?: number
  /** What a retry must have in common with the first try. */
  readonly identity: string
}

export interface StandingDeps {
  readonly tasks: Pick<TaskStore, 'get'>
  readonly now: () => number
}

export async function standOn(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  confirmation: Confirmation | undefined,
  request: TokenRequest,
  subject: SubjectToken | undefined,
): Promise<Result<Standing>> {
  if (request.taskId !== undefined && !isId('task', request.taskId)) {
    return refuse('unknown_claim', 'request', { detail: 'task_id is not the id of a task' }) // A10
  }
  if (request.taskId !== undefined && request.requestDetails !== undefined) {
    return refuse('bad_param', 'request', {
      detail: 'task_id names an existing task, request_details opens one: send one',
    })
  }
  if (!subject) return autonomous(deps, directory, agent, request)
  switch (subject.kind) {
    case 'user':
      return forUser(deps, directory, agent, request, subject)
    case 'own':
      return withToken(deps, directory, agent, confirmation, request, subject)
    case 'hand_over':
      return handedOver(deps, directory, agent, request, subject)
  }
}

async function autonomous(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  request: TokenRequest,
): Promise<Result<Standing>> {
  if (!agent.autonomous) return refuse('grant_not_allowed', 'request')
  const subject: SubjectFacts = { id: agent.spiffeId, issuer: '', groups: [], claims: {}, autonomous: true }
  const task = await rootTask(deps, directory, agent, request, subject.id)
  if (!task.ok) return task
  return ok({ kind: 'autonomous', subject, task: task.value, hops: [], checked: [], identity: subject.id })
}

async function forUser(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  request: TokenRequest,
  token: Extract<SubjectToken, { kind: 'user' }>,
): Promise<Result<Standing>> {
  if (token.mayAct && (token.mayAct.iss !== directory.settings.issuer || token.mayAct.sub !== agent.spiffeId)) {
    return refuse('may_act', 'subject_token')
  }
  const task = await rootTask(deps, directory, agent, request, token.facts.id)
  if (!task.ok) return task
  return ok({
    kind: 'user',
    subject: token.facts,
    subjectRights: token.issuer.rights({ sub: bareSubject(token.facts), groups: token.facts.groups }),
    task: task.value,
    actor: { sub: agent.spiffeId, ...(token.actor ? { act: token.actor } : {}) },
    hops: [],
    checked: vouchedHops(token, task.value),
    signedInAt: token.signedInAt,
    identity: token.facts.id,
  })
}

/**
 * Actors of a user's token stand in no token of ours yet: a ban on one forbids what would descend from it, while a cut
 * is over before that (no epoch is later than this one).
 */
function vouchedHops(
  { facts, actor }: Extract<SubjectToken, { kind: 'user' }>,
  task: Standing['task'],
): readonly CheckedHop[] {
  const rev = { generation: Number.MAX_SAFE_INTEGER, sequence: Number.MAX_SAFE_INTEGER }
  const root = 'existing' in task ? { root: task.existing.root } : {}
  const hops: CheckedHop[] = []
  for (let each = actor; each; each = each.act)
    hops.push({ rev, facts: { sub: facts.id, ...root, ...actorFacts(each.sub) } })
  return hops
}

/** A root task: named, and then it must be this agent's for this subject; or opened. */
async function rootTask(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  request: TokenRequest,
  subject: string,
): Promise<Result<Standing['task']>> {
  const now = deps.now()
  if (request.taskId !== undefined) {
    // Whose it is comes before how it stands: somebody else's task is one that does not exist (D21). And a child task
    // has a chain behind it that a user's token knows nothing of.
    const task = await activeTask(
      deps,
      request.taskId,
      now,
      ({ agent: owner, subject: whose, parent }) =>
        owner === agent.clientId && whose.id === subject && parent === undefined,
    )
    return task.ok ? ok({ existing: task.value }) : task
  }
  const asked = request.requestDetails ?? agent.defaultTask
  if (asked === undefined) {
    return refuse('param_missing', 'request', {
      detail: 'send task_id for an existing task, or request_details to open one',
    })
  }
  const details = parseRequestDetails(asked, directory.settings.tasks)
  if (!details.ok) return details
  return ok({ opens: details.value, deadline: now + details.value.deadlineSeconds })
}

/** One of our own access tokens: from its holder, or from the tool that is its audience. */
async function withToken(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  confirmation: Confirmation | undefined,
  request: TokenRequest,
  { claims, kid }: Extract<SubjectToken, { kind: 'own' }>,
): Promise<Result<Standing>> {
  const checked = hopsOf(claims, kid)
  if (!checked) return refuse('bad_claim', 'subject_token')
  const holder = claims.client_id === agent.clientId
  const audience = directory.tools.byAudience(claims.aud)?.agent === agent.clientId
  if (!holder && !audience) return refuse('presenter_not_audience', 'subject_token')
  if (request.taskId !== undefined && request.taskId !== claims.task.id) {
    return refuse('context_mismatch', 'request', { detail: 'task_id is not the task of the subject token' })
  }
  const task = await activeTask(deps, claims.task.id, deps.now())
  if (!task.ok) return task
  const rights = rightsOf(directory, task.value.subject)
  if (!rights.ok) return rights
  const common = {
    subject: task.value.subject,
    ...rights.value,
    checked,
    cause: claims.jti,
    identity: claims.jti,
  }
  if (holder) {
    // Without a bound key nobody can prove to be the holder.
    if (!claims.cnf) return refuse('presenter_not_audience', 'subject_token')
    if (!sameKey(claims.cnf, confirmation)) return refuse('cnf_mismatch', 'subject_token')
    if (request.requestDetails !== undefined) {
      return refuse('bad_param', 'request', { detail: 'a holder stays in its task: leave request_details out' })
    }
    if (task.value.agent !== agent.clientId) return refuse('task_not_active', 'request')
    return ok({
      kind: 'own',
      ...common,
      parentGrants: fromAuthorizationDetails(claims.authorization_details),
      task: { existing: task.value },
      ...(claims.act ? { actor: claims.act } : {}),
      hops: ancestorsOf(claims, kid),
      onlyAudience: claims.aud,
      subjectExpiresAt: claims.exp,
    })
  }
  const opened = childTask(directory, request, task.value, deps.now(), claims.exp)
  if (!opened.ok) return opened
  return ok({
    kind: 'audience',
    ...common,
    // At itself a tool does what it was asked to do; what it needs from others for that is bounded by the task.
    parentGrants: [
      ...meetGrants(fromAuthorizationDetails(claims.authorization_details), task.value.authority),
      ...task.value.authority.filter((grant) => directory.tools.byName(grant.tool)?.audience !== claims.aud),
    ],
    task: opened.value,
    actor: { sub: agent.spiffeId, ...(claims.act ? { act: claims.act } : {}) },
    hops: [hopFrom(claims, kid), ...ancestorsOf(claims, kid)],
  })
}

async function handedOver(
  deps: StandingDeps,
  directory: Directory,
  agent: AgentRegistration,
  request: TokenRequest,
  { claims, kid }: Extract<SubjectToken, { kind: 'hand_over' }>,
): Promise<Result<Standing>> {
  if (claims.may_act.iss !== directory.settings.issuer || claims.may_act.sub !== agent.spiffeId) {
    return refuse('may_act', 'subject_token')
  }
  if (request.taskId !== undefined) {
    return refuse('bad_param', 'request', { detail: 'a hand-over opens a task of its own: leave task_id out' })
  }
  const task = await activeTask(deps, claims.task.id, deps.now())
  if (!task.ok) return task
  const opened = childTask(directory, request, task.value, deps.now(), task.value.deadline)
  if (!opened.ok) return opened
  const checked = hopsOfHandOver(claims, kid)
  if (!checked) return refuse('bad_claim', 'subject_token')
  const rights = rightsOf(directory, task.value.subject)
  if (!rights.ok) return rights
  return ok({
    kind: 'hand_over',
    subject: task.value.subject,
    ...rights.value,
    // What was handed over was within the task; who forges a hand-over must not reach beyond it either.
    parentGrants: meetGrants(fromAuthorizationDetails(claims.authorization_details), task.value.authority),
    task: opened.value,
    actor: { sub: agent.spiffeId, ...(claims.act ? { act: claims.act } : {}) },
    hops: unpackHops(inheritedFrom(claims, kid), claims.hops),
    checked,
    oneUse: { id: handOverSpendId(claims), expiresAt: claims.exp, issuedAt: claims.iat },
    opensTask: handOverTaskId(claims),
    cause: claims.jti,
    identity: claims.jti,
  })
}

const ancestorsOf = (claims: AccessTokenClaims, kid: string): readonly WholeHop[] =>
  unpackHops(inheritedFrom(claims, kid), claims.hops ?? [])

/** A child's life ends no later than its parent's; its context is its parent's. */
function childTask(
  directory: Directory,
  request: TokenRequest,
  parent: Task,
  now: number,
  parentEnds: number,
): Result<Standing['task']> {
  if (parentEnds - now < LEAST_USEFUL_SECONDS) return refuse('parent_expiring', 'subject_token')
  const inherited: RequestDetails = {
    purpose: parent.purpose,
    context: parent.context,
    deadlineSeconds: parentEnds - now,
    budget: {},
  }
  let opens = inherited
  if (request.requestDetails !== undefined) {
    const details = parseRequestDetails(request.requestDetails, directory.settings.tasks)
    if (!details.ok) return details
    opens = details.value
    if (
      opens.context.environment !== parent.context.environment ||
      opens.context.dataClassification !== parent.context.dataClassification
    ) {
      return refuse('context_mismatch', 'request', {
        detail: "a handed-over task keeps its parent's environment and data_classification",
      })
    }
  }
  const deadline = Math.min(now + opens.deadlineSeconds, parentEnds, parent.deadline)
  return ok({ opens, parent, deadline })
}

async function activeTask(
  deps: StandingDeps,
  id: string,
  now: number,
  mayKnow: (task: Task) => boolean = () => true,
): Promise<Result<Task>> {
  const task = await deps.tasks.get(id)
  if (!task || !mayKnow(task)) return refuse('task_not_active', 'request')
  const state = stateAt(task, now)
  if (state === 'active') return ok(task)
  if (state === 'suspended')
    return refuse('suspended', 'request', { explanation: { rule: task.suspendedBy?.[0] ?? '' } })
  return refuse(state === 'expired' ? 'task_expired' : 'task_not_active', 'request')
}

/** The subject's rights as the configuration has them now, whatever it had when the task was opened. */
function rightsOf(directory: Directory, subject: SubjectFacts): Result<{ readonly subjectRights?: readonly Grant[] }> {
  if (subject.autonomous) return ok({})
  const issuer = directory.issuers.all.find((each) => each.name === subject.issuer)
  if (!issuer) return refuse('untrusted_issuer', 'subject_token', { detail: 'its subject is of no trusted issuer now' })
  if (issuer.disabledSubjects.has(bareSubject(subject))) return refuse('subject_disabled', 'subject_token')
  return ok({ subjectRights: issuer.rights({ sub: bareSubject(subject), groups: subject.groups }) })
}

const bareSubject = (subject: SubjectFacts): string => subject.id.slice(subject.issuer.length + 1)

const sameKey = (bound: Confirmation, shown: Confirmation | undefined): boolean =>
  shown !== undefined &&
  ('jkt' in bound
    ? 'jkt' in shown && bound.jkt === shown.jkt
    : 'x5t#S256' in shown && bound['x5t#S256'] === shown['x5t#S256'])

/** Actors in the chain that the new token will have, an autonomous subject included. */
export function chainLength({ actor, subject }: Standing): number {
  let length = subject.autonomous ? 1 : 0
  for (let each = actor; each; each = each.act) length += 1
  return length
}

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
