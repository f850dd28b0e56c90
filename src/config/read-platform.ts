/** issuers/*.yaml of kind agent_platform → AgentPlatform, and which of them an assertion is of. */
import type { AgentPlatform } from '../attest/platform.ts'
import type { Tool } from '../policy/tool.ts'
import type { PlatformOf } from '../tokens/assertion.ts'
import { urlProblem } from './addresses.ts'
import type { Declared } from './declared-arguments.ts'
import { type KeysContext, readIssuerKeys } from './issuer-keys.ts'
import type { Reporter } from './reporter.ts'
import { readRights } from './rights.ts'
import type { AgentPlatformFile } from './issuer-file.ts'

const DAY = 86_400

export async function readPlatform(
  source: AgentPlatformFile,
  file: string,
  context: KeysContext & { readonly tools: ReadonlyMap<string, Tool>; readonly declared: Declared },
): Promise<AgentPlatform> {
  const { development, report } = context
  const fault = urlProblem(source.issuer, { development })
  if (fault !== undefined) report(['issuer'], 'url_forbidden', `the issuer ${source.issuer} ${fault}`)
  return {
    name: source.name,
    issuer: source.issuer,
    keys: await readIssuerKeys(source, context),
    algorithms: source.algorithms,
    ...(source.tenant === undefined ? {} : { tenant: source.tenant }),
    trustDomain: source.trust_domain,
    maxAssertionLifetimeSeconds: source.max_assertion_lifetime_seconds,
    maxAgents: source.max_agents,
    forgetAfterSeconds: source.forget_after_days * DAY,
    disabledSubjects: new Set(source.disabled_agents),
    groupsClaim: source.groups_claim,
    claims: Object.keys(source.claims),
    stage: source.stage,
    ceiling: readRights(source.ceiling, ['ceiling'], context),
    ...(source.default_task === undefined ? {} : { defaultTask: JSON.stringify(source.default_task) }),
    file,
  }
}

/** No assertion may be of two platforms, and no id of its agents anybody else's. */
export function checkPlatforms(
  platforms: readonly { readonly value: AgentPlatformFile; readonly report: Reporter }[],
  others: {
    readonly issuers: readonly string[]
    readonly spiffeIds: readonly string[]
    readonly domains: readonly string[]
  },
): void {
  for (const [index, { value, report }] of platforms.entries()) {
    const { issuer, tenant, trust_domain: domain } = value
    const before = platforms.slice(0, index).map((each) => each.value)
    const same = before.filter((each) => each.issuer === issuer)
    const apart = same.every(
      (each) => tenant && each.tenant && each.tenant.claim === tenant.claim && each.tenant.value !== tenant.value,
    )
    if (others.issuers.includes(issuer))
      report(['issuer'], 'duplicate', `the issuer ${issuer} is already taken by an issuer of another kind`)
    if (!apart)
      report(['issuer'], 'duplicate', `the issuer ${issuer} is already taken: platforms that share one need tenant`)
    const taken =
      before.some((each) => each.trust_domain === domain) ||
      others.domains.includes(domain) ||
      others.spiffeIds.some((id) => id.startsWith(`spiffe://${domain}/`))
    if (taken) report(['trust_domain'], 'duplicate', `the trust domain ${domain} is already taken`)
  }
}

export const platformOf =
  (platforms: readonly AgentPlatform[]): PlatformOf =>
  (payload) =>
    platforms.find(
      ({ issuer, tenant }) => payload['iss'] === issuer && (!tenant || payload[tenant.claim] === tenant.value),
    )
