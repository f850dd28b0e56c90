/** `errand completion`: scripts for shells, made from the same table as the help. */
import type { ArgDef } from 'citty'
import { type Cli, EXIT } from './cli.ts'
import { bashScript, fishScript, zshScript } from './completion-scripts.ts'
import { type Entry, VERBS } from './main.ts'
import { shortOf, type Verb, verb } from './verb.ts'

/** What may stand in a place: one of some words, a name of the configuration here, a path; undefined where nobody knows. */
export type Values = readonly string[] | 'agents' | 'tools' | 'files' | undefined

export interface Flag {
  readonly name: string
  readonly description: string
  readonly takesValue: boolean
  readonly values: Values
}

/** A command with what may follow it: commands, or flags and arguments. */
export interface Command {
  readonly path: readonly string[]
  readonly description: string
  readonly commands: readonly string[]
  readonly flags: readonly Flag[]
  readonly argument: Values
}

export const bash = shell('bash', bashScript, 'source <(errand completion bash)', '~/.bashrc')
export const zsh = shell('zsh', zshScript, 'source <(errand completion zsh)', '~/.zshrc, after compinit')
export const fish = shell('fish', fishScript, 'errand completion fish | source', '~/.config/fish/config.fish')

function shell(name: string, script: (commands: readonly Command[]) => string, line: string, file: string): Verb {
  return verb({
    description: `Prints the completion for ${name}. Names of agents and tools come from the files of the configuration, without starting anything.`,
    args: {},
    examples: [`${line}   # in ${file}`],
    async run(_, cli: Cli) {
      cli.out(script(await commands()))
      return EXIT.ok
    },
  })
}

/** Every command, the first one without a path. */
async function commands(): Promise<readonly Command[]> {
  const all: Command[] = [
    {
      path: [],
      description: '',
      commands: Object.keys(VERBS),
      flags: [flag('help', 'this text'), flag('version', 'which one this is')],
      argument: undefined,
    },
  ]
  for (const [name, entry] of Object.entries(VERBS)) {
    if (!isGroup(entry)) {
      all.push(commandOf([name], entry[0], await entry[1]()))
      continue
    }
    const { description, verbs, own } = entry
    const alone = own && commandOf([name], description, await own())
    all.push({
      path: [name],
      description,
      commands: Object.keys(verbs),
      flags: alone?.flags ?? [flag('help', 'this text')],
      argument: alone?.argument,
    })
    for (const [sub, [about, load]] of Object.entries(verbs)) all.push(commandOf([name, sub], about, await load()))
  }
  return all
}

const isGroup = (entry: Entry): entry is Exclude<Entry, readonly unknown[]> => 'verbs' in entry

const flag = (name: string, description: string): Flag => ({ name, description, takesValue: false, values: undefined })

function commandOf(path: readonly string[], description: string, { args }: Verb): Command {
  const all = Object.entries(args)
  const positional = all.find(([, arg]) => arg.type === 'positional')
  return {
    path,
    description,
    commands: [],
    flags: [
      ...all
        .filter(([, arg]) => arg.type !== 'positional')
        .flatMap(([name, arg]): Flag[] => {
          const letter = shortOf(arg)
          const one = {
            name,
            description: arg.description ?? '',
            takesValue: arg.type !== 'boolean',
            values: valuesOf(name, arg),
          }
          return letter === undefined ? [one] : [one, { ...one, name: letter }]
        }),
      flag('help', 'this text'),
    ],
    argument: positional && valuesOf(positional[0], positional[1]),
  }
}

/** By what the argument is called: names mean the same in every verb. */
function valuesOf(name: string, arg: ArgDef): Values {
  if (arg.type === 'enum') return arg.options ?? []
  if (arg.type === 'boolean') return undefined
  const hint = 'valueHint' in arg ? (arg.valueHint ?? '') : ''
  if (name === 'client_id' || hint === 'client_id') return 'agents'
  if (name === 'tool') return 'tools'
  return name === 'folder' || /^(?:path|file|folder)(?:\||$)/.test(hint) ? 'files' : undefined
}
