/** Asks a person for the answers to `errand init`. Nothing is written meanwhile, so Ctrl-C leaves nothing. */
import { confirm, intro, isCancel, log, select, text } from '@clack/prompts'
import { EFFECTS } from '@errand/verifier/claims.ts'
import { type Stage, STAGES } from '../attest/registration.ts'
import { audienceProblem, isLoopbackHttp, urlProblem } from '../config/addresses.ts'
import { discoverIssuer } from '../config/discover-issuer.ts'
import { createFetchJwks } from '../config/fetch-jwks.ts'
import { CLIENT_ID, TOOL_NAME } from '../policy/identifier.ts'
import { type Cli, CliError, EXIT, type Terminal } from './cli.ts'
import { fromFlags, type InitFlags, operationPairs } from './init-answers.ts'
import { safe } from './print.ts'

const HERE = 'http://127.0.0.1:4460'

const STAGE_HINTS: Readonly<Record<Stage, string>> = {
  suggest: 'no token: it may only ask what it would be allowed',
  draft: 'no token either; for people to act on what it drafts',
  read: 'reads',
  reversible_write: 'and changes what can be taken back',
  irreversible_write: 'and does what cannot be undone',
  external: 'and speaks to the outside',
}

/** Answers in the form of the file; what a flag says is not asked. */
export async function ask(cli: Cli, terminal: Terminal, flags: InitFlags): Promise<unknown> {
  const common = { ...terminal, signal: cli.signal }
  const answered = async <T>(answer: Promise<T>): Promise<Exclude<T, symbol>> => {
    const value = await answer
    if (isCancel(value)) throw new CliError(EXIT.interrupted, 'interrupted; nothing was written')
    return value as Exclude<T, symbol>
  }
  const line = (message: string, initialValue: string, wrong: (value: string) => string | undefined): Promise<string> =>
    answered(
      text({
        ...common,
        message,
        initialValue,
        validate: (value) => (value ? wrong(value) : 'Something must stand here'),
      }),
    )
  const choose = <const T extends string>(
    message: string,
    options: readonly { readonly value: T; readonly label: string; readonly hint?: string }[],
    initialValue: T,
  ): Promise<T> => answered(select<string>({ ...common, message, options: [...options], initialValue })) as Promise<T>
  const named = (pattern: RegExp) => (value: string) =>
    pattern.test(value) ? undefined : 'lower-case letters, digits, "_" and "-", beginning with a letter'
  const file = (message: string) => line(message, '', () => undefined)

  intro('A configuration of your own. Every answer can be changed later, in config/.', common)

  async function identityProvider(): Promise<Partial<InitFlags>> {
    if (flags.idp !== undefined) return {}
    const users = await choose(
      'Where do your users sign in?',
      [
        { value: 'idp', label: 'at our identity provider', hint: 'OpenID Connect: Okta, Entra, Keycloak, …' },
        { value: 'none', label: 'nowhere yet', hint: 'users for trying out, signed for by this command' },
      ],
      'none',
    )
    if (users === 'none') return {}
    for (let suggestion = 'https://'; ; ) {
      const idp = await line('Its issuer URL, exactly as it stands in `iss`', suggestion, (value) =>
        urlProblem(value, { development: true }),
      )
      const development = isLoopbackHttp(idp)
      const found = await discoverIssuer(idp, { fetch: createFetchJwks({ development }), development })
      if (found.ok) {
        log.success(`found its keys: ${found.value.algorithms.join(', ')}`, common)
        return { idp }
      }
      log.warn(safe(found.why), common)
      suggestion = found.callsItself ?? idp
      const otherwise = await choose(
        'What now?',
        [
          { value: 'again', label: 'another URL' },
          { value: 'file', label: 'a copy of its keys (JWKS) in a file' },
        ],
        'again',
      )
      if (otherwise === 'file') return { idp, 'idp-jwks-file': await file('Path of the file') }
    }
  }

  const provider = { ...flags, ...(await identityProvider()) }
  const real = provider.idp !== undefined && !isLoopbackHttp(provider.idp)
  const url =
    flags.url ??
    ((await choose(
      'Where will the service run?',
      [
        { value: 'production', label: 'for others, over https', hint: 'production mode' },
        { value: 'here', label: 'on this machine, to try it out', hint: `development mode, ${HERE}` },
      ],
      real ? 'production' : 'here',
    )) === 'here'
      ? HERE
      : await line('Its URL, which is its name as an issuer', 'https://errand.', (value) =>
          urlProblem(value, { development: false }),
        ))
  const development = URL.canParse(url) && isLoopbackHttp(url)

  const idp =
    provider.idp === undefined
      ? {}
      : {
          'idp-audience':
            flags['idp-audience'] ??
            (await line('Which audience (`aud`) do its tokens carry that are meant for Errand?', url, () => undefined)),
          'groups-claim':
            flags['groups-claim'] ?? (await line('In which claim do they name groups?', 'groups', () => undefined)),
        }
  const group =
    flags.group ??
    (provider.idp === undefined
      ? 'users'
      : await line('Which group may use the tool? * is every user, to read', '*', () => undefined))

  const agent = flags.agent ?? (await line('The first agent: its client_id', 'assistant', named(CLIENT_ID)))
  const stage =
    flags.stage ??
    (await choose(
      'What may it do at most, whatever it is asked?',
      STAGES.map((value) => ({ value, label: value, hint: STAGE_HINTS[value] })),
      'read',
    ))

  const tool = flags.tool ?? (await line('The first tool: its name', 'notes', named(TOOL_NAME)))
  const audience =
    flags.audience ??
    (await line(
      'Its audience: the URI that tokens for it name',
      development ? 'http://127.0.0.1:4470/' : 'https://',
      (value) => audienceProblem(value, { development }),
    ))
  const operations = await operationsOf()
  const answers = fromFlags({ ...provider, ...idp, url, group, agent, stage, tool, audience, ...operations })
  if (!(await answered(confirm({ ...common, message: 'Write it?', initialValue: true }))))
    throw new CliError(EXIT.interrupted, 'nothing was written')
  return answers

  async function operationsOf(): Promise<Pick<InitFlags, 'operations' | 'openapi' | 'mcp-tools'>> {
    const { operations: said, openapi, 'mcp-tools': mcpTools } = flags
    if (said !== undefined || openapi !== undefined || mcpTools !== undefined)
      return { operations: said, openapi, 'mcp-tools': mcpTools }
    const from = await choose(
      'Its operations',
      [
        { value: 'typed', label: 'I name them' },
        { value: 'openapi', label: 'from an OpenAPI document' },
        { value: 'mcp', label: 'from an MCP server’s answer to tools/list' },
      ],
      'typed',
    )
    if (from === 'openapi') return { openapi: await file('Path of the document') }
    if (from === 'mcp') return { 'mcp-tools': await file('Path of the answer (JSON)') }
    log.info(`An effect says how bad a mistake would be: ${EFFECTS.join(' < ')}`, common)
    return {
      operations: await line(
        'name=effect, separated by spaces',
        'read_note=read add_note=reversible_write',
        (value) => {
          try {
            operationPairs(value)
            return undefined
          } catch (error) {
            return (error as Error).message
          }
        },
      ),
    }
  }
}
