/** The task tree in Redis: one hash per task, one field per remembered operation, nothing per token. */
import { type Containment, leftOf } from '../../tasks/containment.ts'
import { idsOf } from '../../tasks/live-tasks.ts'
import type { Task, TaskState } from '../../tasks/task.ts'
import type { ReservationAnswer, TaskStore } from '../../tasks/task-store.ts'
import { touchedBy } from '../../tasks/touched.ts'
import { checkAmount } from '../reservation.ts'
import { type RedisClient, type Reply, short, unexpected } from './client.ts'
import { BEAT, DUE, FIELDS, GET, NEWEST, OPEN, PRUNE, RESERVE, TREE } from './task-scripts.ts'
import { ALL_HOLDERS, CONTAIN, END, SUSPEND, WAKE } from './task-state-scripts.ts'

const PAGE = 100
const MAX_READ = 2000
const WOKEN_AT_ONCE = 200

type Fixed = Omit<Task, 'state' | 'spent'>

export function createTaskStore(deps: { redis: RedisClient }): TaskStore {
  const { redis } = deps
  /** By its text: most of a task never changes, and is read again for each of its tokens. */
  const read = new Map<string, Fixed>()

  function fixedOf(text: string): Fixed {
    const known = read.get(text)
    if (known) return known
    const fixed = JSON.parse(text) as Fixed
    if (read.size >= MAX_READ) read.delete(read.keys().next().value!)
    read.set(text, fixed)
    return fixed
  }

  return {
    open: async (task, now) => {
      const values = [task.id, task.parent ?? '', now, task.root, task.createdAt, '', ...fieldsOf(task)]
      const reply = await redis.run(OPEN, values)
      const [outcome] = reply
      if (outcome !== 'opened' && outcome !== 'exists' && outcome !== 'parent_not_active') throw unexpected(reply)
      return outcome
    },
    get: async (id) => toTasks(await redis.run(GET, [id]), fixedOf)[0],
    tree: async (root) => toTasks(await redis.run(TREE, [root])),
    list: async (filter) => {
      const { agent, agentSpiffeId, domain, release, subject, state, notHeldBy, notContainedBy } = filter
      const { touchedBy: by, limit } = filter
      const found: Task[] = []
      for (let from = 0; found.length < limit; from += PAGE) {
        const page = toTasks(await redis.run(NEWEST, [from, from + PAGE - 1]))
        if (page.length === 0) break
        found.push(
          ...page.filter(
            (task) =>
              (agent === undefined || task.agent === agent) &&
              (agentSpiffeId === undefined || task.agentSpiffeId === agentSpiffeId) &&
              (domain === undefined || task.agentSpiffeId.startsWith(idsOf(domain))) &&
              (release === undefined || task.release === release) &&
              (subject === undefined || task.subject.id === subject) &&
              (state === undefined || task.state === state) &&
              (notHeldBy === undefined || !task.suspendedBy?.includes(notHeldBy)) &&
              (by === undefined || touchedBy(task, by).length > 0) &&
              (notContainedBy === undefined || !task.contained?.some(({ by }) => by === notContainedBy)),
          ),
        )
      }
      return found.slice(0, limit)
    },
    end: async (id, state, reason, at) => {
      const reply = await redis.run(END, [id, state, reason, at])
      if (reply[0] !== 'ended') throw unexpected(reply)
      return reply.slice(1)
    },
    contain: async (id, containment, now) => {
      const reply = await redis.run(CONTAIN, [id, JSON.stringify(containment), now])
      if (reply[0] !== 'contained') throw unexpected(reply)
      return reply.slice(1)
    },
    suspend: async (id, by, now) => {
      const reply = await redis.run(SUSPEND, [id, by, now])
      if (reply[0] !== 'suspended') throw unexpected(reply)
      return reply.slice(1)
    },
    wake: async (by, now) => {
      const woken: string[] = []
      // In parts: one script may not hold up everybody else.
      for (;;) {
        const [more, ...ids] = await redis.run(WAKE, [by, now, WOKEN_AT_ONCE])
        woken.push(...ids)
        if (more !== 'more') return woken
      }
    },
    holders: async () => (await redis.run(ALL_HOLDERS, [])).slice(1),
    beat: async (id, now) => (await redis.run(BEAT, [id, now]))[0] === 'done',
    reserve: async (id, amount, now) => {
      checkAmount(amount)
      const operation = amount.operationId === undefined ? '' : short(amount.operationId)
      return toAnswer(await redis.run(RESERVE, [id, operation, now, amount.calls, amount.exchanges, amount.cost]))
    },
    due: async (now, limit) => (await redis.run(DUE, [now, limit])).slice(1),
    prune: async (before) => {
      // In parts: one script may not hold up everybody else.
      while ((await redis.run(PRUNE, [before]))[0] === 'more');
    },
  }
}

function fieldsOf(task: Task): readonly (string | number)[] {
  const { state, heartbeatBy, endedAt, endedReason, suspendedBy: _, contained: __, spent, ...fixed } = task
  const fields: [string, string | number | undefined][] = [
    ['fixed', JSON.stringify(fixed)],
    ['root', task.root],
    ['state', state],
    ['deadline', task.deadline],
    ['heartbeat_seconds', task.heartbeatSeconds],
    ['heartbeat_by', heartbeatBy],
    ['ended_at', endedAt],
    ['ended_reason', endedReason],
    ['calls', spent.calls],
    ['exchanges', spent.exchanges],
    ['cost', spent.cost],
    ['max_calls', task.budget.maxCalls],
    ['max_exchanges', task.budget.maxExchanges],
    ['max_cost', task.budget.maxCost],
  ]
  return fields.flatMap(([name, value]) => (value === undefined ? [] : [name, value]))
}

function toTasks(reply: Reply, parse: (fixed: string) => Fixed = JSON.parse): readonly Task[] {
  if (reply[0] !== 'tasks' || (reply.length - 1) % FIELDS !== 0) throw unexpected(reply)
  const tasks: Task[] = []
  for (let index = 1; index < reply.length; index += FIELDS) {
    const [fixed, state, heartbeatBy, endedAt, endedReason, calls, exchanges, cost, suspendedBy, contained] =
      reply.slice(index, index + FIELDS)
    if (!fixed || !state) throw unexpected(reply)
    const base = parse(fixed)
    const taken = contained ? (JSON.parse(contained) as readonly Containment[]) : undefined
    tasks.push({
      ...base,
      ...(taken ? { contained: taken, authority: leftOf(base.authority, taken) } : {}),
      state: state as TaskState,
      ...(heartbeatBy ? { heartbeatBy: Number(heartbeatBy) } : {}),
      ...(suspendedBy ? { suspendedBy: suspendedBy.split(' ') } : {}),
      ...(endedAt ? { endedAt: Number(endedAt), endedReason: endedReason ?? '' } : {}),
      spent: { calls: Number(calls), exchanges: Number(exchanges), cost: Number(cost) },
    })
  }
  return tasks
}

function toAnswer(reply: Reply): ReservationAnswer {
  const [outcome, one, two] = reply
  if (outcome === 'reserved') {
    const [calls, exchanges, cost] = (one ?? '').split(' ').map(Number)
    if (calls === undefined || exchanges === undefined || cost === undefined) throw unexpected(reply)
    return { outcome, spent: { calls, exchanges, cost } }
  }
  if (outcome === 'exhausted' && one !== undefined && (two === 'calls' || two === 'exchanges' || two === 'cost')) {
    return { outcome, of: one, budget: two }
  }
  if (outcome === 'not_active' && one !== undefined) return { outcome, state: one as TaskState | 'unknown' }
  throw unexpected(reply)
}
