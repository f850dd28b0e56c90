/** `errand release`: manifests signed, verified, compared; and which are registered at a service. */
import { readFile } from 'node:fs/promises'
import { signEs256 } from '@errand/verifier/signature.ts'
import { type Difference, diffManifests } from '../attest/release-difference.ts'
import { type Manifest, manifestText, readManifest, releaseId } from '../attest/release-manifest.ts'
import { MAX_SIGNED_BYTES, readSignedRelease } from '../attest/release-signature.ts'
import { readPublicKeys } from '../config/jwks.ts'
import { generatePrivateJwk } from '../keys/private-jwk.ts'
import { TYP } from '../oauth/words.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { adminClient, keyAt } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { manifestIn, summary, writeNew } from './release-create.ts'
import { openReleaseFolder } from './release-folder.ts'
import { number, objects, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export { create } from './release-create.ts'

const FILE_ARG = { type: 'positional', description: 'the signed release', required: true } as const

export const keygen = verb({
  description:
    'Makes a key for signing releases: <path>.jwk, for the signer alone, and <path>.pub.jwk for the agent’s file.',
  args: { path: { type: 'positional', description: 'without .jwk', required: true }, ...JSON_FLAG },
  examples: ['errand release keygen keys/releases/ci'],
  async run(args, cli) {
    const { path } = args
    const key = await generatePrivateJwk('release-')
    await writeNew(`${path}.jwk`, `${JSON.stringify(key.jwk, undefined, 2)}\n`, 0o600)
    await writeNew(`${path}.pub.jwk`, `${JSON.stringify(key.publicJwk, undefined, 2)}\n`)
    cli.out(args.json ? json({ kid: key.kid, file: `${path}.jwk`, public_file: `${path}.pub.jwk` }) : key.kid)
    return EXIT.ok
  },
})

export const sign = verb({
  description: 'Signs a manifest. The file goes to config/releases/ of the service, and the id to the agent.',
  args: {
    manifest: { type: 'positional', description: 'what errand release create made', required: true },
    key: { type: 'string', valueHint: 'file', description: 'private JWK of the signer, mode 0600', required: true },
    out: { type: 'string', valueHint: 'file', description: 'where to write it; a file that is there is kept' },
    ...JSON_FLAG,
  },
  examples: ['errand release sign research-1.4.0.json --key ci.jwk --out config/releases/research-1.4.0.jws'],
  async run(args, cli) {
    const key = await keyAt(args.key, 'Make one with errand release keygen, or name another.')
    const manifest = manifestOf(await fileAt(args.manifest), args.manifest)
    const header = { typ: TYP.release, kid: key.kid, iat: Math.floor(cli.now()) }
    // Members of the manifest are in canonical order: written again, they are the same text.
    const jws = signEs256(key.privateKey, header, JSON.parse(manifestText(manifest)) as object)
    const own = readSignedRelease(jws, () => [key.publicJwk])
    if (!own.ok) throw new Error(`what was signed does not verify: ${own.why}`)
    cli.err(summary(cli, manifest))
    if (args.out !== undefined) await writeNew(args.out, `${jws}\n`)
    if (args.json) cli.out(json({ release: own.id, signer: key.kid, signed_at: own.signedAt, jws }))
    else if (args.out === undefined) cli.out(jws)
    return EXIT.ok
  },
})

export const verify = verb({
  description: 'Verifies a signed release; with --folder also that the folder still is what was signed.',
  args: {
    file: FILE_ARG,
    signers: { type: 'string', valueHint: 'file', description: 'public JWK or JWKS of the signers', required: true },
    folder: { type: 'string', valueHint: 'folder', description: 'folder of the agent, to compare' },
    ...JSON_FLAG,
  },
  examples: [
    'errand release verify config/releases/research-1.4.0.jws --signers keys/releases/ci.pub.jwk',
    'errand release verify research.jws --signers ci.pub.jwk --folder ./research',
  ],
  async run(args, cli) {
    const signers = readPublicKeys(jsonOf(await fileAt(args.signers), args.signers), ['ES256', 'EdDSA'])
    if (!signers.ok) throw usage(`${safe(args.signers)}: ${safe(signers.why)}`)
    const read = readSignedRelease(await fileAt(args.file), () => signers.keys)
    if (!read.ok) throw new CliError(EXIT.refused, `${safe(args.file)}: ${safe(read.why)}`)
    const { manifest, id, signer, signedAt } = read
    const { image, version } = manifest
    const differences =
      args.folder === undefined
        ? []
        : diffManifests(
            manifest,
            // What only the build knows is taken from what was signed.
            await manifestIn(await openReleaseFolder(args.folder), { image, version }, (line) => cli.err(line)),
          )
    if (args.json) cli.out(json({ release: id, signer, signed_at: signedAt, manifest, differences }))
    else {
      for (const line of facts(cli, [
        ['release', id],
        ['agent', `${manifest.agent} ${version}`],
        ['image', image],
        ['model', manifest.model],
        ['signed', `${time(signedAt)} by ${signer}`],
      ]))
        cli.out(line)
      for (const line of differences.flatMap((each) => differenceLines(cli, each))) cli.out(line)
    }
    return differences.length > 0 ? EXIT.refused : EXIT.ok
  },
})

export const diff = verb({
  description:
    'Shows what differs between two manifests, signed or not, down to the byte of a tool. Exit code 1 where anything does.',
  args: {
    was: { type: 'positional', description: 'the older one', required: true },
    is: { type: 'positional', description: 'the newer one', required: true },
    ...JSON_FLAG,
  },
  examples: ['errand release diff config/releases/research-1.4.0.jws research-1.5.0.json'],
  async run(args, cli) {
    const [was, is] = [manifestOf(await fileAt(args.was), args.was), manifestOf(await fileAt(args.is), args.is)]
    const differences = diffManifests(was, is)
    if (args.json) cli.out(json({ was: releaseId(manifestText(was)), is: releaseId(manifestText(is)), differences }))
    else for (const line of differences.flatMap((each) => differenceLines(cli, each))) cli.out(line)
    return differences.length > 0 ? EXIT.refused : EXIT.ok
  },
})

export const list = verb({
  description: 'Lists the releases that are registered at the service; with --component those that contain it.',
  args: {
    agent: { type: 'string', valueHint: 'client_id', description: 'of this agent' },
    component: { type: 'string', valueHint: 'name', description: 'name, name@version, or package URL' },
    ...JSON_FLAG,
  },
  examples: ['errand release list', 'errand release list --component litellm@1.82.8'],
  async run(args, cli) {
    const { agent, component } = args
    const answer = await (await adminClient(cli)).get('/releases', { agent, component })
    const releases = objects(answer['releases'])
    if (args.json) cli.out(json(answer))
    else if (releases.length === 0) cli.err('no such releases')
    else
      for (const line of table(cli, releases, [
        { title: 'RELEASE', cell: (release) => release['release'] },
        { title: 'AGENT', cell: (release) => release['agent'] },
        { title: 'VERSION', cell: (release) => release['version'] },
        { title: 'SIGNED', cell: (release) => time(number(release['signed_at'])) },
        ...(component === undefined
          ? [{ title: 'MODEL', cell: (release: (typeof releases)[number]) => release['model'] }]
          : [
              {
                title: 'COMPONENT',
                cell: (release: (typeof releases)[number]) => texts(release['components']).join(' '),
              },
            ]),
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

function differenceLines({ colors }: Pick<Cli, 'colors'>, { part, change, was, is, at }: Difference): string[] {
  const paint = { added: colors.green, removed: colors.red, changed: colors.yellow }[change]
  const [before, after] = at ? [at.was, at.is] : [was, is]
  return [
    `${paint(change.padEnd(7))}  ${safe(part)}${at ? ` at byte ${at.byte}` : ''}`,
    ...(before === undefined ? [] : [`         - ${safe(before)}`]),
    ...(after === undefined ? [] : [`         + ${safe(after)}`]),
  ]
}

/** A manifest as it was created, or inside a release whose signature is not looked at here. */
function manifestOf(content: string, path: string): Manifest {
  const plain = content.trim()
  const signed = /^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/.exec(plain)?.[1]
  const read = readManifest(signed === undefined ? plain : Buffer.from(signed, 'base64url'))
  if (!read.ok) throw usage(`${safe(path)} is no manifest: ${safe(read.why)}`)
  return read.manifest
}

async function fileAt(path: string): Promise<string> {
  const content = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${safe(path)} cannot be read (${error.code ?? 'unknown error'})`)
  })
  if (content.length > MAX_SIGNED_BYTES) throw usage(`${safe(path)} is above ${MAX_SIGNED_BYTES} bytes`)
  return content
}

function jsonOf(content: string, path: string): unknown {
  try {
    return JSON.parse(content)
  } catch {
    throw usage(`${safe(path)} is not JSON`)
  }
}
