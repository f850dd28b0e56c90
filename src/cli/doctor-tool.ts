/** `errand doctor --tool`: from where a tool runs, whether its verifier can do its work there. */
import { join } from 'node:path'
import { createServiceClient } from '@errand/verifier/client.ts'
import { createFollower } from '@errand/verifier/follower.ts'
import { ServiceUnavailable } from '@errand/verifier/http.ts'
import { metadataUrl } from '@errand/verifier/metadata.ts'
import type { Tool } from '../policy/tool.ts'
import type { PrivateJwk } from '../keys/private-jwk.ts'
import type { Cli } from './cli.ts'
import { type Finding, good, weak, wrong } from './doctor-finding.ts'
import { ask, jsonOf, type Reached, reasonOf } from './doctor-service.ts'
import { placesOf } from './places.ts'
import { text, texts } from './rows.ts'

export const toolKeyPath = (cli: Cli, tool: string, keyFile: string | undefined): string =>
  keyFile ?? join(placesOf(cli).keysDir, 'tools', `${tool}.jwk`)

const TIMEOUT_MS = 5_000

/** With the parts of the verifier itself. */
export async function toolFindings(
  cli: Cli,
  { service, jwks }: Reached,
  key: PrivateJwk,
  tool: string,
): Promise<readonly Finding[]> {
  const client = createServiceClient({
    issuer: service.issuer,
    serviceUrl: service.url,
    clientId: `tool:${tool}`,
    key: { ...key.jwk },
    fetch: cli.fetch,
    now: cli.now,
    timeoutMs: TIMEOUT_MS,
  })
  try {
    await client.feedKey()
  } catch (error) {
    const unknown = error instanceof ServiceUnavailable && (error.status === 401 || error.status === 403)
    return [
      wrong(
        'not_authenticated',
        `the service does not take it for the tool ${tool} (${error instanceof ServiceUnavailable && error.status ? `status ${error.status}` : reasonOf(error)})`,
        unknown
          ? `the public half of this key belongs into keys_file of tools/${tool}.yaml`
          : 'is the service reached from here?',
      ),
    ]
  }
  const findings = [good('authenticated', `the service takes it for the tool ${tool}`)]
  const problems: unknown[] = []
  const follower = createFollower({
    issuer: service.issuer,
    serviceUrl: service.url,
    fetch: cli.fetch,
    jwks,
    client,
    now: cli.now,
    monotonic: () => performance.now(),
    random: () => 0.5,
    onProblem: (problem) => void problems.push(problem),
    onRegression: () => undefined,
  })
  try {
    await follower.refresh()
    const { epoch, ageSeconds, entries } = follower.status()
    if (epoch === undefined || !Number.isFinite(ageSeconds))
      return [
        ...findings,
        wrong(
          'feed_not_followed',
          `the revocation feed cannot be followed (${reasonOf(problems[0])}): every call would be refused as stale`,
          'does a proxy cut or cache /revocations? It must pass streams on as they come',
        ),
      ]
    findings.push(
      good(
        'feed_followed',
        `it follows the feed: epoch ${epoch}, ${entries} revocation${entries === 1 ? '' : 's'} in force`,
      ),
    )
    findings.push(
      ageSeconds > 1
        ? weak(
            'feed_slow',
            `what it knows is ${ageSeconds.toFixed(1)} s old when it arrives`,
            'the tighter bounds (2 s) leave little: look at the network between them',
          )
        : good('feed_fresh', `what it knows is ${(ageSeconds * 1000).toFixed(0)} ms old when it arrives`),
    )
    // It follows for this moment only: nobody shall wait for what it applies later.
    await client.acknowledge({ epoch, instance: 'doctor', leaving: true })
    findings.push(good('acknowledged', 'its acknowledgements are taken'))
  } catch (error) {
    findings.push(
      wrong(
        'not_acknowledged',
        `its acknowledgements are not taken (${reasonOf(error)})`,
        'the log of the service says why',
      ),
    )
  } finally {
    follower.close()
  }
  return findings
}

/** Whether what runs at the audience calls itself by it (RFC 9728): tokens for another name are refused there. */
export async function audienceFindings(
  cli: Cli,
  { audience, issuer, at }: { readonly audience: string; readonly issuer: string; readonly at?: string | undefined },
): Promise<readonly Finding[]> {
  const own = metadataUrl(audience)
  const url = at === undefined ? own.href : new URL(own.pathname, at).href
  let answer: Awaited<ReturnType<typeof ask>>
  try {
    answer = await ask(cli, url)
  } catch (error) {
    return [
      weak(
        'tool_unreached',
        `nothing answers at ${url} (${reasonOf(error)})`,
        'run this where the tool is reached, or say where it is: --tool-url',
      ),
    ]
  }
  const metadata = jsonOf(answer)
  const resource = text(metadata['resource'])
  if (answer.status !== 200 || resource === undefined)
    return [
      weak(
        'tool_without_metadata',
        `${url} serves no metadata (status ${answer.status})`,
        'serve verifier.metadata there: clients find the way to a token by it',
      ),
    ]
  if (resource !== audience)
    return [
      wrong(
        'audience_differs',
        `the tool calls itself ${resource}, and is registered as ${audience}: it refuses every token`,
        'the same audience, letter by letter, in its verifier and in tools/',
      ),
    ]
  const servers = texts(metadata['authorization_servers'])
  return [
    servers.includes(issuer)
      ? good('audience', `the tool answers as ${audience}, and names ${issuer}`)
      : wrong(
          'issuer_differs',
          `the tool trusts ${servers.join(' ') || 'nobody'}, and not ${issuer}`,
          'issuer: of its verifier',
        ),
  ]
}

/** What the configuration says of the tool, where it is here to be read. */
export function boundFindings({ stalenessSeconds, operations, followsFeed }: Tool): readonly Finding[] {
  if (!followsFeed) return []
  const used = new Set([...operations.values()].map(({ effect }) => effect))
  return [
    good(
      'bounds',
      `bounds of staleness: ${Object.entries(stalenessSeconds)
        .flatMap(([effect, seconds]) => (used.has(effect as never) ? [`${effect} ${seconds} s`] : []))
        .join(', ')}`,
    ),
  ]
}
