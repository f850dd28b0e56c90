/** docs/cli.md, made from what each verb answers to --help. */
import pc from 'picocolors'
import type { Cli } from '../src/cli/cli.ts'
import { run } from '../src/cli/main.ts'

/** What the command line prints for these words; nothing is reached, nothing is read. */
async function printed(argv: readonly string[]): Promise<readonly string[]> {
  const lines: string[] = []
  const nothing = (): never => {
    throw new Error('help reaches for nothing')
  }
  const cli: Cli = {
    out: (line) => void lines.push(line),
    err: (line) => void lines.push(line),
    stdin: async () => nothing(),
    env: {},
    fetch: async () => nothing(),
    now: () => 0,
    wait: async () => nothing(),
    signal: new AbortController().signal,
    colors: pc.createColors(false),
    command: 'errand',
    nodeVersion: process.versions.node,
  }
  const exit = await run(argv, cli)
  if (exit !== 0) throw new Error(`errand ${argv.join(' ')} ended with ${exit}: ${lines.join(' ')}`)
  return lines
}

/** The verbs as the first page of the help lists them: `token get|inspect|verify  Tokens: …`. */
export async function cliVerbs(): Promise<readonly (readonly string[])[]> {
  const lines = await printed(['--help'])
  const first = lines.indexOf('Commands') + 1
  return lines.slice(first, lines.indexOf('', first)).flatMap((line) => {
    const [, words = ''] = /^ {2}(\S+(?: \S+)?) {2}/.exec(line) ?? []
    const [name = '', subs] = words.split(' ')
    return subs === undefined ? [[name]] : subs.split('|').map((sub) => [name, sub])
  })
}

export async function renderCliReference(): Promise<string> {
  const block = (lines: readonly string[]): string => ['```text', ...lines, '```'].join('\n')
  const parts = [block(await printed(['--help']))]
  for (const verb of await cliVerbs())
    parts.push(`## errand ${verb.join(' ')}`, block(await printed([...verb, '--help'])))
  return parts.join('\n\n')
}
