/** Opens a root task without asking for a token yet: `POST /tasks`. */
import { createHash } from 'node:crypto'
import type { Grant } from '@errand/verifier/claims.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { grantsWithin, meetGrants } from '@errand/verifier/grants.ts'
import { trustDomainOf } from '@errand/verifier/shapes.ts'
import { newDecisionId } from '../audit/ids.ts'
import type { AuditLog } from '../audit/log.ts'
import { ok, type Refusal, type Result, refuse } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import type { RequestDetails } from '../tasks/request-details.ts'
import type { SubjectFacts, Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { Revocations } from '../tokens/revocations.ts'
import type { SignOuts } from '../tokens/sign-outs.ts'
import type { ReadSubjectToken } from '../tokens/subject.ts'
import type { ProvenAgent } from './authenticate.ts'
import type { Directory } from './directory.ts'
import { explainTask } from './explain.ts'
import { keptOut, signedOut } from './prepared.ts'
import { attestationOf, explanationDetails } from './record.ts'
import { taskAuthority } from './standing.ts'
import type { IdempotencyStore } from './idempotency.ts'
import { boundKey, claimRetry, taskIdFor } from './retry.ts'

export interface TaskRequest {
  readonly details: RequestDetails
  /** A user's token; absent opens an autonomous task. */
  readonly subject?: { readonly token: string; readonly type: string }
  /** Narrows the task's authority; absent is all that subject and ceiling allow. */
  readonly requested?: readonly Grant[]
  readonly askedIn: 'request' | 'authorization_details'
  /** Header `Idempotency-Key`. */
  readonly idempotencyKey?: string
}

export interface OpenTaskDeps {
  readonly now: () => number
  readonly nowMs: () => number
  readonly tasks: TaskStore
  readonly revocations: Revocations
  readonly signOuts: Pick<SignOuts, 'before'>
  readonly audit: AuditLog
  readonly idempotency: IdempotencyStore
  readonly readSubject: (directory: Directory) => ReadSubjectToken
}

export type OpenTask = (
  directory: Directory,
  proven: ProvenAgent,
  request: TaskRequest,
  correlation: string,
) => Promise<Result<Task>>

export function createOpenTask(deps: OpenTaskDeps): OpenTask {
  return async (directory, proven, request, correlation) => {
    const { attested } = proven
    const { agent } = attested
    const decisionId = newDecisionId(deps.audit.logId, deps.nowMs())
    const no = async (refusal: Refusal) => {
      await deps.audit.append({
        type: 'task.refused',
        decision: 'refuse',
        reason: refusal.reason,
        decisionId,
        agent: agent.clientId,
        correlation,
        attestation: attestationOf(attested),
        details: explanationDetails(refusal),
      })
      return {
        ok: false as const,
        refusal: { ...refusal, proven: true, explanation: { decisionId, ...refusal.explanation } },
      }
    }

    const subject = await subjectOf(deps, directory, proven, request)
    if (!subject.ok) return no(subject.refusal)
    const { facts, rights, signedInAt } = subject.value
    const most = taskAuthority(rights ? { subjectRights: rights } : {}, attested)
    if (request.requested && !grantsWithin(request.requested, most)) {
      const asked = { requested: request.requested, askedIn: request.askedIn }
      const explanation = explainTask(asked, most, { agent, subject: facts })
      return no({ reason: 'scope_not_granted', slot: request.askedIn, explanation })
    }

    const now = deps.now()
    const retry = retryOf(proven, request, facts.id)
    if (retry) {
      const claim = await claimRetry(deps, retry.key, retry.digest, directory.settings.tokens.idempotencySeconds)
      if (!claim.ok) return no(claim.refusal)
    }
    const id = retry ? taskIdFor(retry.key, retry.digest) : newId('task')
    // The answer to the first try was lost: the same task, as it is now.
    const before = retry && (await deps.tasks.get(id))
    if (before) return ok(before)
    const answer = await deps.revocations.check({
      hops: [],
      issuing: {
        task: id,
        root: id,
        sub: facts.id,
        agent: agent.spiffeId,
        domain: trustDomainOf(agent.spiffeId),
        client_id: agent.clientId,
        ...(attested.release === undefined ? {} : { release: attested.release }),
      },
    })
    if (answer.banned) {
      if (retry) await deps.idempotency.release(retry.key)
      return no(keptOut(answer.banned))
    }
    const left = await signedOut(deps, { subject: facts, ...(signedInAt === undefined ? {} : { signedInAt }) })
    if (left) {
      if (retry) await deps.idempotency.release(retry.key)
      return no(left)
    }

    const { details } = request
    const task: Task = {
      id,
      root: id,
      depth: 1,
      subject: facts,
      agent: agent.clientId,
      agentSpiffeId: agent.spiffeId,
      ...(attested.release === undefined ? {} : { release: attested.release }),
      purpose: details.purpose,
      context: details.context,
      budget: details.budget,
      authority: request.requested ? meetGrants(request.requested, most) : most,
      state: 'active',
      createdAt: now,
      deadline: now + details.deadlineSeconds,
      ...(details.heartbeatSeconds === undefined
        ? {}
        : { heartbeatSeconds: details.heartbeatSeconds, heartbeatBy: now + details.heartbeatSeconds }),
      spent: { calls: 0, exchanges: 0, cost: 0 },
    }
    const receipt = await deps.audit.append({
      type: 'task.opened',
      decision: 'permit',
      decisionId,
      agent: agent.clientId,
      subject: facts.id,
      task: id,
      root: id,
      correlation,
      epoch: formatEpoch(answer.epoch),
      purpose: details.purpose,
      attestation: attestationOf(attested),
    })
    await deps.tasks.open(task, now)
    if (retry) await deps.idempotency.complete(retry.key, { ...receipt, response: id })
    return ok(task)
  }
}

/** The same key and the same request name the same task; the same key with another request is refused (D20). */
function retryOf(
  proven: ProvenAgent,
  { idempotencyKey, details, requested }: TaskRequest,
  subject: string,
): { readonly key: string; readonly digest: string } | undefined {
  if (idempotencyKey === undefined) return undefined
  return {
    // Apart from the keys of exchanges: the two endpoints know nothing of one another's requests.
    key: boundKey(proven, `POST /tasks ${idempotencyKey}`),
    digest: createHash('sha256')
      .update(JSON.stringify([subject, details, requested ?? null]))
      .digest('base64url'),
  }
}

async function subjectOf(
  deps: OpenTaskDeps,
  directory: Directory,
  { attested }: ProvenAgent,
  request: TaskRequest,
): Promise<Result<{ facts: SubjectFacts; rights?: readonly Grant[]; signedInAt?: number }>> {
  const { agent } = attested
  if (!request.subject) {
    if (!agent.autonomous) return refuse('grant_not_allowed', 'request')
    return ok({ facts: { id: agent.spiffeId, issuer: '', groups: [], claims: {}, autonomous: true } })
  }
  const read = await deps.readSubject(directory)(request.subject.token, request.subject.type)
  if (!read.ok) return read
  if (read.value.kind !== 'user') {
    return refuse('token_type_mismatch', 'subject_token', { detail: "a root task is opened with a user's token" })
  }
  const { facts, issuer, mayAct, signedInAt } = read.value
  if (mayAct && (mayAct.iss !== directory.settings.issuer || mayAct.sub !== agent.spiffeId)) {
    return refuse('may_act', 'subject_token')
  }
  const sub = facts.id.slice(facts.issuer.length + 1)
  return ok({ facts, rights: issuer.rights({ sub, groups: facts.groups }), signedInAt })
}
