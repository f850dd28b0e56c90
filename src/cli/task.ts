/** `errand task`: the task tree, looked at and ended. */
import { type Cli, EXIT } from './cli.ts'
import type { Client, Json } from './client.ts'
import { find, taskId } from './known.ts'
import { adminClient } from './places.ts'
import { type Branch, json, safe, table, time, tree, until } from './print.ts'
import { number, object, objects, operationsOf, text } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

const TASK = { type: 'positional', description: 'task_…', required: true } as const

const paintState = (cli: Cli, state: unknown, cell: string): string =>
  state === 'active'
    ? cli.colors.green(cell)
    : state === 'revoked' || state === 'expired'
      ? cli.colors.red(cell)
      : cli.colors.dim(cell)

export const list = verb({
  description: 'Lists tasks, newest first.',
  args: {
    agent: { type: 'string', valueHint: 'client_id', description: 'only of this agent' },
    state: {
      type: 'enum',
      options: ['active', 'suspended', 'completed', 'cancelled', 'revoked', 'expired'],
      description: 'only in this state',
    },
    limit: { type: 'string', valueHint: 'n', alias: 'n', description: 'at most so many', default: '50' },
    ...JSON_FLAG,
  },
  examples: ['errand task list --state active', 'errand task list --agent research -n 5'],
  async run(args, cli) {
    const limit = String(count('limit', args.limit, 500))
    const answer = await (await adminClient(cli)).get('/tasks', { agent: args.agent, state: args.state, limit })
    const tasks = objects(answer['tasks'])
    if (args.json) cli.out(json(answer))
    else if (tasks.length === 0) cli.err('no tasks')
    else
      for (const line of table(cli, tasks, [
        { title: 'TASK', cell: (task) => task['id'] },
        {
          title: 'STATE',
          cell: (task) => task['state'],
          paint: (cell, task) => paintState(cli, task['state'], cell),
        },
        { title: 'AGENT', cell: (task) => task['agent'] },
        { title: 'FOR', cell: (task) => task['subject'] },
        { title: 'DEADLINE', cell: (task) => until(number(task['deadline']) ?? 0, cli.now()) },
        { title: 'PURPOSE', cell: (task) => task['purpose'] },
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

export const show = verb({
  description: 'Draws a task with everything below it: what it may do, its tokens, what was refused.',
  args: { task: TASK, ...JSON_FLAG },
  examples: ['errand task show task_7Jx0vT3mQk2hYzR1bN5dWg'],
  async run(args, cli) {
    const task = await taskOf(await adminClient(cli), args.task)
    if (args.json) cli.out(json(task))
    else for (const line of tree(branchOf(cli, task))) cli.out(line)
    return EXIT.ok
  },
})

function branchOf(cli: Cli, task: Json): Branch {
  const { colors } = cli
  const state = safe(task['state'])
  const spent = object(task['spent'])
  const budget = object(task['budget'])
  const bounds = (['calls', 'exchanges', 'cost'] as const)
    .filter((name) => budget[`max_${name}`] !== undefined)
    .map((name) => `${name} ${safe(spent[name])} of ${safe(budget[`max_${name}`])}`)
  const deadline = number(task['deadline']) ?? 0
  const ended = task['ended_reason'] === undefined ? '' : `, ${safe(task['ended_reason'])}`
  const lines = [
    `${colors.bold(safe(task['id']))} ${paintState(cli, task['state'], state)}${ended}`,
    `${safe(task['agent'])} for ${safe(task['subject'])}: ${safe(task['purpose'])}`,
    colors.dim(
      [
        safe(task['environment']),
        safe(task['data_classification']),
        `until ${time(deadline)} (${until(deadline, cli.now())})`,
        ...bounds,
      ].join(' · '),
    ),
    `may ${operationsOf(task['authority']).map(safe).join(' ') || 'nothing'}`,
  ]
  const tokens = objects(task['tokens']).map((token): Branch => {
    const alive = task['state'] === 'active' && (number(token['expires_at']) ?? 0) > cli.now()
    const scope = safe(token['scope'])
    return {
      lines: [
        `${alive ? colors.green('token') : colors.dim('token')} ${scope} ${colors.dim(`${safe(token['jti'])} ${alive ? `expires ${until(number(token['expires_at']) ?? 0, cli.now())}` : 'over'}`)}`,
      ],
      branches: [],
    }
  })
  const refusals = objects(task['refusals']).map(
    (refused): Branch => ({
      lines: [
        `${colors.red('refused')} ${safe(refused['reason'])}${Array.isArray(refused['missing']) ? `: ${refused['missing'].map(safe).join(' ')}` : ''} ${colors.dim(safe(refused['decision_id']))}`,
      ],
      branches: [],
    }),
  )
  const children = objects(task['children']).map((child) => branchOf(cli, child))
  return { lines, branches: [...tokens, ...refusals, ...children] }
}

const taskOf = (client: Client, id: string): Promise<Json> =>
  find(client, `/tasks/${taskId(id)}`, () => `there is no task ${safe(id)}; errand task list shows them`)

const because = (task: Json): string => (task['ended_reason'] === undefined ? '' : ` (${safe(task['ended_reason'])})`)

const ending = (what: 'complete' | 'cancel', description: string) =>
  verb({
    description,
    args: { task: TASK, ...JSON_FLAG },
    examples: [`errand task ${what} task_7Jx0vT3mQk2hYzR1bN5dWg`],
    async run(args, cli) {
      const client = await adminClient(cli)
      const before = await taskOf(client, args.task)
      const over = !['active', 'suspended'].includes(text(before['state']) ?? '')
      const task = over ? before : await client.post(`/tasks/${args.task}/${what}`)
      if (over) cli.err(`nothing was changed: the task was over${because(before)}`)
      if (args.json) cli.out(json(task))
      else cli.out(`${safe(task['id'])} ${text(task['state']) ?? ''}`)
      return EXIT.ok
    },
  })

export const complete = ending('complete', 'Completes a task: it and all below it end, and their tokens stop working.')
export const cancel = ending('cancel', 'Cancels a task: it and all below it end, and their tokens stop working.')
