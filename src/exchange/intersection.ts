/**
 * The intersection as records hold it and as it is read again: one line for each operation, short where it was a yes.
 * The form of a line is final: `<operation> <effect or -> <a sign for each operand> <policies>`.
 */
import type { AuditRecord, Json } from '../audit/log.ts'
import { type Decision, OPERANDS, type Operand, type OperationVerdict } from '../policy/decision.ts'

/** Operations of one decision that are recorded; the others are counted. */
const MOST_ROWS = 64
const MOST_POLICIES = 8
/** Longest text of the constraints of one operation at one operand. */
const MOST_TEXT = 600

type Details = { readonly [name: string]: Json }

const rowOf = ({ operation, effect, passed, policies }: OperationVerdict): string =>
  `${operation} ${effect ?? '-'} ${passed}${policies.length === 0 ? '' : ` ${policies.slice(0, MOST_POLICIES).join(',')}`}`

/** What a record of any decision holds. */
export const rowsOf = ({ verdicts }: Decision): Details => ({
  rows: verdicts.slice(0, MOST_ROWS).map(rowOf),
  ...(verdicts.length > MOST_ROWS ? { rows_more: verdicts.length - MOST_ROWS } : {}),
})

/** And of one that was judged whole: the constraints there, as text, since records bound how deep they nest. */
export function wholeRowsOf(decision: Decision): Details {
  const held = decision.verdicts.slice(0, MOST_ROWS).flatMap(({ operation, constraints = {} }) =>
    Object.entries(constraints).map(([operand, own]) => {
      const text = JSON.stringify(own)
      return `${operation} ${operand} ${text.length > MOST_TEXT ? '"…"' : text}`
    }),
  )
  return {
    ...rowsOf(decision),
    pol: decision.policyDigest,
    ...(held.length === 0 ? {} : { held: held.slice(0, MOST_ROWS) }),
  }
}

export type Passed = 'yes' | 'no' | 'not_asked' | 'absent'

export interface IntersectionRow {
  readonly tool: string
  readonly operation: string
  readonly effect?: string
  readonly permitted: boolean
  readonly operands: Readonly<Record<Operand, Passed>>
  readonly policies: readonly string[]
  readonly reasons?: readonly string[]
  /** Constraints on the arguments there, as JSON Schema in our subset. */
  readonly constraints?: Partial<Readonly<Record<Operand, Json>>>
}

export interface Intersection {
  readonly rows: readonly IntersectionRow[]
  /** Operations that were judged and are not recorded. */
  readonly more?: number
}

const SIGNS: Readonly<Record<string, Passed>> = { '1': 'yes', '0': 'no', '-': 'absent' }

export const operandsFrom = (signs: string) =>
  Object.fromEntries(OPERANDS.map((operand, at) => [operand, SIGNS[signs[at] ?? '.'] ?? 'not_asked'])) as Record<
    Operand,
    Passed
  >

const listOf = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? (value as readonly Json[]) : [])
function jsonOr(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return text
  }
}

const isObject = (value: unknown): value is Details =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * Reads a record back; undefined where it is about no decision. `reasonOf` knows the policies of now: it is asked
 * where they are those that decided.
 */
export function readIntersection(
  record: AuditRecord,
  reasonOf: (policy: string) => string | undefined,
): Intersection | undefined {
  const details = isObject(record['details']) ? record['details'] : {}
  const tool = typeof record['tool'] === 'string' ? record['tool'] : ''
  if (!Array.isArray(details['rows'])) return olderRows(details)
  const held = listOf(details['held']).flatMap((line) => {
    const [operation = '', operand = '', ...text] = String(line).split(' ')
    return [{ operation, operand, value: jsonOr(text.join(' ')) }]
  })
  const rows = listOf(details['rows']).map((line): IntersectionRow => {
    const [operation = '', effect = '-', signs = '', by = ''] = String(line).split(' ')
    const policies = by === '' ? [] : by.split(',')
    const reasons = policies.flatMap((policy) => reasonOf(policy) ?? [])
    const own = held.filter((each) => each.operation === operation)
    return {
      tool,
      operation,
      ...(effect === '-' ? {} : { effect }),
      permitted: !/[0.]/.test(signs),
      operands: operandsFrom(signs),
      policies,
      ...(reasons.length === 0 ? {} : { reasons }),
      ...(own.length === 0
        ? {}
        : { constraints: Object.fromEntries(own.map(({ operand, value }) => [operand, value])) }),
    }
  })
  const more = details['rows_more']
  return { rows, ...(typeof more === 'number' ? { more } : {}) }
}

/** Records of before: what was lost after the first loss was not asked, and absent operands stood beside. */
function olderRows(details: Details): Intersection | undefined {
  if (!Array.isArray(details['verdicts'])) return undefined
  const absent = listOf(details['absent'])
  return {
    rows: listOf(details['verdicts'])
      .filter(isObject)
      .map((verdict): IntersectionRow => {
        const lost = OPERANDS.indexOf(verdict['lost_at'] as Operand)
        const permitted = verdict['permitted'] === true
        const sign = (operand: Operand, at: number): Passed => {
          if (absent.includes(operand)) return 'absent'
          if (permitted) return 'yes'
          return lost < 0 || at > lost ? 'not_asked' : at === lost ? 'no' : 'yes'
        }
        const { effect, reasons } = verdict
        return {
          tool: String(verdict['tool'] ?? ''),
          operation: String(verdict['operation'] ?? ''),
          ...(typeof effect === 'string' ? { effect } : {}),
          permitted,
          operands: Object.fromEntries(OPERANDS.map((operand, at) => [operand, sign(operand, at)])) as Record<
            Operand,
            Passed
          >,
          policies: listOf(verdict['policies']).map(String),
          ...(Array.isArray(reasons) ? { reasons: reasons.map(String) } : {}),
        }
      }),
  }
}
