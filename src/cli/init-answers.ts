/** The answers to `errand init`: from a file, from flags, or asked for at the terminal. */
import { readFile } from 'node:fs/promises'
import { type Answers, readAnswers } from '../config/answers.ts'
import { readYaml } from '../config/yaml.ts'
import { type Cli, usage } from './cli.ts'
import { safe } from './print.ts'

/** What the flags say; each is text or absent. */
export interface InitFlags {
  readonly answers?: string | undefined
  readonly yes?: boolean | undefined
  readonly url?: string | undefined
  readonly mode?: string | undefined
  readonly idp?: string | undefined
  readonly 'idp-audience'?: string | undefined
  readonly 'idp-jwks-file'?: string | undefined
  readonly 'groups-claim'?: string | undefined
  readonly group?: string | undefined
  readonly agent?: string | undefined
  readonly stage?: string | undefined
  readonly tool?: string | undefined
  readonly audience?: string | undefined
  readonly operations?: string | undefined
  readonly openapi?: string | undefined
  readonly 'mcp-tools'?: string | undefined
}

/** Where each answer is asked for on the command line, for messages. */
const FLAG_OF: Readonly<Record<string, string>> = {
  url: '--url',
  mode: '--mode',
  'idp.issuer': '--idp',
  'idp.audience': '--idp-audience',
  'idp.groups_claim': '--groups-claim',
  group: '--group',
  'agents.0.client_id': '--agent',
  'agents.0.stage': '--stage',
  'tools.0.name': '--tool',
  'tools.0.audience': '--audience',
  'tools.0.operations': '--operations',
}

const NOTES = { read_note: 'read', add_note: 'reversible_write', delete_note: 'irreversible_write' }

export async function answersOf(cli: Cli, flags: InitFlags): Promise<Answers> {
  const { answers: file, yes, ...said } = flags
  if (file !== undefined) return fromFile(file, said)
  if (yes !== true) {
    if (!cli.terminal)
      throw usage(
        'there is no terminal to ask questions at',
        'Say --yes with the flags you need, or --answers file.yaml.',
      )
    // Loaded only where somebody is asked.
    const { ask } = await import('./init-questions.ts')
    return checked(await ask(cli, cli.terminal, said), (path) => FLAG_OF[path] ?? path)
  }
  return checked(fromFlags(said), (path) => FLAG_OF[path] ?? path)
}

async function fromFile(file: string, said: object): Promise<Answers> {
  const other = Object.entries(said).find(([name, value]) => value !== undefined && name !== '_' && name !== 'folder')
  if (other !== undefined) throw usage(`--answers holds every answer: --${safe(other[0])} would say one twice`)
  const yaml = readYaml(file, await textOf(file, 'the file of answers'))
  if (!yaml.ok) throw usage(`${safe(file)}: ${safe(yaml.problems[0]?.message ?? 'cannot be read')}`)
  const { placeOf } = yaml.value
  return checked(yaml.value.data, (path, steps) => `${file}:${placeOf(steps).line} ${path}`)
}

function checked(value: unknown, named: (path: string, steps: readonly PropertyKey[]) => string): Answers {
  const read = readAnswers(value)
  if (read.ok) return read.value
  const lines = read.problems.map(({ path, message }) => {
    const place = path.map(String).join('.')
    const near = Object.keys(FLAG_OF).find((each) => place.startsWith(`${each}.`))
    return safe(`${named(place, path)}${near === undefined ? '' : ` (${FLAG_OF[near]})`} ${message}`)
  })
  throw usage(lines[0]!, ...lines.slice(1), 'Nothing was written. errand init --help lists the answers.')
}

/** The same form as the file's. */
export function fromFlags(flags: Omit<InitFlags, 'answers' | 'yes'>): unknown {
  const { openapi, operations, 'mcp-tools': mcpTools } = flags
  const described = openapi !== undefined || mcpTools !== undefined
  return {
    url: flags.url,
    mode: flags.mode,
    idp:
      flags.idp === undefined
        ? undefined
        : {
            issuer: flags.idp,
            audience: flags['idp-audience'],
            groups_claim: flags['groups-claim'],
            jwks_file: flags['idp-jwks-file'],
          },
    group: flags.group,
    agents: [{ client_id: flags.agent ?? 'assistant', stage: flags.stage }],
    tools: [
      {
        name: flags.tool ?? 'notes',
        audience: flags.audience ?? 'http://127.0.0.1:4470/',
        openapi,
        mcp_tools: mcpTools,
        operations: operations === undefined ? (described ? undefined : NOTES) : operationPairs(operations),
      },
    ],
  }
}

/** `read_note=read add_note=reversible_write` */
export function operationPairs(text: string): { readonly [name: string]: string } {
  const pairs = text
    .split(/[\s,]+/)
    .filter((pair) => pair !== '')
    .map((pair): readonly [string, string] => {
      const at = pair.indexOf('=')
      if (at < 1) throw usage(`--operations is "name=effect …": ${safe(pair)} names no effect`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    })
  const twice = pairs.find(([name], at) => pairs.findIndex(([other]) => other === name) !== at)
  if (twice !== undefined) throw usage(`--operations names ${safe(twice[0])} twice`)
  return Object.fromEntries(pairs)
}

export const textOf = (file: string, what: string): Promise<string> =>
  readFile(file, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${what}, ${safe(file)}, cannot be read (${error.code ?? 'unknown error'})`)
  })
