/** `errand token get`: one exchange, as an agent would make it. */
import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseJws } from '@errand/verifier/jws.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import { createFile, isMissing, readSecretFile } from '../keys/key-file.ts'
import { generatePrivateJwk, type PrivateJwk, readPrivateJwkFile } from '../keys/private-jwk.ts'
import { GRANT, TOKEN_TYPE } from '../oauth/words.ts'
import { CLASSIFICATIONS, ENVIRONMENTS } from '../tasks/task.ts'
import { nearest } from '../policy/suggest.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { createClient, type Json } from './client.ts'
import { explained } from './explain.ts'
import { developmentIssuer, keyAt, placesOf, serviceOf } from './places.ts'
import { facts, json, safe, until } from './print.ts'
import { number, object, objects, text } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

const ID_TOKEN_SECONDS = 300
const NAME = /^[a-z][a-z0-9_.-]{0,63}$/

export const get = verb({
  description: 'Gets a token for a tool, as an agent would: the token on stdout, everything about it on stderr.',
  args: {
    agent: { type: 'string', valueHint: 'client_id', description: 'the agent that asks', required: true },
    user: {
      type: 'string',
      valueHint: 'name',
      description: 'a user of the development issuer; without a user the agent works for itself',
    },
    tool: { type: 'string', valueHint: 'name', description: 'the tool, by name or audience URI', required: true },
    scope: {
      type: 'string',
      valueHint: '"tool:operation …"',
      description: 'what to ask for; without it all that is permitted',
    },
    task: { type: 'string', valueHint: 'task_…', description: 'an existing task; without it a new one is opened' },
    purpose: {
      type: 'string',
      valueHint: 'text',
      description: 'of the new task',
      default: 'tried out with errand token get',
    },
    environment: { type: 'enum', options: [...ENVIRONMENTS], description: 'of the new task', default: 'development' },
    classification: { type: 'enum', options: [...CLASSIFICATIONS], description: 'of its data', default: 'internal' },
    deadline: { type: 'string', valueHint: 'seconds', description: 'of the new task', default: '900' },
    release: { type: 'string', valueHint: 'id', description: 'the registered release that the agent is' },
    measurements: {
      type: 'string',
      valueHint: 'file',
      description: 'what the agent sees of itself (JSON: model, tools, prompts), compared with the release',
    },
    'dry-run': { type: 'boolean', description: 'show the decision, issue nothing' },
    'key-file': {
      type: 'string',
      valueHint: 'path',
      description: 'keep the key the token is bound to in this file (made with mode 0600 where missing)',
    },
    'agent-key-file': {
      type: 'string',
      valueHint: 'path',
      description: 'the agent’s key (default keys/agents/<agent>.jwk)',
    },
    'subject-token-file': {
      type: 'string',
      valueHint: 'path|-',
      description: 'a user’s token from your identity provider, instead of --user',
    },
    ...JSON_FLAG,
  },
  examples: [
    'errand token get --agent research --user alice --tool tickets',
    'errand token get --agent research --user alice --tool tickets --scope "tickets:read_ticket" --key-file proof.jwk > token',
    'errand token get --agent payments --user alice --tool payments --dry-run',
    'errand token get --agent triage --tool tickets   # for itself, where policy allows it',
  ],
  async run(args, cli) {
    if (args.user !== undefined && args['subject-token-file'] !== undefined)
      throw usage('--user and --subject-token-file say the same thing twice')
    if (args.agent !== undefined && !NAME.test(args.agent)) throw usage('--agent must be a client_id')
    const { keysDir, configDir } = placesOf(cli)
    if (args['agent-key-file'] === undefined) await checkKeyOf(keysDir, args.agent)
    const key = await keyAt(
      args['agent-key-file'] ?? join(keysDir, 'agents', `${args.agent}.jwk`),
      'Development mode makes keys for the sample agents on its first start. Name your agent’s own key with --agent-key-file.',
    )
    const service = await serviceOf(cli)
    const subject =
      args['subject-token-file'] !== undefined
        ? await tokenText(cli, args['subject-token-file'])
        : args.user === undefined
          ? undefined
          : await developmentIdToken(cli, { configDir, keysDir, issuer: service.issuer, user: args.user })
    const proof = await proofKey(args['key-file'])
    const client = createClient(cli, service, { clientId: args.agent, key, proofKey: proof })

    const details = {
      purpose: args.purpose,
      environment: args.environment,
      data_classification: args.classification,
      deadline_seconds: count('deadline', args.deadline, 604_800),
    }
    const answer = await client.form('/token', {
      ...(subject === undefined
        ? { grant_type: GRANT.clientCredentials }
        : { grant_type: GRANT.exchange, subject_token: subject, subject_token_type: subjectType(subject) }),
      audience: args.tool,
      scope: args.scope,
      ...(args.task === undefined ? { request_details: JSON.stringify(details) } : { task_id: args.task }),
      release: args.release,
      measurements: args.measurements === undefined ? undefined : await fileText(args.measurements),
      dry_run: args['dry-run'] ? 'true' : undefined,
    })
    if (args.json) cli.out(json(answer))
    if (args['dry-run']) {
      if (!args.json) for (const line of dryRunLines(cli, answer)) cli.out(line)
      return answer['allowed'] === true ? EXIT.ok : EXIT.refused
    }
    const token = text(answer['access_token'])
    if (token === undefined)
      throw new CliError(EXIT.unreachable, 'the answer holds no token: is that an Errand service?')
    if (!args.json) cli.out(token)
    summarise(cli, answer, args['key-file'])
    return EXIT.ok
  },
})

const fileText = (path: string): Promise<string> =>
  readFile(path, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${safe(path)} cannot be read (${error.code ?? 'unknown error'})`)
  })

/** Keys of agents on this machine, against slips of the fingers. */
async function checkKeyOf(keysDir: string, agent: string): Promise<void> {
  const files = await readdir(join(keysDir, 'agents')).catch(() => [])
  const there = files.flatMap((file) => /^(.+)(?<!\.pub)\.jwk$/.exec(file)?.[1] ?? [])
  const near = there.includes(agent) ? undefined : nearest(agent, there)
  if (near !== undefined)
    throw usage(
      `there is no key of an agent ${safe(agent)}, did you mean ${safe(near)}?`,
      `There are: ${there.map(safe).join(' ')}`,
    )
}

/** An OpenID id token by the development issuer, for a user that the configuration lists. */
async function developmentIdToken(
  cli: Cli,
  where: { readonly configDir: string; readonly keysDir: string; readonly issuer: string; readonly user: string },
): Promise<string> {
  const issuer = await developmentIssuer(where.configDir)
  if (!issuer)
    throw new CliError(EXIT.usage, `no development user issuer in ${safe(where.configDir)}/issuers/`, [
      'Set ERRAND_CONFIG to a development configuration, or give a real token with --subject-token-file.',
    ])
  const users = issuer.development_users ?? {}
  const user = Object.hasOwn(users, where.user) ? users[where.user] : undefined
  if (!user) {
    const near = nearest(where.user, Object.keys(users))
    throw new CliError(
      EXIT.usage,
      `no development user ${safe(where.user)}${near === undefined ? '' : `, did you mean ${near}?`}`,
      [`There are: ${Object.keys(users).map(safe).join(' ') || 'none'}`],
    )
  }
  const key = await keyAt(
    join(where.keysDir, 'users', 'dev-issuer.jwk'),
    'Development mode makes it on its first start. Run this where its keys are, or set ERRAND_KEYS.',
  )
  const iat = Math.floor(cli.now())
  return signEs256(
    key.privateKey,
    { typ: 'JWT', kid: key.kid },
    {
      ...user.claims,
      iss: issuer.issuer,
      sub: where.user,
      aud: issuer.audiences.includes(where.issuer) ? where.issuer : issuer.audiences[0],
      iat,
      exp: iat + Math.min(ID_TOKEN_SECONDS, issuer.max_token_lifetime_seconds),
      jti: randomUUID(),
      [issuer.groups_claim]: user.groups,
    },
  )
}

/** A token out of a file that only its owner can read, or from stdin. */
export async function tokenText(cli: Cli, path: string): Promise<string> {
  const read = path === '-' ? await cli.stdin() : await readSecretFile(path)
  const token = read.trim()
  if (token === '') throw usage(`${path === '-' ? 'stdin' : safe(path)} holds no token`)
  return token
}

const subjectType = (token: string): string => {
  const typ = parseJws(token)
  const kind = typ.ok ? text(typ.value.header['typ'])?.toLowerCase() : undefined
  if (kind === 'errand-handover+jwt') return TOKEN_TYPE.handOver
  return kind?.replace(/^application\//, '') === 'at+jwt' ? TOKEN_TYPE.accessToken : TOKEN_TYPE.idToken
}

/** The key the token will be bound to: of this run alone, or kept in a file. */
async function proofKey(path: string | undefined): Promise<PrivateJwk> {
  if (path === undefined) return generatePrivateJwk('proof-')
  try {
    return await readPrivateJwkFile(path)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  const fresh = await generatePrivateJwk('proof-')
  try {
    if (await createFile(path, `${JSON.stringify(fresh.jwk, null, 2)}\n`)) return fresh
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw usage(`--key-file cannot be made in ${safe(dirname(path))} (${code ?? 'unknown error'})`)
  }
  return readPrivateJwkFile(path)
}

function summarise(cli: Cli, answer: Json, keyFile: string | undefined): void {
  const log = object(answer['log'])
  for (const line of facts(cli, [
    ['scope', answer['scope']],
    ['type', answer['token_type']],
    ['expires', until(number(answer['expires_in']) ?? 0, 0)],
    ['task', answer['task_id']],
    ['decision', answer['decision_id']],
    ['record', log['index'] === undefined ? undefined : `${safe(log['index'])} of log ${safe(log['id'])}`],
  ]))
    cli.err(line)
  if (answer['token_type'] === 'DPoP')
    cli.err(
      keyFile === undefined
        ? 'The token is bound to a key that ends with this command; --key-file keeps it, to call a tool with.'
        : `The token is bound to the key in ${safe(keyFile)}.`,
    )
  cli.err(`Why: errand explain ${safe(answer['decision_id'])}`)
}

function dryRunLines(cli: Cli, answer: Json): string[] {
  const would = object(answer['would_issue'])
  return [
    ...explained(cli, {
      decision: answer['allowed'] === true ? 'permit' : 'refuse',
      decision_id: answer['decision_id'],
      details: {
        next: answer['next'],
        next_action: answer['next_action'],
        lost: answer['lost'],
        verdicts: objects(answer['verdicts']),
      },
    }),
    ...(answer['would_issue'] === undefined
      ? []
      : [
          '',
          ...facts(cli, [
            ['would issue', would['scope']],
            ['for', would['audience']],
            ['type', would['token_type']],
            ['life', `${safe(would['expires_in'])} s`],
          ]),
        ]),
  ]
}
