/** The preview of a revocation, as a table: what it would touch, how many, and which. */
import type { Cli } from './cli.ts'
import type { Json } from './client.ts'
import { facts, table, time } from './print.ts'
import { matchText, number, object, objects, text, texts } from './rows.ts'

/** So many are named in a line. */
const NAMED = 3

const TASKS: Readonly<Record<string, string>> = {
  end: 'tasks that would end',
  suspend: 'tasks that would pause',
  contain: 'tasks that something would be taken from',
  go_on: 'tasks that lose tokens and go on',
}

export function previewLines(cli: Pick<Cli, 'colors'>, answer: Json): readonly string[] {
  const [tasks, live] = [object(answer['tasks']), object(answer['live_tokens'])]
  const row = (what: string, members: Json, names: readonly string[], most = false) => {
    const total = number(members['total']) ?? 0
    const shown = names.slice(0, NAMED).join(' ')
    return { what, count: `${total}${most ? ' or more' : ''}`, which: total > NAMED ? `${shown} …` : shown }
  }
  const named = (what: string, member: string) => {
    const members = object(answer[member])
    return row(what, members, texts(members['names']))
  }
  const count = number(live['count']) ?? 0
  const all = live['not_counted'] === undefined
  const expiry = time(live['latest_expiry'])
  const rows = [
    row(TASKS[text(tasks['effect']) ?? ''] ?? 'tasks', tasks, texts(tasks['ids']), tasks['complete'] === false),
    named('subjects', 'subjects'),
    ...(answer['releases'] === undefined ? [] : [named('releases', 'releases')]),
    named('agents', 'agents'),
    named('tools', 'tools'),
    {
      what: 'live tokens',
      count: live['exact'] === true ? `${count}` : all ? `${count} at most` : `${count} or more`,
      which: [
        ...(expiry === '' ? [] : [`the last expires ${expiry}`]),
        ...(all ? [] : ['another replica did not answer']),
      ].join('; '),
    },
    ...objects(answer['verifiers']).map(({ tool, by, bound_seconds: bound }) => ({
      what: `refused at ${text(tool) ?? ''}`,
      count: '',
      which: `${by === 'feed' ? 'follows the feed;' : 'does not follow:'} within ${number(bound) ?? '?'} s in any case`,
    })),
  ]
  return [
    ...facts(cli, [
      ['match', matchText(answer['match'])],
      ['mode', answer['mode']],
    ]),
    '',
    ...table(cli, rows, [
      { title: 'WOULD TOUCH', cell: ({ what }) => what },
      { title: 'COUNT', cell: ({ count: many }) => many },
      { title: 'WHICH', cell: ({ which }) => which },
    ]),
  ]
}

/** A revocation that waits for a second person. */
export const pendingLines = (cli: Pick<Cli, 'colors'>, pending: Json): readonly string[] =>
  facts(cli, [
    ['revocation', pending['id']],
    ['match', matchText(pending['match'])],
    ['mode', pending['mode']],
    ['pinned tasks', pending['pinned_tasks']],
    ['asked by', pending['by']],
    ['reason', pending['reason']],
    ['waits until', time(pending['expires_at'])],
  ])
