/** What a request says of the task it opens: JSON of integers and closed lists, nothing coerced. */
import { parseStrictJson } from '@errand/verifier/strict-json.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { type Budget, CLASSIFICATIONS, ENVIRONMENTS, type TaskContext } from './task.ts'

export interface RequestDetails {
  readonly purpose: string
  readonly context: TaskContext
  readonly deadlineSeconds: number
  readonly heartbeatSeconds?: number
  readonly budget: Budget
}

export interface DetailBounds {
  readonly defaultDeadlineSeconds: number
  readonly maxDeadlineSeconds: number
}

const LARGEST = { max_calls: 1_000_000, max_exchanges: 100_000, max_cost: 100_000_000 } as const
const MEMBERS = ['purpose', 'environment', 'data_classification', 'deadline_seconds', 'heartbeat_seconds', 'budget']

const bad = (detail: string) => refuse('bad_request_details', 'request', { detail })

/** The form parameter `request_details`. */
export function parseRequestDetails(text: string, bounds: DetailBounds): Result<RequestDetails> {
  if (text.length > 8192) return bad('request_details is longer than 8192 characters')
  const json = parseStrictJson(text, { maxDepth: 4 })
  if (!json.ok) return bad('request_details is not a JSON object of the documented form')
  return readRequestDetails(json.value, bounds)
}

/** The same members out of a JSON body; `also` names further members that the caller reads itself. */
export function readRequestDetails(
  value: unknown,
  bounds: DetailBounds,
  also: readonly string[] = [],
): Result<RequestDetails> {
  if (!isObject(value)) return bad('request_details must be a JSON object')
  for (const name of Object.keys(value)) {
    if (!MEMBERS.includes(name) && !also.includes(name)) return bad(`${name} is not a member of request_details`)
  }
  const { purpose, budget } = value
  if (
    typeof purpose !== 'string' ||
    purpose.length < 1 ||
    purpose.length > 500 ||
    /[\p{Cc}\p{Cs}\p{Cf}\p{Zl}\p{Zp}]/u.test(purpose)
  ) {
    return bad('purpose must be text of 1 to 500 characters without control characters')
  }
  const environment = oneOf(ENVIRONMENTS, value['environment'])
  if (!environment) return bad(`environment must be one of ${ENVIRONMENTS.join(', ')}`)
  const dataClassification = oneOf(CLASSIFICATIONS, value['data_classification'])
  if (!dataClassification) return bad(`data_classification must be one of ${CLASSIFICATIONS.join(', ')}`)
  const deadline = integer(value['deadline_seconds'], bounds.maxDeadlineSeconds)
  if (deadline === 'bad') return bad(`deadline_seconds must be an integer from 1 to ${bounds.maxDeadlineSeconds}`)
  const heartbeat = integer(value['heartbeat_seconds'], 3600)
  if (heartbeat === 'bad') return bad('heartbeat_seconds must be an integer from 1 to 3600')
  const read = readBudget(budget, bounds)
  if (!read.ok) return read
  return ok({
    purpose,
    context: { environment, dataClassification },
    deadlineSeconds: Math.min(
      deadline ?? bounds.defaultDeadlineSeconds,
      read.value.maxDurationSeconds ?? bounds.maxDeadlineSeconds,
    ),
    ...(heartbeat === undefined ? {} : { heartbeatSeconds: heartbeat }),
    budget: read.value,
  })
}

function readBudget(value: unknown, bounds: DetailBounds): Result<Budget> {
  if (value === undefined) return ok({})
  if (!isObject(value)) return bad('budget must be a JSON object')
  const budget: { -readonly [K in keyof Budget]: Budget[K] } = {}
  for (const [name, amount] of Object.entries(value)) {
    const most =
      name === 'max_duration_seconds'
        ? bounds.maxDeadlineSeconds
        : Object.hasOwn(LARGEST, name)
          ? LARGEST[name as keyof typeof LARGEST]
          : undefined
    if (most === undefined) return bad(`${name} is not a member of budget`)
    const read = integer(amount, most)
    if (read === 'bad' || read === undefined) return bad(`budget.${name} must be an integer from 1 to ${most}`)
    if (name === 'max_calls') budget.maxCalls = read
    else if (name === 'max_exchanges') budget.maxExchanges = read
    else if (name === 'max_cost') budget.maxCost = read
    else budget.maxDurationSeconds = read
  }
  return ok(budget)
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const oneOf = <T extends string>(list: readonly T[], value: unknown): T | undefined =>
  list.find((each) => each === value)

function integer(value: unknown, most: number): number | undefined | 'bad' {
  if (value === undefined) return undefined
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most ? value : 'bad'
}
