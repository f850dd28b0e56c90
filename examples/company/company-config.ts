/** The demo's configuration: the sample in config/ with this run's ports, identity provider and trust domain. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { PROJECT } from './processes.ts'
import { releaseResearchAgent } from './release.ts'
import { type DemoSettings, fileIn, urlsOf } from './settings.ts'

const EFFECTS = ['read', 'reversible_write', 'irreversible_write', 'external_communication', 'privileged']

type Yaml = { [name: string]: unknown }

const readYaml = (file: string): Yaml => parse(readFileSync(file, 'utf8')) as Yaml
const writeYaml = (file: string, value: Yaml): void => writeFileSync(file, stringify(value))

/** The environment in which the service, and the CLI, find this run's folders. */
export const errandEnvironment = (settings: DemoSettings): Record<string, string> => ({
  ERRAND_CONFIG: fileIn(settings, 'config'),
  ERRAND_DATA: fileIn(settings, 'data'),
  ERRAND_KEYS: fileIn(settings, 'keys'),
  ERRAND_URL: urlsOf(settings).errand,
})

/** Where in the keys folder the trust domain's files are. */
export const COMPANY_KEYS = 'company'

export function writeCompanyConfig(settings: DemoSettings): void {
  const config = fileIn(settings, 'config')
  const { errand, idp } = urlsOf(settings)
  const { ports } = settings
  cpSync(join(PROJECT, 'config'), config, { recursive: true })
  mkdirSync(fileIn(settings, 'data'), { mode: 0o700 })

  const main = join(config, 'errand.yaml')
  const service = readYaml(main)
  writeYaml(main, {
    ...service,
    issuer: errand,
    mode: 'development',
    listen: {
      host: '127.0.0.1',
      port: ports.errand,
      mtls: { port: ports.mtls, cert_file: `${COMPANY_KEYS}/mtls.pem`, key_file: `${COMPANY_KEYS}/mtls.key` },
    },
  })

  // Users come from the identity provider that really runs; what they may do stays as the sample says.
  const development = join(config, 'issuers', 'dev.yaml')
  const { jwks_file: _, development: __, development_users: ___, ...issuer } = readYaml(development)
  rmSync(development)
  writeYaml(join(config, 'issuers', 'company-idp.yaml'), {
    ...issuer,
    name: 'company',
    issuer: idp,
    jwks_uri: `${idp}/jwks`,
    audiences: [errand],
    token_types: ['access_token'],
  })
  writeYaml(join(config, 'issuers', 'company-workloads.yaml'), {
    kind: 'workload',
    trust_domain: 'company.example',
    bundle_file: `${COMPANY_KEYS}/bundle.json`,
  })

  // These three run nowhere in this story. Their verifiers would ask each time, so nobody waits for them.
  for (const name of ['crm', 'github', 'warehouse']) {
    const file = join(config, 'tools', `${name}.yaml`)
    writeYaml(file, { ...readYaml(file), staleness_seconds: Object.fromEntries(EFFECTS.map((effect) => [effect, 0])) })
  }

  const release = releaseResearchAgent({ config, keys: fileIn(settings, 'keys') })
  writeFileSync(fileIn(settings, 'research.release'), release)
  const researcher = join(config, 'agents', 'research.yaml')
  writeYaml(researcher, { ...readYaml(researcher), release: { keys_file: 'releases/ci.pub.jwk' } })

  // These two run where the company's workload identities are handed out.
  for (const [name, evidence] of [
    ['research', 'x509_svid'],
    ['payments', 'jwt_svid'],
  ] as const) {
    const file = join(config, 'agents', `${name}.yaml`)
    writeYaml(file, { ...readYaml(file), evidence: [evidence] })
  }
}
