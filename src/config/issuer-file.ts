/** What a file of issuers/ may say: whose word counts here, and for whom. */
import { z } from 'zod'
import { STAGES } from '../attest/registration.ts'
import { CLAIM_TYPES } from '../policy/schema.ts'
import {
  claimName,
  defaultTask,
  foreignName,
  keysPath,
  limit,
  list,
  rights,
  section,
  toolName,
  url,
} from './schema-parts.ts'

const tenantClaim = z.string().min(1).max(255).describe('Which of its tenants is ours, where it serves several.')
const audienceValues = z.array(z.string().min(1).max(2048)).min(1).max(16)
const algorithms = z
  .array(z.enum(['ES256', 'EdDSA', 'RS256', 'PS256', 'ES384']))
  .min(1)
  .max(5)
  .describe('Signature algorithms accepted; each key has one.')
const jwks = {
  jwks_file: keysPath.optional().describe('Its keys by path inside the keys folder; this or jwks_uri.'),
  jwks_uri: url
    .optional()
    .describe('Its keys, fetched over https: never from private addresses, never redirected, 256 KB in 2 s at most.'),
  jwks_ca_file: keysPath
    .optional()
    .describe('Authorities (PEM) by path inside the keys folder that alone may vouch for the host of jwks_uri.'),
}
const imageDigestClaim = z
  .array(z.string().min(1).max(128))
  .min(1)
  .max(5)
  .optional()
  .describe(
    'Names that lead to the claim in which the platform says which image runs: [submods, container, image_digest].',
  )
const trustDomain = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/, { error: 'not a trust domain: lower-case, without scheme' })
const policyClaims = z
  .record(
    z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, { error: 'not a claim name that policies can read' }),
    z.enum(CLAIM_TYPES),
  )
  .nullish()
  .transform((value) => value ?? {})
  .describe('Further claims that policies may read, with their types.')

const userIssuer = section({
  kind: z.literal('user').describe('Its tokens speak for users.'),
  name: toolName.describe('Our name for it: the part of `sub` before the bar.'),
  issuer: url.describe('Compared as an exact string with `iss`.'),
  ...jwks,
  algorithms,
  audiences: audienceValues.describe('`aud` values of its tokens that are meant for us.'),
  token_types: z
    .array(z.enum(['id_token', 'access_token']))
    .min(1)
    .max(2)
    .default(['id_token'])
    .describe('access_token is RFC 9068, typ at+jwt.'),
  groups_claim: claimName.default('groups').describe('Claim with a list of group names.'),
  claims: policyClaims,
  may_delegate: z.boolean().default(false).describe('Whether `act` in its tokens is believed.'),
  id_jag: section({
    max_lifetime_seconds: limit(1, 3600).default(300).describe('ID-JAGs with a longer life are refused.'),
    tenant: tenantClaim.optional(),
  })
    .optional()
    .describe('Whether it may vouch for its users in ID-JAGs (jwt-bearer grant).'),
  global_token_revocation: z
    .boolean()
    .default(false)
    .describe('Whether it may have everything of a user of its own ended: POST /global-token-revocation.'),
  signals: section({
    delivery: z
      .enum(['push', 'poll'])
      .describe('Whether it pushes its events to POST /ssf/events (RFC 8935), or they are fetched (RFC 8936).'),
    transmitter: url.optional().describe('`iss` of its events, where it is not `issuer`.'),
    audience: z
      .string()
      .min(1)
      .max(2048)
      .optional()
      .describe('`aud` of its events; without it our own issuer identifier.'),
    ...jwks,
    algorithms: algorithms.optional(),
    poll: section({
      url: url.describe('Where its events are fetched, over https: never from private addresses, never redirected.'),
      token_file: keysPath.optional().describe('Bearer token for that, by path inside the keys folder.'),
      interval_seconds: limit(1, 3600).default(10).describe('How often it is asked.'),
    }).optional(),
  })
    .optional()
    .describe('Security events of its users (Shared Signals Framework) that end what runs for them.'),
  disabled_subjects: list(foreignName).describe('Its users, by `sub`, for whom nothing is done.'),
  max_token_lifetime_seconds: limit(1, 604_800).default(86_400).describe('Tokens with a longer life are refused.'),
  development: z.boolean().default(false).describe('Made on first start; refused in production.'),
  development_users: z
    .record(
      foreignName,
      section({
        groups: list(foreignName).describe('Value of the groups claim.'),
        claims: z
          .record(z.string(), z.union([z.string(), z.int(), z.boolean(), z.array(z.string())]))
          .optional()
          .describe('Further claims of its token.'),
      }),
    )
    .optional()
    .describe('Users that the development issuer knows.'),
  rights: z
    .record(foreignName, rights)
    .nullish()
    .transform((value) => value ?? {})
    .describe('What members of a group may do at most, by group; `*` is every user of this issuer.'),
})

const workloadIssuer = section({
  kind: z.literal('workload').describe('Its SVIDs speak for agents.'),
  trust_domain: trustDomain.describe('Its name: the part of a SPIFFE id after `spiffe://`.'),
  bundle_file: keysPath
    .optional()
    .describe('SPIFFE bundle (JWKS) by path inside the keys folder; with bundle_endpoint what it begins with.'),
  bundle_endpoint: section({
    url: url.describe('Where bundles are fetched, over https: never from private addresses, never redirected.'),
    profile: z
      .enum(['https_web', 'https_spiffe'])
      .describe('How the endpoint proves itself: by a certificate for its host, or by an X.509-SVID.'),
    ca_file: keysPath
      .optional()
      .describe('https_web: authorities (PEM) by path inside the keys folder; without it the system’s.'),
    endpoint_spiffe_id: z.string().min(1).max(2048).optional().describe('https_spiffe: the id in its certificate.'),
  })
    .optional()
    .describe('Bundles fetched while the service runs (SPIFFE Federation).'),
  path_root: z
    .string()
    .regex(/^(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/, { error: 'not a path: /agents' })
    .optional()
    .describe('Path below which its ids may serve here; without it, all of them.'),
  image_digest_claim: imageDigestClaim,
})

const workloadOidc = section({
  kind: z.literal('workload_oidc').describe('Its tokens speak for workloads: a cluster, a CI system, a cloud.'),
  name: toolName.describe('Our name for it, in registrations.'),
  issuer: url.describe('Compared as an exact string with `iss`.'),
  ...jwks,
  algorithms,
  audiences: audienceValues
    .optional()
    .describe('A token has one of these as its sole `aud`; without it, our own issuer identifier.'),
  max_token_lifetime_seconds: limit(60, 90_000).default(3600).describe('Tokens with a longer life are refused.'),
  image_digest_claim: imageDigestClaim,
  token_review: section({
    api_server: url.describe('Base URL of the Kubernetes API server, https; a private address is no fault here.'),
    ca_file: keysPath.describe(
      'Authorities (PEM) of its certificate, by path inside the keys folder; no others count.',
    ),
    token_file: keysPath.describe('Token with which we ask, by path inside the keys folder; read anew each time.'),
    cache_seconds: limit(0, 60).default(10).describe('How long an answer counts.'),
  })
    .optional()
    .describe('Asks the cluster about each token (TokenReview): a deleted pod ends its tokens at once.'),
})

const attester = section({
  kind: z.literal('attester').describe('It attests clients by their keys (client attestation).'),
  name: toolName.describe('Our name for it, in registrations.'),
  issuer: url.optional().describe('Compared with `iss`, where an attestation has one.'),
  ...jwks,
  algorithms,
  max_lifetime_seconds: limit(60, 2_592_000).default(86_400).describe('Attestations with a longer life are refused.'),
  max_age_seconds: limit(1, 2_592_000).optional().describe('Older attestations must be renewed, whenever they expire.'),
  image_digest_claim: imageDigestClaim,
  tier: z
    .enum(['key', 'platform'])
    .default('key')
    .describe('What its word is worth: that a key was seen, or the platform on which the key lives.'),
})

const agentPlatform = section({
  kind: z
    .literal('agent_platform')
    .describe('Its grants speak for agents that it hosts, and that nobody registers here.'),
  name: toolName.describe('Our name for it: policies say Agent::"platform:<name>", its agents are platform:<name>:….'),
  issuer: url.describe('Compared as an exact string with `iss`.'),
  ...jwks,
  algorithms,
  tenant: section({
    claim: claimName.default('tenant').describe('Claim that tells the platforms of this issuer apart.'),
    value: tenantClaim,
  })
    .optional()
    .describe('For an issuer that several platforms share.'),
  trust_domain: trustDomain.describe('In which its agents have their SPIFFE ids; nobody else may have it here.'),
  max_assertion_lifetime_seconds: limit(1, 3600).default(300).describe('Grants with a longer life are refused.'),
  max_agents: limit(1, 1_000_000).default(100).describe('How many of its agents may be known here at once.'),
  forget_after_days: limit(1, 3650).default(30).describe('Agents that did not come for so long count no more.'),
  disabled_agents: list(foreignName).describe('Its agents, by `sub`, for whom nothing is done.'),
  groups_claim: claimName.default('groups').describe('Claim with a list of group names, for policies.'),
  claims: policyClaims,
  stage: z.enum(STAGES).describe('Autonomy of each of its agents: a cap on effects.'),
  ceiling: rights.describe('What each of its agents may do at most.'),
  default_task: defaultTask,
})

export const issuerSchema = z.discriminatedUnion('kind', [
  userIssuer,
  workloadIssuer,
  workloadOidc,
  attester,
  agentPlatform,
])

export type IssuerFile = z.output<typeof issuerSchema>
export type UserIssuerFile = z.output<typeof userIssuer>
export type WorkloadIssuerFile = z.output<typeof workloadIssuer>
export type WorkloadOidcFile = z.output<typeof workloadOidc>
export type AttesterFile = z.output<typeof attester>
export type AgentPlatformFile = z.output<typeof agentPlatform>
