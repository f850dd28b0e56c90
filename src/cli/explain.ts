/** `errand explain`: why a token was granted or refused, operation by operation. */
import type { AuditRecord } from '../audit/log.ts'
import { readIntersection } from '../exchange/intersection.ts'
import { OPERANDS } from '../policy/decision.ts'
import { type Cli, EXIT, usage } from './cli.ts'
import type { Json } from './client.ts'
import { adminClient } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { isObject, number, object, objects, text, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const explain = verb({
  description: 'Explains a decision: which operand of the intersection each operation passed, and where it was lost.',
  args: {
    id: { type: 'positional', description: 'jti of a token, or dec_… of an answer', required: true },
    ...JSON_FLAG,
  },
  examples: [
    'errand explain dec_AAECAwF0yZb3n0bq2mUoWk1hYTQ',
    'errand token get --agent research --user alice --tool payments   # refused: shows a dec_… id',
  ],
  async run(args, cli) {
    if (!/^(?:dec_)?[A-Za-z0-9_-]{27}$/.test(args.id))
      throw usage('not a jti or dec_… id', 'errand token inspect shows the jti of a token; refusals show a dec_… id.')
    const record = await (await adminClient(cli)).get(`/explanations/${args.id}`)
    for (const line of args.json ? [json(record)] : explained(cli, record)) cli.out(line)
    return EXIT.ok
  },
})

/** A decision record, or the answer to a dry run, as a page. */
export function explained(cli: Cli, record: Json): string[] {
  const { colors } = cli
  const details = object(record['details'])
  const att = object(record['att'])
  const log = object(record['log'])
  const at = number(record['t'])
  const permitted = record['decision'] === 'permit'
  const { rows, more } = rowsOf(record)
  const known = facts(cli, [
    ['agent', record['agent']],
    ['attested', att['kind'] === undefined ? undefined : `${safe(att['kind'])}, tier ${safe(att['tier'])}`],
    ['for', record['subject_name'] ?? record['subject']],
    ['tool', record['tool']],
    ['task', record['task']],
    ['purpose', record['purpose']],
    ['token', record['jti']],
    ['reason', record['reason']],
    ['detail', details['detail']],
    ['rule', details['rule']],
    ['missing', texts(details['missing']).join(' ')],
    ['next', details['next']],
    ['action', details['next_action']],
    ['policies', texts(record['rules']).join(' ')],
    ['epoch', record['epoch']],
    ['when', at === undefined ? undefined : time(at / 1000)],
    ['record', log['index'] === undefined ? undefined : `${safe(log['index'])} of log ${safe(log['id'])}`],
    ['page', record['error_uri']],
  ])
  return [
    `${permitted ? colors.green('permitted') : colors.red('refused')} ${safe(record['decision_id'])}`,
    ...(known.length > 0 ? ['', ...known] : []),
    ...(rows.length > 0 ? ['', ...intersection(cli, rows)] : []),
    ...(more === undefined ? [] : [`… and ${more} more`]),
    ...(rows.length > 0 ? why(rows, objects(details['lost'])) : []),
  ]
}

/** One operation with what each operand said of it. */
interface Row {
  readonly name: string
  readonly effect: unknown
  readonly permitted: boolean
  readonly operands: Json
  readonly policies: readonly string[]
  readonly reasons: readonly string[]
  /** Constraints on its arguments, by operand; `granted` are those of the token. */
  readonly constraints: Json
  readonly leastChange: string | undefined
}

function rowsOf(record: Json): { readonly rows: readonly Row[]; readonly more: number | undefined } {
  const { verdicts } = object(record['details'])
  // Records of before, and services of before, say where it was lost and leave the rest to be worked out.
  const read = isObject(record['intersection'])
    ? record['intersection']
    : (readIntersection(record as unknown as AuditRecord, () => undefined) ?? {})
  const told = objects(verdicts)
  const granted = objects(object(record['claims'])['authorization_details'])
  const rows = objects((read as Json)['rows']).map((row, at): Row => {
    const operation = text(row['operation']) ?? ''
    const bounds = granted.find((detail) => texts(detail['operations']).includes(operation))?.['constraints']
    return {
      name: `${text(row['tool']) ?? ''}:${operation}`,
      effect: row['effect'],
      permitted: row['permitted'] === true,
      operands: isObject(told[at]?.['operands']) ? object(told[at]['operands']) : object(row['operands']),
      policies: texts(row['policies']),
      reasons: texts(row['reasons']),
      constraints: { ...object(row['constraints']), ...(bounds === undefined ? {} : { granted: bounds }) },
      leastChange: text(told[at]?.['least_change']),
    }
  })
  return { rows, more: number((read as Json)['more']) }
}

const MARKS: Readonly<Record<string, string>> = { yes: 'yes', no: 'NO', absent: '–' }

/** Operation × operand. Constraints on arguments are notes below the table, each text once. */
function intersection(cli: Cli, rows: readonly Row[]): string[] {
  const { colors } = cli
  const notes: string[] = []
  const noted = (mark: string, constraints: unknown): string => {
    if (constraints === undefined) return mark
    const said = safe(argumentsIn(constraints))
    if (!notes.includes(said)) notes.push(said)
    return `${mark}${raised(notes.indexOf(said) + 1)}`
  }
  const lines = table(cli, rows, [
    { title: 'OPERATION', cell: ({ name }) => name },
    { title: 'EFFECT', cell: ({ effect }) => effect },
    ...OPERANDS.map((operand) => ({
      title: operand,
      cell: ({ operands, constraints }: Row) =>
        noted(MARKS[text(operands[operand]) ?? ''] ?? '·', constraints[operand]),
      paint: (cell: string) =>
        cell.startsWith('NO') ? colors.red(cell) : cell.startsWith('yes') ? colors.green(cell) : colors.dim(cell),
    })),
    {
      title: '',
      cell: ({ permitted, constraints }: Row) => noted(permitted ? 'permitted' : 'refused', constraints['granted']),
      paint: (cell: string, { permitted }: Row) => (permitted ? colors.green(cell) : colors.red(cell)),
    },
  ])
  return [...lines, ...notes.map((note, at) => colors.dim(`${raised(at + 1)} ${note}`))]
}

/** The arguments that a constraint bounds; one object is the usual case. */
function argumentsIn(constraints: unknown): unknown {
  const [only, ...others] = Array.isArray(constraints) ? (constraints as unknown[]) : [constraints]
  return others.length === 0 && isObject(only) && isObject(only['properties']) ? only['properties'] : constraints
}

const raised = (count: number): string => [...String(count)].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')

function why(rows: readonly Row[], lost: readonly Json[]): string[] {
  const told = rows.flatMap(({ name, policies, reasons, leastChange }) => {
    const losses = lost.filter((loss) => `${text(loss['tool']) ?? ''}:${text(loss['operation']) ?? ''}` === name)
    return [
      ...(reasons.length > 0 ? [`${name}: ${reasons.map(safe).join('; ')}`] : []),
      ...(policies.length > 0 ? [`${name}: by ${policies.map(safe).join(', ')}`] : []),
      ...losses.map((loss) => `${name}: at ${safe(loss['operand'])}, ${safe(loss['least_change'])}`),
      ...(losses.length > 0 || leastChange === undefined ? [] : [`${name}: to permit it, ${safe(leastChange)}`]),
    ]
  })
  return told.length > 0 ? ['', ...told.map(safe)] : []
}
