/** How the service looks from outside: reached, on time, ready, and running what is in the files. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { readStatement } from '@errand/verifier/feed-frame.ts'
import { checkServiceUrl, endpoint, type Fetched, fetchText } from '@errand/verifier/http.ts'
import { createJwks, type Jwks } from '@errand/verifier/jwks.ts'
import { readPrivateJwkFile } from '../keys/private-jwk.ts'
import { type Cli, CliError } from './cli.ts'
import { createClient, type Service } from './client.ts'
import { clockFinding, type Finding, good, weak, wrong } from './doctor-finding.ts'
import { placesOf, serviceOf } from './places.ts'
import { object, text, texts } from './rows.ts'

const TIMEOUT_MS = 5_000
const MAX_BYTES = 262_144

export const ask = (cli: Cli, url: string, headers: { readonly [name: string]: string } = {}): Promise<Fetched> =>
  fetchText(cli.fetch, url, { timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES, headers, signal: cli.signal })

export const jsonOf = ({ text: body }: Pick<Fetched, 'text'>): { readonly [name: string]: unknown } => {
  try {
    return object(JSON.parse(body))
  } catch {
    return {}
  }
}

/** Why something was not reached, without what it was asked. */
export function reasonOf(error: unknown): string {
  const { cause, message } = error as { readonly cause?: unknown; readonly message?: string }
  const inner = (cause as { readonly cause?: unknown } | undefined)?.cause ?? cause
  const code = (inner as { readonly code?: unknown } | undefined)?.code
  return typeof code === 'string' ? code : (message ?? 'no answer')
}

export interface Reached {
  readonly service: Service
  readonly jwks: Jwks
  readonly findings: readonly Finding[]
}

/** The service by its metadata, its keys and its clock; without `jwks` and `service` where it cannot be reached. */
export async function reachService(
  cli: Cli,
): Promise<Reached | { readonly service?: undefined; readonly findings: readonly Finding[] }> {
  const start = 'start it (errand serve), or say where it is: ERRAND_URL'
  let service: Service
  try {
    service = await serviceOf(cli)
    checkServiceUrl(service.url)
  } catch (error) {
    const { message, hints = [] } = error as Partial<CliError> & Error
    return { findings: [wrong('service_unreached', message, hints.join(' ') || start)] }
  }
  const { url, issuer } = service
  const findings: Finding[] = []
  const before = cli.now()
  let metadata: Fetched
  try {
    const path = new URL(url).pathname.replace(/\/$/, '')
    metadata = await ask(cli, `${new URL(url).origin}/.well-known/oauth-authorization-server${path}`)
  } catch (error) {
    return { findings: [wrong('service_unreached', `no answer from ${url} (${reasonOf(error)})`, start)] }
  }
  const after = cli.now()
  const named = text(jsonOf(metadata)['issuer'])
  if (metadata.status !== 200 || named !== issuer)
    return {
      findings: [
        wrong(
          'service_is_another',
          `what answers at ${url} ${named === undefined ? 'is no Errand service' : `calls itself ${named}`}`,
          `ERRAND_URL, or the proxy in front of ${issuer}, leads to the wrong place`,
        ),
      ],
    }
  findings.push(good('service_reached', `the service answers at ${url}${url === issuer ? '' : `, as ${issuer}`}`))
  const date = Date.parse(metadata.headers.get('date') ?? '') / 1000
  if (!Number.isNaN(date))
    findings.push(clockFinding(date + 0.5 - (before + after) / 2, 'the service', CLOCK_LEEWAY_SECONDS))
  const jwks = createJwks({
    url: endpoint(url, '/.well-known/jwks.json'),
    fetch: cli.fetch,
    monotonic: () => performance.now(),
    random: () => 0.5,
    timeoutMs: TIMEOUT_MS,
    onProblem: () => undefined,
  })
  findings.push(await statementFinding(cli, service, jwks))
  return { service, jwks, findings }
}

/** A signed statement of now: what verifiers judge freshness by. */
async function statementFinding(cli: Cli, { url, issuer }: Service, jwks: Jwks): Promise<Finding> {
  const mend = 'errand keys list; does a proxy change or cache /revocations/now or /.well-known/jwks.json?'
  try {
    const nonce = randomBytes(18).toString('base64url')
    const before = cli.now()
    const answer = await ask(cli, endpoint(url, `/revocations/now?nonce=${nonce}`))
    const statement = await readStatement(jsonOf(answer)['statement'], { issuer, jwks })
    if (!statement?.nonces.includes(nonce))
      return wrong(
        'statement_refused',
        'what the service states of now does not verify: every verifier refuses as stale',
        mend,
      )
    const skew = statement.time + 0.5 - (before + cli.now()) / 2
    const clock = clockFinding(skew, 'what the service signs', CLOCK_LEEWAY_SECONDS)
    return clock.level === 'good'
      ? good(
          'statement',
          `its keys and its statement of now verify, at epoch ${statement.epoch.generation}.${statement.epoch.sequence}`,
        )
      : clock
  } catch (error) {
    return wrong('statement_refused', `no statement of now (${reasonOf(error)})`, mend)
  }
}

/** What the service says of itself, and whether it runs the configuration that lies here. */
export async function serviceFindings(
  cli: Cli,
  service: Service,
  localDigest: string | undefined,
): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  try {
    const ready = jsonOf(await ask(cli, endpoint(service.url, '/ready')))
    const ill = Object.entries(object(ready['checks'])).filter(([, state]) => state !== 'ok')
    const parts = ill.map(([part, state]) => `${part} ${String(state)}`).join(', ')
    if (ready['status'] === 'ok') findings.push(good('ready', 'it is ready'))
    else if (ready['status'] === 'degraded')
      findings.push(weak('degraded', `it works, but not all of it is well: ${parts}`, 'its log says why'))
    else
      findings.push(wrong('not_ready', `it is ${text(ready['status']) ?? 'not ready'}: ${parts}`, 'its log says why'))
    const shortcuts = texts(ready['development_shortcuts'])
    if (shortcuts.length > 0 && ready['mode'] === 'production')
      findings.push(wrong('development_shortcuts', shortcuts.join('; '), 'mode: production and an https issuer'))
  } catch (error) {
    findings.push(wrong('not_ready', `no answer from /ready (${reasonOf(error)})`, 'its log says why'))
  }
  const key = await readPrivateJwkFile(join(placesOf(cli).keysDir, 'admin.jwk')).catch(() => undefined)
  if (!key) return findings
  try {
    const config = await createClient(cli, service, { clientId: 'admin', key }).get('/config')
    if (object(config['failure'])['problems'] !== undefined)
      findings.push(
        wrong('config_refused', 'it refused the newest configuration, and runs the one before', 'errand config show'),
      )
    else if (localDigest !== undefined && config['digest'] !== localDigest)
      findings.push(
        weak(
          'config_differs',
          'it runs another configuration than the one here',
          'errand config show; settings of errand.yaml count after a restart',
        ),
      )
    else if (localDigest !== undefined)
      findings.push(good('config_in_force', 'it runs the configuration that lies here'))
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    findings.push(
      weak(
        'not_administrated',
        `the key in admin.jwk does not administrate it (${error.message})`,
        'register admin.pub.jwk in errand.yaml, administrators',
      ),
    )
  }
  return findings
}
