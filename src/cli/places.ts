/** Where things are: the service, and this machine's configuration, data and keys. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { UserIssuerFile } from '../config/issuer-file.ts'
import { shape } from '../config/shape.ts'
import { readYaml } from '../config/yaml.ts'
import { isMissing } from '../keys/key-file.ts'
import { type PrivateJwk, readPrivateJwkFile } from '../keys/private-jwk.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { type Client, createClient, getPublic, type Service } from './client.ts'
import { safe } from './print.ts'

const DEFAULT_URL = 'http://127.0.0.1:4460'

export interface Places {
  readonly configDir: string
  readonly dataDir: string
  readonly keysDir: string
}

export const placesOf = ({ env }: Pick<Cli, 'env'>): Places => ({
  configDir: env['ERRAND_CONFIG'] || 'config',
  dataDir: env['ERRAND_DATA'] || 'data',
  keysDir: env['ERRAND_KEYS'] || 'keys',
})

const readable = (path: string): Promise<string | undefined> => readFile(path, 'utf8').catch(() => undefined)

/** The issuer that a configuration on this machine names; undefined where there is none that can be read. */
async function configuredIssuer(configDir: string): Promise<string | undefined> {
  const text = await readable(join(configDir, 'errand.yaml'))
  const yaml = text === undefined ? undefined : readYaml('errand.yaml', text)
  const file = yaml?.ok ? shape('errand', yaml.value) : undefined
  return file?.ok ? file.value.issuer : undefined
}

/**
 * The service to speak to, and the name to make assertions for. A name is believed only where it is the address asked
 * for (RFC 8414 §3.3) or the one in the local configuration: else whoever answers could collect assertions for another.
 */
export async function serviceOf(cli: Cli): Promise<Service> {
  const configured = await configuredIssuer(placesOf(cli).configDir)
  const asked = cli.env['ERRAND_URL']?.replace(/\/$/, '')
  if (!asked) {
    const issuer = configured ?? DEFAULT_URL
    return { url: issuer, issuer }
  }
  const path = URL.canParse(asked) ? new URL(asked).pathname.replace(/^\/$/, '') : ''
  const base = path === '' ? asked : asked.slice(0, asked.length - path.length)
  const { issuer } = await getPublic(cli, base, `/.well-known/oauth-authorization-server${path}`)
  if (typeof issuer !== 'string' || (issuer !== asked && issuer !== configured))
    throw new CliError(EXIT.refused, `the service at ${safe(asked)} calls itself ${safe(issuer) || 'nothing'}`, [
      'Set ERRAND_URL to the name it goes by, if that is the service you mean,',
      'or ERRAND_CONFIG to the configuration that has this name as its issuer.',
    ])
  return { url: asked, issuer }
}

export async function keyAt(path: string, whatToDo: string): Promise<PrivateJwk> {
  try {
    return await readPrivateJwkFile(path)
  } catch (error) {
    if (isMissing(error)) throw new CliError(EXIT.usage, (error as Error).message, [whatToDo])
    throw error
  }
}

/** A client that speaks as an administrator, by the key in `admin.jwk`, or in `<ERRAND_ADMIN>.jwk` where there are several. */
export async function adminClient(cli: Cli): Promise<Client> {
  const clientId = cli.env['ERRAND_ADMIN'] || 'admin'
  if (!/^[a-z][a-z0-9_.-]{0,63}$/.test(clientId)) throw usage('ERRAND_ADMIN is no client_id')
  const key = await keyAt(
    join(placesOf(cli).keysDir, `${clientId}.jwk`),
    'The service makes it on its first start. Run this where its keys are, copy the file here with mode 0600, or set ERRAND_KEYS.',
  )
  return createClient(cli, await serviceOf(cli), { clientId, key })
}

/** Every issuer that the local configuration trusts; the file of each, where it can be read. */
export async function* issuersIn(configDir: string) {
  const folder = join(configDir, 'issuers')
  const names = await readdir(folder).catch(() => [])
  for (const name of names.filter((each) => /\.ya?ml$/.test(each)).sort()) {
    const text = await readable(join(folder, name))
    const yaml = text === undefined ? undefined : readYaml(name, text)
    const file = yaml?.ok ? shape('issuer', yaml.value) : undefined
    if (file?.ok) yield file.value
  }
}

/** The development user issuer of the local configuration, where there is one. */
export async function developmentIssuer(configDir: string): Promise<UserIssuerFile | undefined> {
  for await (const issuer of issuersIn(configDir)) if (issuer.kind === 'user' && issuer.development) return issuer
  return undefined
}

/** Names of the issuers of users; none where the local configuration is another service's, or cannot be read. */
export async function issuerNames(configDir: string, issuer: string): Promise<readonly string[]> {
  if ((await configuredIssuer(configDir)) !== issuer) return []
  const names: string[] = []
  for await (const each of issuersIn(configDir)) if (each.kind === 'user') names.push(each.name)
  return names
}
