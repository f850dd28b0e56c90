/** Which keys the configuration wants, for the first start in development mode to make. Tolerant of everything else. */
import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { someAtOnce } from '../keys/some-at-once.ts'
import type { SchemaName } from './json-schemas.ts'
import type { RootSource } from './root-source.ts'
import { createReadings, labelOf, type Reading, type Readings } from './readings.ts'

interface DevelopmentUser {
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, string | number | boolean | readonly string[]>>
}

export interface Material {
  readonly mode: 'development' | 'production'
  /** False where errand.yaml cannot be read: nobody knows then how a root key is to be kept. */
  readonly readable: boolean
  readonly root?: RootSource
  readonly issuer?: string
  /** Paths inside the keys folder: `agents/research.pub.jwk`. */
  readonly administrators: readonly { readonly clientId: string; readonly keysFile: string }[]
  readonly agents: readonly { readonly clientId: string; readonly spiffeId: string; readonly keysFile: string }[]
  readonly tools: readonly { readonly name: string; readonly audience: string; readonly keysFile: string }[]
  readonly issuers: readonly {
    readonly name: string
    readonly issuer: string
    readonly audiences: readonly string[]
    readonly groupsClaim: string
    readonly jwksFile: string
    readonly users: Readonly<Record<string, DevelopmentUser>>
  }[]
}

export async function listMaterial(dir: string, readings: Readings = createReadings()): Promise<Material> {
  const folder: Folder = { dir, readings }
  const [errand, agents, tools, issuers] = await Promise.all([
    readOne('errand', folder, 'errand.yaml'),
    readAll('agent', folder, 'agents'),
    readAll('tool', folder, 'tools'),
    readAll('issuer', folder, 'issuers'),
  ])
  return {
    // Nothing is made for a configuration that does not say in as many words that it is for development.
    mode: errand?.mode ?? 'production',
    readable: errand !== undefined,
    ...(errand?.keys.root === undefined ? {} : { root: errand.keys.root }),
    ...(errand === undefined ? {} : { issuer: errand.issuer }),
    administrators: (errand?.administrators ?? []).flatMap(({ client_id, keys_file }) =>
      keys_file === undefined ? [] : [{ clientId: client_id, keysFile: keys_file }],
    ),
    agents: agents.flatMap(({ client_id, spiffe_id, keys_file }) =>
      keys_file === undefined ? [] : [{ clientId: client_id, spiffeId: spiffe_id, keysFile: keys_file }],
    ),
    tools: tools.flatMap(({ name, audience, keys_file }) =>
      keys_file === undefined ? [] : [{ name, audience, keysFile: keys_file }],
    ),
    issuers: issuers.flatMap((issuer) =>
      issuer.kind === 'user' && issuer.development && issuer.jwks_file !== undefined
        ? [
            {
              name: issuer.name,
              issuer: issuer.issuer,
              audiences: issuer.audiences,
              groupsClaim: issuer.groups_claim,
              jwksFile: issuer.jwks_file,
              users: Object.fromEntries(
                Object.entries(issuer.development_users ?? {}).map(([user, { groups, claims }]) => [
                  user,
                  { groups, claims: claims ?? {} },
                ]),
              ),
            },
          ]
        : [],
    ),
  }
}

interface Folder {
  readonly dir: string
  readonly readings: Readings
}

type Value<N extends SchemaName> = Extract<Reading<N>, { ok: true }>['value']

async function readAll<N extends SchemaName>(name: N, folder: Folder, under: string): Promise<readonly Value<N>[]> {
  const files = await readdir(join(folder.dir, under)).catch(() => [])
  const own = files.filter((file) => file.endsWith('.yaml')).sort()
  const found = await someAtOnce(own, (file) => readOne(name, folder, `${under}/${file}`))
  return found.filter((one) => one !== undefined)
}

/** What cannot be read is the loader's to report. */
/** What wraps the root key by an errand.yaml, wherever that is; undefined where it cannot be read. */
export async function readRootSource(file: string): Promise<{ readonly root: RootSource | undefined } | undefined> {
  const errand = await readOne('errand', { dir: dirname(file), readings: createReadings() }, basename(file))
  return errand && { root: errand.keys.root }
}

async function readOne<N extends SchemaName>(
  name: N,
  { dir, readings }: Folder,
  path: string,
): Promise<Value<N> | undefined> {
  const text = await readFile(join(dir, path), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const reading = readings.readAhead(name, `${labelOf(dir)}/${path}`, text)
  return reading.ok ? reading.value : undefined
}
