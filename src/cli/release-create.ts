/** `errand release create`: the manifest of an agent, out of its folder and its lock files. */
import { createFile } from '../keys/key-file.ts'
import { parseStrictJson } from '@errand/verifier/strict-json.ts'
import { parse } from 'yaml'
import {
  type Manifest,
  MANIFEST_BOUNDS,
  manifestText,
  readManifest,
  releaseId,
  sha256,
} from '../attest/release-manifest.ts'
import { canonicalize } from '../audit/canonical.ts'
import type { Json } from '../audit/log.ts'
import { formatProblems } from '../config/check.ts'
import type { ReleaseFile } from '../config/release-file.ts'
import { shape } from '../config/shape.ts'
import { readYaml } from '../config/yaml.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { componentsOf, LOCK_FILES, LockFileFault } from './lock-files.ts'
import { json, safe } from './print.ts'
import { type Found, openReleaseFolder, type ReleaseFolder } from './release-folder.ts'
import { isObject, text } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

const FILE = 'release.yaml'

export const create = verb({
  description: `Makes the manifest of an agent out of its folder: ${FILE} says what it is made of and where its parts are.`,
  args: {
    folder: { type: 'positional', description: 'folder of the agent (default: here)', required: false },
    image: { type: 'string', valueHint: 'digest', description: 'sha256:…, or name@sha256:…' },
    model: { type: 'string', valueHint: 'id', description: 'instead of the one in the file' },
    'release-version': { type: 'string', valueHint: 'text', description: 'instead of the one in the file' },
    out: { type: 'string', valueHint: 'file', description: 'where to write it; a file that is there is kept' },
    ...JSON_FLAG,
  },
  examples: [
    'errand release create ./research --image registry.example.com/research@sha256:… --out research-1.4.0.json',
    'errand release create > manifest.json',
  ],
  async run(args, cli) {
    const folder = await openReleaseFolder(args.folder ?? '.')
    const manifest = await manifestIn(folder, { ...args, version: args['release-version'] }, (line) => cli.err(line))
    const made = manifestText(manifest)
    cli.err(summary(cli, manifest))
    if (args.out !== undefined) await writeNew(args.out, `${made}\n`)
    if (args.json) cli.out(json({ release: releaseId(made), manifest }))
    else if (args.out === undefined) cli.out(made)
    return EXIT.ok
  },
})

export const summary = ({ colors }: Pick<Cli, 'colors'>, manifest: Manifest): string => {
  const { agent, version, prompts, tools, skills, components } = manifest
  const counts = Object.entries({ prompts, tools, skills, components }).map(([name, all]) => `${all.length} ${name}`)
  return `${colors.bold(releaseId(manifestText(manifest)))}  ${safe(agent)} ${safe(version)}: ${counts.join(', ')}`
}

export async function writeNew(path: string, content: string, mode: 0o600 | 0o644 = 0o644): Promise<void> {
  const made = await createFile(path, content, mode).catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${safe(path)} cannot be written (${error.code ?? 'unknown error'})`)
  })
  if (!made) throw usage(`${safe(path)} is there already, and nothing is ever overwritten`)
}

interface Given {
  readonly image?: string | undefined
  readonly model?: string | undefined
  readonly version?: string | undefined
}

/** `note` is told what was passed over. */
export async function manifestIn(folder: ReleaseFolder, given: Given, note: (line: string) => void): Promise<Manifest> {
  const file = await readReleaseFile(folder)
  const passed = (path: string) => note(`passed over ${safe(path)}: it looks like a file of secrets`)
  const version = given.version ?? file.version
  if (version === undefined) throw usage(`${FILE} names no version`, 'Add one, or give --release-version.')
  const image = given.image ?? file.image
  const prompts: Found[] = []
  for (const path of file.prompts) prompts.push(...(await folder.readAll(path, passed)))
  const model = given.model ?? file.model
  const manifest: Manifest = {
    v: 1,
    agent: file.agent,
    version,
    ...(image === undefined ? {} : { image: image.slice(image.lastIndexOf('@') + 1) }),
    ...(model === undefined ? {} : { model }),
    ...(file.policy_version === undefined ? {} : { policy_version: file.policy_version }),
    prompts: byName(prompts.map(({ path, bytes }) => ({ name: path, digest: sha256(bytes) }))),
    tools: byName((await Promise.all(file.tools.map((path) => toolsIn(folder, path)))).flat()),
    skills: byName((await Promise.all(file.skills.map((path) => skillsIn(folder, path, passed)))).flat()),
    components: await componentsIn(folder, file),
  }
  const read = readManifest(manifestText(manifest))
  if (!read.ok) throw usage(`no manifest can be made of this: ${safe(read.why)}`)
  return manifest
}

async function readReleaseFile(folder: ReleaseFolder): Promise<ReleaseFile> {
  if (!(await folder.has(FILE)))
    throw usage(
      `there is no ${FILE} in ${safe(folder.root)}`,
      'It says of what the agent is made: docs/releases.md shows one.',
    )
  const yaml = readYaml(FILE, (await folder.read(FILE)).bytes.toString('utf8'))
  const shaped = yaml.ok ? shape('release', yaml.value) : yaml
  if (!shaped.ok) throw new CliError(EXIT.usage, `${FILE} is refused`, formatProblems(shaped.problems).split('\n'))
  return shaped.value
}

const byName = <T extends { readonly name: string }>(items: readonly T[]): T[] =>
  [...items].sort((a, b) => (a.name < b.name ? -1 : 1))

/** The whole definition is measured: a description is instructions to the model as much as a prompt is. */
async function toolsIn(folder: ReleaseFolder, path: string): Promise<Manifest['tools']> {
  const json = parseStrictJson((await folder.read(path)).bytes, {
    maxDepth: 32,
    maxMembers: 200_000,
    integersOnly: false,
  })
  if (!json.ok) throw usage(`${safe(path)} is no strict JSON (${json.fault})`)
  const list = isObject(json.value) ? json.value['tools'] : json.value
  if (!Array.isArray(list)) throw usage(`${safe(path)} holds no list of tools`)
  return list.map((tool: unknown) => {
    // Beside MCP's own form, the one in which chat APIs take tools.
    const named = isObject(tool) && isObject(tool['function']) ? tool['function'] : tool
    const name = isObject(named) ? text(named['name']) : undefined
    if (name === undefined) throw usage(`${safe(path)} holds a tool without a name`)
    const schema = canonicalize(tool as Json)
    if (schema.length > MANIFEST_BOUNDS.schemaBytes)
      throw usage(`tool ${safe(name)} in ${safe(path)} is above ${MANIFEST_BOUNDS.schemaBytes} bytes`)
    return { name, digest: sha256(schema), schema }
  })
}

async function skillsIn(
  folder: ReleaseFolder,
  path: string,
  passed: (path: string) => void,
): Promise<Manifest['skills']> {
  const skills: Manifest['skills'] = []
  for (const name of await folder.folders(path)) {
    const files = await folder.readAll(`${path}/${name}`, passed)
    const about = files.find((file) => file.path === `${path}/${name}/SKILL.md`)
    if (!about) throw usage(`${safe(path)}/${safe(name)} has no SKILL.md`)
    const front = frontMatter(about.bytes.toString('utf8'))
    const metadata = isObject(front['metadata']) ? front['metadata'] : {}
    const version = front['version'] ?? metadata['version']
    skills.push({
      name: text(front['name']) ?? name,
      ...(typeof version === 'string' || typeof version === 'number' ? { version: String(version) } : {}),
      digest: sha256(canonicalize(files.map((file) => [file.path.slice(path.length + 1), sha256(file.bytes)]))),
    })
  }
  return skills
}

function frontMatter(markdown: string): { readonly [name: string]: unknown } {
  const block = /^---\r?\n([\s\S]{0,16384}?)\r?\n---\s*(?:\r?\n|$)/.exec(markdown)?.[1]
  if (block === undefined) return {}
  try {
    const value: unknown = parse(block, { maxAliasCount: 0 })
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

async function componentsIn(folder: ReleaseFolder, { lock_files: named }: ReleaseFile): Promise<string[]> {
  const files = named ?? []
  if (named === undefined) for (const name of LOCK_FILES) if (await folder.has(name)) files.push(name)
  const found = new Set<string>()
  for (const path of files) {
    const { bytes } = await folder.read(path)
    try {
      for (const component of componentsOf(path, bytes.toString('utf8'))) found.add(component)
    } catch (error) {
      if (error instanceof LockFileFault) throw usage(`${safe(path)} ${safe(error.message)}`)
      throw error
    }
  }
  return [...found].sort()
}
