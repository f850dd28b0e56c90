/** A service on a real port with tenants beside its own issuer, each the sample company under a name of its own. */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importJWK, type JWK, SignJWT } from 'jose'
import { createAgent, privateKeyJwt } from '@errand/agent'
import pino from 'pino'
import { createClient, type Json } from '../src/cli/client.ts'
import { readPrivateJwkFile } from '../src/keys/private-jwk.ts'
import { serve } from '../src/main.ts'
import { freePort } from './running.ts'

/** What of the sample's errand.yaml belongs to the service and not to a tenant. */
const HOST_PART = /^(listen|store):\n(?: {2}.*\n)+/gm

/** Writes the sample company as the tenant `name`, under `issuer`. */
export async function writeTenant(configDir: string, name: string, issuer: string): Promise<string> {
  const dir = join(configDir, 'tenants', name)
  await mkdir(join(configDir, 'tenants'), { recursive: true })
  // Whole or not at all, as whoever deploys would: the running service looks meanwhile.
  const made = join(configDir, `.making-${name}`)
  await cp('config', made, { recursive: true })
  for (const file of ['errand.yaml', 'issuers/dev.yaml']) {
    const path = join(made, file)
    const text = (await readFile(path, 'utf8')).replaceAll('http://127.0.0.1:4460', issuer).replace(HOST_PART, '')
    await writeFile(path, text)
  }
  await cp(made, dir, { recursive: true })
  await rm(made, { recursive: true })
  return dir
}

export type Tenancy = Awaited<ReturnType<typeof openTenancy>>

export async function openTenancy(
  names: readonly string[],
  { extra = '', broken = [] }: { readonly extra?: string; readonly broken?: readonly string[] } = {},
) {
  const folder = await mkdtemp(join(tmpdir(), 'errand-tenancy-'))
  const port = await freePort()
  const host = `http://127.0.0.1:${port}`
  const configDir = join(folder, 'config')
  await cp('config', configDir, { recursive: true })
  for (const file of ['errand.yaml', 'issuers/dev.yaml']) {
    const path = join(configDir, file)
    const text = (await readFile(path, 'utf8')).replaceAll('http://127.0.0.1:4460', host)
    await writeFile(path, text.replace('port: 4460', `port: ${port}`) + (file === 'errand.yaml' ? extra : ''))
  }
  const issuerOf = (name: string) => (name === '' ? host : `${host}/t/${name}`)
  for (const name of names) await writeTenant(configDir, name, issuerOf(name))
  for (const name of broken) {
    const dir = await writeTenant(configDir, name, issuerOf(name))
    await writeFile(join(dir, 'agents/research.yaml'), 'client_id: [not, a, name\n')
  }
  const lines: string[] = []
  const service = await serve({
    configDir,
    dataDir: join(folder, 'data'),
    keysDir: join(folder, 'keys'),
    print: (line) => void lines.push(line),
    logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })

  const keysOf = (name: string) => (name === '' ? join(folder, 'keys') : join(folder, 'keys/tenants', name))
  const jwk = async (name: string, file: string) =>
    JSON.parse(await readFile(join(keysOf(name), file), 'utf8')) as JWK & { kid: string }
  const client = async (name: string, clientId: string, file: string, at = name) => {
    const cli = { fetch: globalThis.fetch, now: () => Date.now() / 1000, signal: new AbortController().signal }
    const issuer = issuerOf(at)
    const key = await readPrivateJwkFile(join(keysOf(name), file))
    return createClient(cli, { url: issuer, issuer }, { clientId, key })
  }
  return {
    folder,
    host,
    port,
    service,
    lines,
    issuerOf,
    keysOf,
    configDir,
    jwk,
    /** A client with keys of `name`, at the issuer `at`. */
    client,
    /** As the administrator of `name`; throws for what is refused. */
    admin: async (name: string, path: string, body?: object): Promise<Json> => {
      const admin = await client(name, 'admin', 'admin.jwk')
      return body === undefined ? admin.get(path) : admin.post(path, { ...body })
    },
    userToken: async (name: string, user = 'alice'): Promise<string> => {
      const key = await jwk(name, 'users/dev-issuer.jwk')
      return new SignJWT({ groups: ['support', 'finance'], department: 'customer-care' })
        .setProtectedHeader({ alg: 'ES256', typ: 'JWT', kid: key.kid })
        .setIssuer(`${issuerOf(name)}/dev-issuer`)
        .setSubject(user)
        .setAudience(issuerOf(name))
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(await importJWK(key, 'ES256'))
    },
    agent: async (name: string, clientId = 'research') =>
      createAgent({
        issuer: issuerOf(name),
        evidence: privateKeyJwt({ clientId, key: (await jwk(name, `agents/${clientId}.jwk`)) as never }),
      }),
    close: async () => {
      await service.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export const details = {
  purpose: 'answer a question about an order',
  environment: 'staging',
  dataClassification: 'internal',
  deadlineSeconds: 900,
} as const
