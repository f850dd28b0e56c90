/** Help: usage, arguments and examples, in the same form for every verb. */
import type { ArgDef } from 'citty'
import type { Cli } from './cli.ts'
import { shortOf, type Verb } from './verb.ts'

export function verbHelp({ colors }: Pick<Cli, 'colors'>, path: readonly string[], verb: Verb): string[] {
  const all = Object.entries(verb.args)
  const positionals = all.filter(([, arg]) => arg.type === 'positional')
  const flags = all.filter(([, arg]) => arg.type !== 'positional')
  const shown = positionals.map(([name, arg]) => (arg.required === false ? `[${name}]` : `<${name}>`))
  const required = flags.filter(([, arg]) => arg.required).map(([name, arg]) => flag(name, arg))
  const usage = ['errand', ...path, ...shown, ...required, ...(flags.length > required.length ? ['[flags]'] : [])]
  return [
    verb.description,
    '',
    `${colors.bold('Usage')}  ${usage.join(' ')}`,
    ...section(
      colors.bold('Arguments'),
      positionals.map(([name, arg]) => [name, arg.description ?? '']),
    ),
    ...section(colors.bold('Flags'), [
      ...flags.map(([name, arg]): [string, string] => [flag(name, arg), describe(arg)]),
      ['--help', 'this text'],
    ]),
    '',
    colors.bold('Examples'),
    ...verb.examples.map((example) => `  ${example}`),
  ]
}

export function groupHelp(
  { colors }: Pick<Cli, 'colors'>,
  path: readonly string[],
  description: string,
  entries: readonly (readonly [string, string])[],
  closing: readonly string[] = [],
): string[] {
  return [
    description,
    '',
    `${colors.bold('Usage')}  ${['errand', ...path, '<command>', '[flags]'].join(' ')}`,
    ...section(colors.bold('Commands'), entries),
    ...(closing.length > 0 ? ['', ...closing] : []),
    '',
    `errand ${[...path, '<command>'].join(' ')} --help tells more, with examples.`,
  ]
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return []
  const widest = Math.max(...rows.map(([name]) => name.length))
  return ['', title, ...rows.map(([name, text]) => `  ${name.padEnd(widest)}  ${text}`.trimEnd())]
}

const flag = (name: string, arg: ArgDef): string => {
  const letter = shortOf(arg)
  const short = letter === undefined ? '' : `-${letter}, `
  if (arg.type === 'boolean') return `${short}--${name}`
  const hint = arg.type === 'enum' ? arg.options?.join('|') : arg.valueHint
  return `${short}--${name} <${hint ?? name}>`
}

const describe = (arg: ArgDef): string =>
  [arg.description, arg.default === undefined ? '' : `(default ${String(arg.default)})`].filter(Boolean).join(' ')
