/** Whether what a command names is there: a kill switch that was aimed at a misspelt name must not report success. */
import { isId } from '../tasks/ids.ts'
import { nearest } from '../policy/suggest.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import type { Client, Json } from './client.ts'
import { issuerNames, placesOf } from './places.ts'
import { safe } from './print.ts'
import { objects, text } from './rows.ts'

const TOKEN_ID = /^[A-Za-z0-9_-]{27}$/

export interface Named {
  readonly agent?: string | undefined
  readonly sub?: string | undefined
  readonly task?: string | undefined
  readonly root?: string | undefined
  readonly jti?: string | undefined
  readonly kid?: string | undefined
  readonly release?: string | undefined
  readonly component?: string | undefined
}

/** What cannot be a name of the kind at all: no service is needed to say so. */
export function checkShape({ sub, task, root, jti }: Named): void {
  for (const [flag, id] of [
    ['task', task],
    ['root', root],
  ] as const)
    if (id !== undefined) taskId(id, `--${flag}`)
  if (sub !== undefined && !sub.startsWith('spiffe://') && !/^[^|]+\|./.test(sub))
    throw usage(`--sub is <issuer>|<user>, as in "dev|alice": ${safe(sub)} names no issuer`)
  if (jti !== undefined && !TOKEN_ID.test(jti))
    throw usage('--jti is no jti: errand token inspect shows the one of a token')
}

/** A task's id, as it is spelt. */
export function taskId(id: string, what = 'that'): string {
  if (!isId('task', id))
    throw usage(`${what} is no task id (task_ and 22 letters, digits, - or _); errand task list shows them`)
  return id
}

/** Refuses names that the service does not know. Where it cannot be asked, the command goes on: it must not depend on it. */
export async function checkKnown(cli: Cli, client: Client, named: Named): Promise<void> {
  const { agent, sub, task, root, kid, release, component } = named
  if (agent !== undefined) {
    const agents = await namesIn(client, '/agents', 'agents', agent.startsWith('spiffe://') ? 'spiffe_id' : 'client_id')
    mustBe('agent', agent, agents)
  }
  if (release !== undefined) mustBe('release', release, await namesIn(client, '/releases', 'releases', 'release'))
  if (component !== undefined) await mustHave(client, component)
  if (kid !== undefined) mustBe('key', kid, await namesIn(client, '/keys', 'keys', 'kid'))
  if (sub?.includes('|')) {
    const issuer = sub.slice(0, sub.indexOf('|'))
    mustBe('issuer', issuer, await issuerNames(placesOf(cli).configDir, client.issuer))
  }
  for (const id of [task, root]) {
    if (id === undefined) continue
    const there = await client.get(`/tasks/${id}`).then(
      () => true,
      (error: unknown) => !isAbsent(error),
    )
    if (!there) throw unknown(`there is no task ${safe(id)}`)
  }
}

function mustBe(kind: string, name: string, known: readonly string[]): void {
  if (known.length === 0 || known.includes(name)) return
  const near = nearest(name, known)
  throw unknown(`there is no ${kind} ${safe(name)}${near === undefined ? '' : `, did you mean ${safe(near)}?`}`)
}

/** Where no release is registered at all, there is nothing to compare with. */
async function mustHave(client: Client, component: string): Promise<void> {
  const all = await namesIn(client, '/releases', 'releases', 'release')
  if (all.length === 0) return
  const path = `/releases?component=${encodeURIComponent(component)}`
  if ((await namesIn(client, path, 'releases', 'release')).length > 0) return
  throw unknown(`no registered release has the component ${safe(component)}`)
}

const unknown = (message: string): CliError =>
  usage(`${message}; nothing was changed`, 'If you mean it all the same (it was removed, say): add --anyway.')

const namesIn = (client: Client, path: string, list: string, name: string): Promise<readonly string[]> =>
  client.get(path).then(
    (answer) => objects(answer[list]).flatMap((each) => text(each[name]) ?? []),
    (error: unknown) => {
      if (error instanceof CliError) return []
      throw error
    },
  )

const isAbsent = (error: unknown): boolean => error instanceof CliError && error.code === 'not_found'

/** An answer about one thing; where there is none of that name, which one was meant. */
export async function find(client: Client, path: string, missing: () => Promise<string> | string): Promise<Json> {
  try {
    return await client.get(path)
  } catch (error) {
    if (!isAbsent(error)) throw error
    throw new CliError(EXIT.refused, await missing())
  }
}

/** `there is no agent reserch, did you mean research?` */
export async function noAgent(client: Client, name: string): Promise<string> {
  const near = nearest(name, await namesIn(client, '/agents', 'agents', 'client_id'))
  return `there is no agent ${safe(name)}${near === undefined ? '; errand agent list shows them' : `, did you mean ${safe(near)}?`}`
}

/** `--reason`, as the service takes it. */
export const REASON = {
  type: 'string',
  valueHint: 'text',
  description: 'why, for the log (3 to 500 characters)',
  required: true,
} as const

export function reasonOf(reason: string): string {
  if (reason.trim().length < 3 || reason.length > 500)
    throw usage('--reason says why, in 3 to 500 characters: it is what the log shows later')
  return reason
}
