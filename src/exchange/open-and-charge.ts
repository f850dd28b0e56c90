/** The last steps that can refuse: the one-use grant spent, the task opened, its budget charged. */
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { takes } from '../tasks/containment.ts'
import { newId } from '../tasks/ids.ts'
import { stateAt, type Task } from '../tasks/task.ts'
import type { ExchangeDeps, Prepared, rootOf } from './prepared.ts'
import { operationIdFor } from './retry.ts'
import { type Standing, taskAuthority } from './standing.ts'

export async function openAndCharge(
  deps: ExchangeDeps,
  prepared: Prepared,
  place: ReturnType<typeof rootOf>,
  now: number,
  key: string | undefined,
): Promise<Result<{ readonly durable?: Promise<void> }>> {
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
    const { id, expiresAt, issuedAt } = standing.oneUse
    const owner = await deps.grants.pin(id, own, expiresAt, issuedAt)
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
      ...(proven.attested.release === undefined ? {} : { release: proven.attested.release }),
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
      // Judged as one that opens it: what was taken from the task since then is not among what it was judged by.
      const taken = before.contained?.find((each) => prepared.decision.permitted.some((grant) => takes(each, grant)))
      if (taken) return refuse('authority_contained', 'request', { explanation: { rule: taken.by } })
    }
  }
  // Only a budget of exchanges, here or above, makes an exchange a write.
  const counted =
    'existing' in task ? task.existing.budget.maxExchanges !== undefined : task.opens.budget.maxExchanges !== undefined
  if (!counted && !payerHasParents(payer, standing)) return ok({})
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
  return ok(reserved.durable ? { durable: reserved.durable } : {})
}

const payerHasParents = (payer: Task | undefined, { task }: Standing): boolean =>
  payer !== undefined && (!('existing' in task) || payer.parent !== undefined)

const exhausted = ({ budget, spent }: Task): boolean =>
  budget.maxExchanges !== undefined && spent.exchanges >= budget.maxExchanges

const budgetExhausted = (which: string) =>
  refuse('budget_exhausted', 'request', {
    explanation: { rule: `budget.max_${which}`, next: 'open a new task with a larger budget' },
  })
