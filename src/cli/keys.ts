/** `errand keys`: the service's signing keys. */
import { join, resolve } from 'node:path'
import { listMaterial, readRootSource } from '../config/first-start.ts'
import type { RootSource } from '../config/root-source.ts'
import { ALGORITHM } from '../keys/key-store.ts'
import { rewrapRootKey } from '../keys/root-key.ts'
import { openRootGuard } from '../secrets/open-root-guard.ts'
import { CliError, EXIT, usage } from './cli.ts'
import { getPublic } from './client.ts'
import { REASON, reasonOf } from './known.ts'
import { askPassphrase } from './passphrase.ts'
import { adminClient, placesOf, serviceOf } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { objects } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

/** Which version of which key, where its private half is in Vault. */
function signedBy({ signer }: Readonly<Record<string, unknown>>): string {
  const { mount, key, version } = (signer ?? {}) as Readonly<Record<string, unknown>>
  return signer ? `${mount}/${key} v${version}` : 'errand'
}

export const list = verb({
  description:
    'Lists the signing keys: prepared (published, not used yet), active, retiring (still verifies), retired.',
  args: { ...JSON_FLAG },
  examples: ['errand keys list'],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).get('/keys')
    const keys = objects(answer['keys'])
    if (args.json) cli.out(json(answer))
    else
      for (const line of table(cli, keys, [
        { title: 'KID', cell: (key) => key['kid'] },
        { title: 'PURPOSE', cell: (key) => key['purpose'] },
        {
          title: 'STATE',
          cell: (key) => key['state'],
          paint: (cell, key) =>
            key['state'] === 'active'
              ? cli.colors.green(cell)
              : key['state'] === 'compromised'
                ? cli.colors.red(cell)
                : cell,
        },
        { title: 'PUBLISHED', cell: (key) => time(key['prepared_at']) },
        { title: 'ACTIVE SINCE', cell: (key) => time(key['activated_at']) },
        { title: 'RETIRING SINCE', cell: (key) => time(key['retiring_at']) },
        ...(keys.some(({ signer }) => signer) ? [{ title: 'SIGNED BY', cell: signedBy }] : []),
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

export const rotate = verb({
  description: 'Prepares a new signing key now; it signs as soon as every verifier’s cache must have it.',
  args: {
    purpose: {
      type: 'enum',
      options: Object.keys(ALGORITHM),
      description: 'which key',
      default: 'token',
    },
    immediately: { type: 'boolean', description: 'do not wait until the new key is in every cache' },
    ...JSON_FLAG,
  },
  examples: ['errand keys rotate', 'errand keys rotate --purpose feed'],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).post('/keys/rotate', {
      purpose: args.purpose,
      ...(args.immediately ? { immediately: true } : {}),
    })
    const { purpose, kid, state, activates_at: at } = answer
    if (args.json) cli.out(json(answer))
    else if (state === 'active') cli.out(`${safe(purpose)}: ${safe(kid)} is active`)
    else cli.out(`${safe(purpose)}: ${safe(kid)} is published, and signs from ${time(at)}`)
    return EXIT.ok
  },
})

export const compromise = verb({
  description:
    'Says that a private key is in other hands: a new one signs at once, and every token the old one signed is dead, whatever it claims.',
  args: {
    kid: { type: 'positional', description: 'the key, as errand keys list shows it', required: true },
    reason: REASON,
    ...JSON_FLAG,
  },
  examples: ['errand keys compromise Yr-ph3beBfBH1qTz --reason "found in a backup"'],
  async run(args, cli) {
    reasonOf(args.reason)
    const answer = await (await adminClient(cli)).post('/keys/compromise', { kid: args.kid, reason: args.reason })
    if (args.json) cli.out(json(answer))
    else
      for (const line of facts(cli, [
        ['compromised', answer['kid']],
        ['purpose', answer['purpose']],
        ['signing now', answer['successor'] ?? 'nothing: no key could be made'],
        ['revocation', answer['revocation']],
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

export const exportJwks = verb({
  description:
    'Prints the public keys as a JWKS: those that are published now, or with --all every one there ever was, with its state and times. Old evidence is verified with them, offline; a token never is.',
  args: {
    all: { type: 'boolean', description: 'also those that are retired or compromised' },
    ...JSON_FLAG,
  },
  examples: ['errand keys export-jwks', 'errand keys export-jwks --all > keys-2026-11-22.json'],
  async run(args, cli) {
    const document = args.all
      ? await (await adminClient(cli)).get('/keys/jwks')
      : await getPublic(cli, (await serviceOf(cli)).url, '/.well-known/jwks.json')
    cli.out(json(document))
    return EXIT.ok
  },
})

export const rewrap = verb({
  description:
    'Wraps the root key by what keys.root of errand.yaml names now, in a new file beside it; with --plain, by nothing. What it is wrapped by at present is told by the flags. Nothing sealed under it changes.',
  args: {
    'from-passphrase-file': {
      type: 'string',
      valueHint: 'file',
      description: 'it is wrapped by the passphrase in here',
    },
    'from-prompt': { type: 'boolean', description: 'it is wrapped by a passphrase: ask for it' },
    'from-config': {
      type: 'string',
      valueHint: 'file',
      description: 'it is wrapped by what keys.root of this errand.yaml names: a copy of before it was changed',
    },
    plain: { type: 'boolean', description: 'leave it unwrapped' },
    ...JSON_FLAG,
  },
  examples: [
    'errand keys rewrap',
    'errand keys rewrap --from-prompt && mv keys/root.key.new keys/root.key',
    'errand keys rewrap --from-config errand.yaml.before',
  ],
  async run(args, cli) {
    const { configDir, keysDir } = placesOf(cli)
    const prompt = (message: string) =>
      cli.terminal ? (anew: boolean) => askPassphrase(cli, { message, anew }) : undefined
    const { readable, root } = await listMaterial(configDir)
    if (!readable) throw usage('errand.yaml cannot be read', 'errand config check says what is wrong with it.')
    if (!args.plain && !root)
      throw usage('keys.root of errand.yaml names nothing to wrap it by', 'Set it first, or say --plain.')
    const from = openRootGuard(await inForce(args), {
      fetch: cli.fetch,
      prompt: prompt('The passphrase it is wrapped by now'),
    })
    const to = args.plain ? undefined : openRootGuard(root, { fetch: cli.fetch, prompt: prompt('The new passphrase') })
    const path = join(keysDir, 'root.key')
    const into = `${path}.new`
    if (!(await rewrapRootKey(path, { ...(from ? { from } : {}), ...(to ? { to } : {}), into })))
      throw new CliError(EXIT.refused, `${into} is there already: of an earlier try?`, ['Remove it, then try again.'])
    if (args.json) cli.out(json({ made: into, wrapped_by: to?.kind ?? null }))
    else {
      cli.out(`${into} holds the same root key, ${to ? `wrapped by ${to.kind}` : 'unwrapped'}; it was read back`)
      cli.out(`Stop the service, keep a copy of root.key, then: mv ${into} ${path}`)
    }
    return EXIT.ok
  },
})

/** What the root key is wrapped by at present, as the flags say. */
async function inForce(args: {
  readonly 'from-passphrase-file'?: string | undefined
  readonly 'from-prompt'?: boolean | undefined
  readonly 'from-config'?: string | undefined
}): Promise<RootSource | undefined> {
  const { 'from-passphrase-file': file, 'from-prompt': asked, 'from-config': config } = args
  if ([file, asked || undefined, config].filter((said) => said !== undefined).length > 1)
    throw usage('it is wrapped by one thing: --from-passphrase-file, --from-prompt or --from-config')
  if (file !== undefined) return { passphrase: { file: resolve(file) } }
  if (asked) return { passphrase: { prompt: true } }
  if (config === undefined) return undefined
  const read = await readRootSource(resolve(config))
  if (!read) throw usage(`${safe(config)} is no errand.yaml that can be read`)
  if (!read.root) throw usage(`keys.root of ${safe(config)} names nothing: leave --from-config out`)
  return read.root
}
