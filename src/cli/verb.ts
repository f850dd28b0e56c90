/** A verb: its arguments by citty, read strictly; its help; its examples. */
import { parseArgs, stripVTControlCharacters } from 'node:util'
import { type ArgDef, type ArgsDef, defineCommand, type ParsedArgs, runCommand } from 'citty'
import { nearest } from '../policy/suggest.ts'
import { type Cli, CliError, EXIT, type Exit, usage } from './cli.ts'

export interface Verb {
  readonly description: string
  readonly args: ArgsDef
  readonly examples: readonly string[]
  readonly run: (rawArgs: readonly string[], cli: Cli) => Promise<Exit>
}

/** The last name is the flag's; every verb has `--json` and `--help`. */
export const JSON_FLAG = {
  json: { type: 'boolean', description: 'print the answer as JSON' },
} as const satisfies ArgsDef

export function verb<const A extends ArgsDef>(spec: {
  readonly description: string
  readonly args: A
  readonly examples: readonly string[]
  /** Nothing returned is success. */
  readonly run: (args: ParsedArgs<A>, cli: Cli) => Promise<Exit | undefined>
}): Verb {
  return {
    description: spec.description,
    args: spec.args,
    examples: spec.examples,
    async run(rawArgs, cli) {
      checkArgs(rawArgs, spec.args)
      let exit: Exit | undefined
      const command = defineCommand<A>({
        args: spec.args,
        run: async ({ args }) => {
          exit = await spec.run(args, cli)
        },
      })
      try {
        await runCommand(command, { rawArgs: [...rawArgs] })
      } catch (error) {
        if (error instanceof Error && error.name === 'CLIError') throw usage(stripVTControlCharacters(error.message))
        throw error
      }
      return exit ?? EXIT.ok
    },
  }
}

/** citty takes flags it does not know and the last of repeated ones: a misspelt flag of `revoke` must not be nothing. */
function checkArgs(rawArgs: readonly string[], args: ArgsDef): void {
  const options: { [name: string]: { type: 'boolean' | 'string'; short?: string } } = {}
  let positionals = 0
  for (const [name, arg] of Object.entries(args)) {
    const short = shortOf(arg)
    if (arg.type === 'positional') positionals += 1
    else
      options[name] = { type: arg.type === 'boolean' ? 'boolean' : 'string', ...(short === undefined ? {} : { short }) }
  }
  const parsed = strictly(rawArgs, options)
  const seen = new Set<string>()
  for (const token of parsed.tokens) {
    if (token.kind !== 'option') continue
    if (seen.has(token.name)) throw usage(`--${token.name} is given twice`)
    seen.add(token.name)
    if (token.value === '') throw usage(`--${token.name} needs a value`)
  }
  const extra = parsed.positionals[positionals]
  // Not echoed: what is pasted in a wrong place may be a token.
  if (extra !== undefined) throw usage(`unexpected argument (at most ${positionals} without a flag)`)
}

function strictly(
  rawArgs: readonly string[],
  options: { readonly [name: string]: { readonly type: 'boolean' | 'string' } },
) {
  try {
    return parseArgs({ args: [...rawArgs], options, strict: true, allowPositionals: true, tokens: true })
  } catch (error) {
    throw usage(explainParseError(error, options))
  }
}

/** The one letter that a flag goes by as well. */
export const shortOf = (arg: ArgDef): string | undefined =>
  arg.type !== 'positional' && 'alias' in arg && typeof arg.alias === 'string' && arg.alias.length === 1
    ? arg.alias
    : undefined

function explainParseError(error: unknown, options: { readonly [name: string]: unknown }): string {
  const { code, message } = error as { code?: string; message?: string }
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const name = /'(--?[a-zA-Z][a-zA-Z0-9-]{0,40})/.exec(message ?? '')?.[1]
    if (name === undefined) return 'unknown flag'
    const near = nearest(name.replace(/^--?/, ''), Object.keys(options))
    return `unknown flag ${name}${near === undefined ? '' : `, did you mean --${near}?`}`
  }
  if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') {
    const name = /'(?:-[a-z], )?(--[a-z-]{1,40})/.exec(message ?? '')?.[1] ?? 'a flag'
    return /does not take an argument/.test(message ?? '') ? `${name} takes no value` : `${name} needs a value`
  }
  return 'the arguments cannot be read'
}

/** A positive whole number out of a flag. */
export function count(name: string, text: string, most: number): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= 1 && value <= most)) throw new CliError(EXIT.usage, `--${name} must be a number from 1 to ${most}`)
  return value
}
