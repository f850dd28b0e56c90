/** Which keys the configuration wants, for the first start in development mode to make. Tolerant of everything else. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { agentSchema, errandSchema, issuerSchema, toolSchema } from './schemas.ts'
import { readYaml } from './yaml.ts'

interface DevelopmentUser {
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, string | number | boolean | readonly string[]>>
}

export interface Material {
  readonly mode: 'development' | 'production'
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

export async function listMaterial(dir: string): Promise<Material> {
  const errand = await readOne(errandSchema, join(dir, 'errand.yaml'))
  const agents = await readAll(agentSchema, join(dir, 'agents'))
  const tools = await readAll(toolSchema, join(dir, 'tools'))
  const issuers = await readAll(issuerSchema, join(dir, 'issuers'))
  return {
    // Nothing is made for a configuration that does not say in as many words that it is for development.
    mode: errand?.mode ?? 'production',
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

async function readAll<T extends z.ZodType>(schema: T, folder: string): Promise<readonly z.output<T>[]> {
  const names = await readdir(folder).catch(() => [])
  const found: z.output<T>[] = []
  for (const name of names.filter((file) => file.endsWith('.yaml')).sort()) {
    const one = await readOne(schema, join(folder, name))
    if (one !== undefined) found.push(one)
  }
  return found
}

/** What cannot be read is the loader's to report. */
async function readOne<T extends z.ZodType>(schema: T, path: string): Promise<z.output<T> | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  const yaml = text === undefined ? undefined : readYaml(path, text)
  const parsed = yaml?.ok ? schema.safeParse(yaml.value.data) : undefined
  return parsed?.success ? parsed.data : undefined
}
