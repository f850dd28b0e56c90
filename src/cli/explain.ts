/** `errand explain`: why a token was granted or refused, operation by operation. */
import { OPERANDS, type Operand } from '../policy/decision.ts'
import { type Cli, EXIT, usage } from './cli.ts'
import type { Json } from './client.ts'
import { adminClient } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { number, object, objects, text, texts } from './rows.ts'
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

/** A decision record as a page. */
export function explained(cli: Cli, record: Json): string[] {
  const { colors } = cli
  const details = object(record['details'])
  const att = object(record['att'])
  const log = object(record['log'])
  const at = number(record['t'])
  const permitted = record['decision'] === 'permit'
  const verdicts = objects(details['verdicts'])
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
    ['policies', texts(record['rules']).join(' ')],
    ['epoch', record['epoch']],
    ['when', at === undefined ? undefined : time(at / 1000)],
    ['record', log['index'] === undefined ? undefined : `${safe(log['index'])} of log ${safe(log['id'])}`],
  ])
  return [
    `${permitted ? colors.green('permitted') : colors.red('refused')} ${safe(record['decision_id'])}`,
    ...(known.length > 0 ? ['', ...known] : []),
    ...(verdicts.length > 0 ? ['', ...intersection(cli, verdicts, texts(details['absent'])), ...why(verdicts)] : []),
  ]
}

/** Operation × operand. Operands are judged in order; after the one at which it was lost none is asked. */
function intersection(cli: Cli, verdicts: readonly Json[], absent: readonly string[]): string[] {
  const { colors } = cli
  const mark = (verdict: Json, at: number): string => {
    // A root task has no parent, an autonomous one no subject: nothing was asked there.
    if (absent.includes(OPERANDS[at]!)) return '–'
    if (verdict['permitted'] === true) return 'yes'
    const lost = OPERANDS.indexOf(verdict['lost_at'] as Operand)
    return lost < 0 || at > lost ? '·' : at === lost ? 'NO' : 'yes'
  }
  return table(cli, verdicts, [
    { title: 'OPERATION', cell: (verdict) => `${text(verdict['tool']) ?? ''}:${text(verdict['operation']) ?? ''}` },
    { title: 'EFFECT', cell: (verdict) => verdict['effect'] },
    ...OPERANDS.map((operand, at) => ({
      title: operand,
      cell: (verdict: Json) => mark(verdict, at),
      paint: (cell: string) =>
        cell.startsWith('NO') ? colors.red(cell) : cell.startsWith('yes') ? colors.green(cell) : colors.dim(cell),
    })),
    {
      title: '',
      cell: (verdict: Json) => (verdict['permitted'] === true ? 'permitted' : 'refused'),
      paint: (cell: string, verdict: Json) => (verdict['permitted'] === true ? colors.green(cell) : colors.red(cell)),
    },
  ])
}

function why(verdicts: readonly Json[]): string[] {
  const told = verdicts.flatMap((verdict) => {
    const name = `${safe(verdict['tool'])}:${safe(verdict['operation'])}`
    const policies = texts(verdict['policies'])
    const reasons = texts(verdict['reasons'])
    const change = text(verdict['least_change'])
    return [
      ...(reasons.length > 0 ? [`${name}: ${reasons.map(safe).join('; ')}`] : []),
      ...(policies.length > 0 ? [`${name}: by ${policies.map(safe).join(', ')}`] : []),
      ...(change === undefined ? [] : [`${name}: to permit it, ${safe(change)}`]),
    ]
  })
  return told.length > 0 ? ['', ...told] : []
}
