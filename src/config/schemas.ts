/** What the files of config/ may say: strict, in snake_case, and the source of the JSON Schemas that editors read. */
import { ATTESTATION_KINDS, EFFECTS } from '@errand/verifier/claims.ts'
import { z } from 'zod'
import { STAGES } from '../attest/registration.ts'
import { CLIENT_ID, OPERATION_NAME, TOOL_NAME } from '../policy/identifier.ts'
import { CLAIM_TYPES } from '../policy/schema.ts'
import { CLASSIFICATIONS, ENVIRONMENTS } from '../tasks/task.ts'
import { TENANT_NAME } from './tenants.ts'

const identifier = (pattern: RegExp, what: string) =>
  z
    .string()
    .regex(pattern, { error: `${what}: lower-case ASCII letters, digits, "_" and "-", beginning with a letter` })
const clientId = identifier(CLIENT_ID, 'not a client_id')
const toolName = identifier(TOOL_NAME, 'not a tool name')
/** Groups and subjects come from elsewhere and are compared as they are: printable ASCII, no outer spaces. */
const foreignName = z
  .string()
  .regex(/^[!-~](?:[ -~]{0,253}[!-~])?$/, { error: 'not a name: printable ASCII without outer spaces, 255 at most' })
const display = z.string().regex(/^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,120}$/, {
  error: 'one line of 1 to 120 characters',
})

const limit = (min: number, max: number) => z.int().min(min).max(max)
/** G7: empty, missing and null all mean none. */
const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .max(1000)
    .nullish()
    .transform((value) => value ?? [])
const section = <T extends z.ZodRawShape>(shape: T) => z.strictObject(shape)

/** Inside keys/, by relative path: no way out of the folder. */
const keysPath = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,4}$/, {
  error: 'not a path inside the keys folder: segments of letters, digits, "_", "." and "-"',
})
const publicKey = z.looseObject({ kty: z.string(), kid: z.string() })
const keyFields = {
  keys_file: keysPath.optional().describe('Public key (JWK or JWKS) by path inside the keys folder.'),
  keys: z.array(publicKey).max(8).optional().describe('Public keys written here instead of in a file.'),
}

const constraint = z
  .record(z.string(), z.unknown())
  .describe(
    'Closed JSON Schema subset: type, enum, minimum, maximum, minLength, maxLength, minItems, maxItems, items, properties, required, additionalProperties: false.',
  )

const pattern = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}:(?:\*|[a-z][a-z0-9_.-]{0,63})$/, { error: 'not of the form tool:operation or tool:*' })
  .describe('`tool:operation`, or `tool:*` for all operations of a tool.')
const rights = list(
  z.union([
    pattern,
    section({ operation: pattern, constraints: constraint.optional().describe('Bounds on the arguments.') }),
  ]),
)

const url = z.string().min(1).max(2048)

const defaultTask = section({
  purpose: display.describe('What it does.'),
  environment: z.enum(ENVIRONMENTS).describe('Where it does it.'),
  data_classification: z.enum(CLASSIFICATIONS).describe('With what data at most.'),
  deadline_seconds: limit(1, 604_800)
    .optional()
    .describe('Seconds until it ends; without it tasks.default_deadline_seconds.'),
})
  .optional()
  .describe('Of tasks that its client opens without request_details, because it cannot send them.')
const imageDigestClaim = z
  .array(z.string().min(1).max(128))
  .min(1)
  .max(5)
  .optional()
  .describe(
    'Names that lead to the claim in which the platform says which image runs: [submods, container, image_digest].',
  )
/** Compared as it stands (RFC 8705 §2.1.2). */
const certificateName = z.string().min(1).max(1024)

const quota = {
  requests_per_second: limit(1, 1_000_000)
    .default(500)
    .describe('All requests to it; beyond it 503. A quarter as many again are kept for its revocations.'),
  max_concurrent_requests: limit(1, 100_000).default(64).describe('Requests worked on at once; beyond it 503.'),
  max_data_mib: limit(1, 10_000_000)
    .default(1024)
    .describe('Size of its data folder; beyond it no token and no task is made, and all else works.'),
}
const partialQuota = {
  requests_per_second: limit(1, 1_000_000).optional().describe('All requests to it.'),
  max_concurrent_requests: limit(1, 100_000).optional().describe('Requests worked on at once.'),
  max_data_mib: limit(1, 10_000_000).optional().describe('Size of its data folder.'),
}

export const errandSchema = section({
  issuer: url.describe('Issuer identifier: exactly what stands in `iss`, https, without a trailing slash.'),
  mode: z
    .enum(['development', 'production'])
    .default('production')
    .describe('development admits loopback destinations over http; what it issues carries dev: true.'),
  listen: section({
    host: z.string().min(1).max(255).default('127.0.0.1').describe('Address to listen on.'),
    port: limit(0, 65535).default(4460).describe('HTTP, or HTTPS with tls; 0 takes any free port.'),
    tls: section({
      cert_file: keysPath.describe('Certificate chain (PEM) by path inside the keys folder.'),
      key_file: keysPath.describe('Its private key (PEM) by path inside the keys folder.'),
    })
      .optional()
      .describe('TLS on the main listener; read at start.'),
    mtls: section({
      host: z.string().min(1).max(255).optional().describe('Address to listen on; without it that of listen.host.'),
      port: limit(0, 65535).default(4461).describe('HTTPS with client certificates.'),
      cert_file: keysPath.describe('Certificate chain (PEM) by path inside the keys folder.'),
      key_file: keysPath.describe('Its private key (PEM) by path inside the keys folder.'),
    })
      .optional()
      .describe('Listener for X.509-SVIDs and certificate-bound tokens.'),
    trusted_proxies: list(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()])).describe(
      'Addresses or CIDR blocks whose forwarded headers are believed.',
    ),
    metrics_from: list(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()])).describe(
      'Addresses or CIDR blocks that may read GET /metrics, beside callers on the same machine.',
    ),
    client_certificate_header: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, { error: 'not a header name' })
      .optional()
      .describe('Header in which a trusted proxy passes the client certificate (RFC 9440).'),
  }).prefault({}),
  store: z
    .discriminatedUnion('kind', [
      section({ kind: z.literal('embedded').describe('State in one file of the data folder.') }),
      section({
        kind: z.literal('redis').describe('State in Redis 7 or later, durable and without eviction.'),
        url: url.describe('redis:// or rediss://, with user and password where it has them.'),
        prefix: z
          .string()
          .regex(/^[a-z][a-z0-9_-]{0,31}$/, { error: 'not a prefix' })
          .default('errand')
          .describe('First part of every key in Redis.'),
      }),
    ])
    .prefault({ kind: 'embedded' })
    .describe('Where state is kept; without it, embedded.'),
  bounds: section({
    max_body_bytes: limit(1024, 1_048_576).default(65_536).describe('Longest request body; beyond it 413.'),
    max_header_bytes: limit(4096, 65_536).default(32_768).describe('All request headers together; beyond it 431.'),
    request_timeout_seconds: limit(1, 120).default(10).describe('For a request to arrive whole; beyond it 408.'),
    max_concurrent_requests: limit(1, 100_000).default(1024).describe('Requests worked on at once; beyond it 503.'),
    max_queue_milliseconds: limit(10, 10_000)
      .default(100)
      .describe(
        'While the processor is busy, only as many are worked on at once as it answers within this time, 64 at least; beyond it 503.',
      ),
    requests_per_second_per_client: limit(1, 1_000_000)
      .default(500)
      .describe('Of one client that has proven who it is; beyond it 429. Two seconds’ worth may come in a burst.'),
    strangers_per_second_per_source: limit(1, 1_000_000)
      .default(50)
      .describe(
        'That prove nobody, of one IPv4 address or IPv6 /64; beyond it 429. Two seconds’ worth may come in a burst. Those with credentials, and the feed, have shares beside it that are multiples of it.',
      ),
  }).prefault({}),
  tokens: section({
    max_lifetime_seconds: limit(1, 300).default(300).describe('Longest life of an access token.'),
    hand_over_lifetime_seconds: limit(1, 60).default(60).describe('Life of a hand-over token.'),
    idempotency_seconds: limit(120, 86_400).default(600).describe('How long an Idempotency-Key is remembered.'),
  }).prefault({}),
  tasks: section({
    default_deadline_seconds: limit(1, 604_800).default(3600).describe('Deadline of a task that names none.'),
    max_deadline_seconds: limit(1, 604_800).default(86_400).describe('Longest deadline a task may ask for.'),
    max_actors: limit(1, 4).default(4).describe('Longest chain of agents.'),
  }).prefault({}),
  dpop: section({
    require_nonce: z
      .boolean()
      .default(true)
      .describe('Whether proofs at our own endpoints must carry our nonce (RFC 9449 §8).'),
    nonce_lifetime_seconds: limit(5, 600)
      .default(60)
      .describe('A nonce is accepted in the window in which it was given and the next one.'),
    proof_lifetime_seconds: limit(5, 300).default(60).describe('Greatest age of a proof.'),
  }).prefault({}),
  keys: section({
    lifetime_seconds: limit(60, 31_536_000).default(604_800).describe('How long a signing key signs.'),
    overlap_seconds: limit(1, 2_592_000).default(3600).describe('How long a signing key is published before it signs.'),
    jwks_max_age_seconds: limit(0, 86_400)
      .default(300)
      .describe('Greatest max-age of the JWKS; not above overlap_seconds.'),
  }).prefault({}),
  policy: section({
    on_change: z
      .enum(['cut', 'keep'])
      .default('cut')
      .describe('What a change of policies does to tokens that the old set decided.'),
  }).prefault({}),
  audit: section({ mode: z.literal('strict').default('strict').describe('No durable record, no token.') }).prefault({}),
  log: section({
    level: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Of the service log on stderr.'),
  }).prefault({}),
  administrators: list(section({ client_id: clientId.describe('Its name in the audit log.'), ...keyFields })).describe(
    'Who may administer, by key.',
  ),
  tenants: section({
    quota: section(quota)
      .prefault({})
      .describe('What each tenant may take of the service, where `quotas` does not say otherwise.'),
    quotas: z
      .record(z.string().regex(TENANT_NAME, { error: 'not the name of a tenant' }), section(partialQuota))
      .nullish()
      .transform((value) => value ?? {})
      .describe('What one of them may take instead, by its name.'),
  }).prefault({}),
})

const claimValue = z.union([z.string().min(1).max(1024), z.int(), z.boolean()])
const claimValues = z.union([claimValue, z.array(claimValue).min(1).max(64)])
/** As the token has them: members of members are written inside them. */
const claimRules = (depth: number): z.ZodType =>
  z
    .record(z.string().min(1).max(256), depth === 0 ? claimValues : z.union([claimValues, claimRules(depth - 1)]))
    .refine((claims) => Object.keys(claims).length > 0, { error: 'names no claim' })
const workloadRules = list(
  section({
    issuer: toolName.describe('Name of an issuer of kind workload_oidc.'),
    claims: claimRules(3).describe(
      'Claims and their exact values, or lists of which one must hold; claims inside claims as the token has them.',
    ),
  }),
).describe('Workload tokens that are its evidence: any of them, with all claims named. For workload_oidc.')
const attestedBy = list(
  section({
    attester: toolName.describe('Name of an issuer of kind attester.'),
    subject: foreignName.optional().describe('`sub` of its attestations; without it the client_id.'),
  }),
).describe('Who attests it: for client_attestation.')

export const agentSchema = section({
  client_id: clientId.describe('Its name here: in tokens, policies and on the command line.'),
  spiffe_id: z.string().min(1).max(2048).describe("The agent's own SPIFFE id, also when it attests by key."),
  display_name: display.optional().describe('For people; without it the client_id.'),
  owner: display.optional().describe('Whom to ask about it.'),
  disabled: z.boolean().default(false).describe('Refused everywhere, as if it were not registered.'),
  evidence: z.array(z.enum(ATTESTATION_KINDS)).min(1).max(8).describe('How it may prove what it is.'),
  ...keyFields,
  tls_client_auth_ca_file: keysPath
    .optional()
    .describe('Authorities (PEM) that may certify this agent, by path inside the keys folder: for tls_client_auth.'),
  tls_client_auth_subject_dn: certificateName.optional().describe('Subject of its certificate, as RFC 4514 writes it.'),
  tls_client_auth_san_dns: certificateName.optional().describe('A dNSName of its certificate; one of these five.'),
  tls_client_auth_san_uri: certificateName.optional().describe('A URI of its certificate.'),
  tls_client_auth_san_ip: certificateName.optional().describe('An iPAddress of its certificate.'),
  tls_client_auth_san_email: certificateName.optional().describe('An rfc822Name of its certificate.'),
  workload: workloadRules,
  attested_by: attestedBy,
  self_signed_certificates_file: keysPath
    .optional()
    .describe(
      'Its certificates (PEM, or a JWKS with x5c) by path inside the keys folder: for self_signed_tls_client_auth.',
    ),
  stage: z.enum(STAGES).describe('Its autonomy: a cap on effects.'),
  ceiling: rights.describe('What it may do at most, whoever asks.'),
  autonomous: z.boolean().default(false).describe('Whether it may open a task for itself.'),
  default_task: defaultTask,
  delegates_to: list(clientId).describe('client_ids to which it may hand over.'),
  instance_since: limit(0, 4_102_444_800)
    .optional()
    .describe('Unix seconds: evidence issued earlier belonged to another principal.'),
  release: section({
    ...keyFields,
    required: z.boolean().default(false).describe('Whether it gets tokens only as a registered release.'),
    max_age_seconds: limit(60, 315_360_000)
      .optional()
      .describe('What was signed longer ago no longer makes evidence measured.'),
    provenance: section({
      trusted_root_file: keysPath.describe('Sigstore trusted root (JSON) by path inside the keys folder.'),
      identity: url.describe('Subject alternative name of the signing certificate, as exact text.'),
      identity_issuer: url.describe('Issuer of the identity token by which that certificate was had.'),
      builder: url.describe('`builder.id` of the SLSA provenance.'),
      repository: url.describe('Repository that it says the image was built from.'),
    })
      .optional()
      .describe('Each release needs a Sigstore bundle for its image beside it: <name>.sigstore.json.'),
  })
    .optional()
    .describe('Its release signers: what they sign in releases/ is registered for it.'),
  evidence_age: section({
    measured_seconds: limit(1, 86_400).optional().describe('Older evidence counts as platform.'),
    platform_seconds: limit(1, 86_400).optional().describe('Older evidence counts as key.'),
  })
    .optional()
    .describe('How old evidence may grow before it counts for a lower tier; without it, as old as it lives.'),
  minimum_tier: z
    .enum(['key', 'platform', 'measured'])
    .optional()
    .describe('Least tier its evidence must have, at its age.'),
})

const staleness = Object.fromEntries(EFFECTS.map((effect) => [effect, limit(0, 120).optional()])) as Record<
  (typeof EFFECTS)[number],
  z.ZodOptional<z.ZodInt>
>

const claimName = z.string().regex(/^[A-Za-z][A-Za-z0-9_:/.-]{0,127}$/, { error: 'not a claim name' })
const foreignScopes = z
  .record(
    identifier(OPERATION_NAME, 'not an operation name'),
    z.string().regex(/^[!#-[\]-~]{1,255}$/, { error: 'not a scope value' }),
  )
  .nullish()
  .transform((value) => value ?? {})
  .describe('Scope values there, by operation; without it `<tool>:<operation>`.')

export const toolSchema = section({
  name: toolName.describe('First part of its scope values.'),
  display_name: display.optional().describe('For people; without it the name.'),
  audience: url.describe('Audience URI: the exact string in `aud`, in canonical form.'),
  follows_feed: z
    .boolean()
    .default(true)
    .describe('Whether its verifier follows revocations; without, its tokens live 60 s at most.'),
  accepts_bearer: z
    .boolean()
    .default(false)
    .describe('Whether it takes tokens bound to no key; they live 60 s at most.'),
  max_token_lifetime_seconds: limit(1, 300).default(300).describe('Longest life of tokens for it.'),
  staleness_seconds: section(staleness)
    .prefault({})
    .describe(
      'How old revocation state may be, by effect; 0 asks each time. Without: read 30, reversible_write 5, the others 2.',
    ),
  ...keyFields,
  agent: clientId.optional().describe('client_id, where the tool is a registered agent itself.'),
  takes: z
    .discriminatedUnion('kind', [
      section({
        kind: z.literal('id_jag').describe('ID-JAGs, which another authorization server exchanges for its own tokens.'),
        authorization_server: url.describe('Its issuer identifier: the exact string in `aud`.'),
        clients: z
          .record(clientId, z.string().regex(/^[!-~]{1,255}$/, { error: 'not a client_id of another server' }))
          .describe('As which client each of our agents is known there, by our client_id; others get none.'),
        scopes: foreignScopes,
        act: z.boolean().default(false).describe('Whether ID-JAGs name the agent, and who acted before it, in `act`.'),
        details: z
          .boolean()
          .default(false)
          .describe('Whether it understands authorization_details of type tool, which can bound arguments.'),
        lifetime_seconds: limit(1, 300).default(60).describe('Life of an ID-JAG.'),
      }),
      section({
        kind: z.literal('txn_token').describe('Transaction tokens, within one trust domain.'),
        trust_domain: z
          .string()
          .regex(/^[!-~]{1,255}$/, { error: 'not the name of a trust domain' })
          .describe('The exact string in `aud`.'),
        scopes: foreignScopes,
        request_context: list(claimName).describe(
          'Members of `request_context` that are passed on as `rctx`; others are refused.',
        ),
        lifetime_seconds: limit(1, 300).default(60).describe('Life of a transaction token.'),
      }),
    ])
    .optional()
    .describe('What it takes instead of our access tokens.'),
  operations: z
    .record(
      identifier(OPERATION_NAME, 'not an operation name'),
      section({
        effect: z.enum(EFFECTS).describe('An operation without a label is denied, so there is none without.'),
        description: display.optional().describe('For people.'),
        arguments: constraint.optional().describe('Schema of its arguments: authority is always also bounded by it.'),
        routes: list(
          z.string().regex(/^(?:GET|HEAD|POST|PUT|PATCH|DELETE) \/[A-Za-z0-9_.~:/-]*$/, {
            error: 'not of the form METHOD /path/:argument',
          }),
        ).describe('HTTP routes it maps to: `POST /tickets/:ticket_id`.'),
        mcp_tools: list(z.string().regex(/^[A-Za-z0-9_.-]{1,128}$/, { error: 'not an MCP tool name' })).describe(
          'Names of MCP tools it maps to.',
        ),
        budgeted: section({
          cost: limit(0, 1_000_000_000).default(0).describe('Least cost of one call, in units of your own.'),
        })
          .optional()
          .describe("Calls reserve from the task's budget; cost is per call."),
      }),
    )
    .nullish()
    .transform((value) => value ?? {})
    .describe('What can be done with it, by name. What is not here is denied.'),
})

const tenantClaim = z.string().min(1).max(255).describe('Which of its tenants is ours, where it serves several.')
const JWKS_CA = 'Authorities (PEM) by path inside the keys folder that alone may vouch for the host of jwks_uri.'
const userIssuer = section({
  kind: z.literal('user').describe('Its tokens speak for users.'),
  name: toolName.describe('Our name for it: the part of `sub` before the bar.'),
  issuer: url.describe('Compared as an exact string with `iss`.'),
  jwks_file: keysPath.optional().describe('Its keys by path inside the keys folder; this or jwks_uri.'),
  jwks_uri: url
    .optional()
    .describe('Its keys, fetched over https: never from private addresses, never redirected, 256 KB in 2 s at most.'),
  jwks_ca_file: keysPath.optional().describe(JWKS_CA),
  algorithms: z
    .array(z.enum(['ES256', 'EdDSA', 'RS256', 'PS256', 'ES384']))
    .min(1)
    .max(5)
    .describe('Signature algorithms accepted; each key has one.'),
  audiences: z
    .array(z.string().min(1).max(2048))
    .min(1)
    .max(16)
    .describe('`aud` values of its tokens that are meant for us.'),
  token_types: z
    .array(z.enum(['id_token', 'access_token']))
    .min(1)
    .max(2)
    .default(['id_token'])
    .describe('access_token is RFC 9068, typ at+jwt.'),
  groups_claim: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_:/.-]{0,127}$/, { error: 'not a claim name' })
    .default('groups')
    .describe('Claim with a list of group names.'),
  claims: z
    .record(
      z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, { error: 'not a claim name that policies can read' }),
      z.enum(CLAIM_TYPES),
    )
    .nullish()
    .transform((value) => value ?? {})
    .describe('Further claims that policies may read, with their types.'),
  may_delegate: z.boolean().default(false).describe('Whether `act` in its tokens is believed.'),
  id_jag: section({
    max_lifetime_seconds: limit(1, 3600).default(300).describe('ID-JAGs with a longer life are refused.'),
    tenant: tenantClaim.optional(),
  })
    .optional()
    .describe('Whether it may vouch for its users in ID-JAGs (jwt-bearer grant).'),
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
  trust_domain: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/, { error: 'not a trust domain: lower-case, without scheme' })
    .describe('Its name: the part of a SPIFFE id after `spiffe://`.'),
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
  jwks_ca_file: keysPath.optional().describe(JWKS_CA),
}

const workloadOidc = section({
  kind: z.literal('workload_oidc').describe('Its tokens speak for workloads: a cluster, a CI system, a cloud.'),
  name: toolName.describe('Our name for it, in registrations.'),
  issuer: url.describe('Compared as an exact string with `iss`.'),
  ...jwks,
  algorithms,
  audiences: z
    .array(z.string().min(1).max(2048))
    .min(1)
    .max(16)
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
  trust_domain: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/, { error: 'not a trust domain: lower-case, without scheme' })
    .describe('In which its agents have their SPIFFE ids; nobody else may have it here.'),
  max_assertion_lifetime_seconds: limit(1, 3600).default(300).describe('Grants with a longer life are refused.'),
  max_agents: limit(1, 1_000_000).default(100).describe('How many of its agents may be known here at once.'),
  forget_after_days: limit(1, 3650).default(30).describe('Agents that did not come for so long count no more.'),
  disabled_agents: list(foreignName).describe('Its agents, by `sub`, for whom nothing is done.'),
  groups_claim: claimName.default('groups').describe('Claim with a list of group names, for policies.'),
  claims: z
    .record(
      z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, { error: 'not a claim name that policies can read' }),
      z.enum(CLAIM_TYPES),
    )
    .nullish()
    .transform((value) => value ?? {})
    .describe('Further claims that policies may read, with their types.'),
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

export type ErrandFile = z.output<typeof errandSchema>
export type IssuerFile = z.output<typeof issuerSchema>
export type AgentFile = z.output<typeof agentSchema>
export type ToolFile = z.output<typeof toolSchema>
export type UserIssuerFile = z.output<typeof userIssuer>
export type WorkloadIssuerFile = z.output<typeof workloadIssuer>
export type WorkloadOidcFile = z.output<typeof workloadOidc>
export type AttesterFile = z.output<typeof attester>
export type AgentPlatformFile = z.output<typeof agentPlatform>
export type Rights = z.output<typeof rights>
