/** What errand.yaml may say. */
import { DIMENSIONS } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import { mirrorsSchema } from './read-mirrors.ts'
import { rootSchema } from './root-source.ts'
import { clientId, keyFields, keysPath, limit, list, section, url } from './schema-parts.ts'
import { signingSchema } from './signing-source.ts'
import { TENANT_NAME } from './tenants.ts'

/** What a match may name. */
const BROAD = ['everything', ...DIMENSIONS, 'component'] as const

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

const addresses = list(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()]))

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
    trusted_proxies: addresses.describe('Addresses or CIDR blocks whose forwarded headers are believed.'),
    metrics_from: addresses.describe(
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
        sentinels: z
          .array(url)
          .min(1)
          .max(16)
          .optional()
          .describe(
            'Redis Sentinels, redis:// or rediss:// with host and port. The host of url is then the name by which they know the primary.',
          ),
      }),
    ])
    .prefault({ kind: 'embedded' })
    .describe('Where state is kept; without it, embedded.'),
  bounds: section({
    max_body_bytes: limit(1024, 1_048_576).default(65_536).describe('Longest request body; beyond it 413.'),
    max_header_bytes: limit(4096, 65_536).default(32_768).describe('All request headers together; beyond it 431.'),
    request_timeout_seconds: limit(1, 120).default(10).describe('For a request to arrive whole; beyond it 408.'),
    max_concurrent_requests: limit(1, 100_000).default(1024).describe('Requests worked on at once; beyond it 503.'),
    max_streams: limit(1, 1_000_000)
      .optional()
      .describe(
        'Streams and long-polls of the revocation feed that are open at once (default: max_concurrent_requests): half of them for strangers, a quarter for one client, a sixteenth for one address. Each needs a file descriptor.',
      ),
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
    root: rootSchema
      .optional()
      .describe('What keys/root.key is wrapped by, read at start; without it, the key lies there as it is.'),
    signing: signingSchema
      .optional()
      .describe('Who signs where the private keys are not to be here; read at start. Without it they are, sealed.'),
  }).prefault({}),
  revocation: section({
    two_people: list(z.enum(BROAD)).describe(
      'Matches that one administrator asks for and another confirms: `everything`, or a dimension where no task, token, subject or agent is named beside it. Until then nothing is revoked.',
    ),
  }).prefault({}),
  policy: section({
    on_change: z
      .enum(['cut', 'keep'])
      .default('cut')
      .describe('What a change of policies does to tokens that the old set decided.'),
  }).prefault({}),
  audit: section({
    mode: z.literal('strict').default('strict').describe('No durable record, no token.'),
    mirrors: mirrorsSchema,
  }).prefault({}),
  log: section({
    level: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Of the service log on stderr.'),
  }).prefault({}),
  administrators: list(section({ client_id: clientId.describe('Its name in the audit log.'), ...keyFields })).describe(
    'Who may administer, by key.',
  ),
  signal_receivers: list(
    section({
      name: clientId.describe('Its client_id is receiver:<name>.'),
      ...keyFields,
      audience: z.string().min(1).max(2048).describe('`aud` of its security events.'),
      push_url: url
        .optional()
        .describe(
          'Where its events may be pushed, over https: never to private addresses. Without it they are fetched.',
        ),
    }),
  ).describe('Who may hear of what ends here: receivers of security events (Shared Signals Framework).'),
  drill: section({
    every_seconds: limit(60, 31_536_000).describe('One in each period of so many seconds since 1970; 86400 is daily.'),
    agent: clientId.describe('client_id of an agent with `drill: true`.'),
    agent_key_file: keysPath
      .optional()
      .describe('Its private key (JWK) by path inside the keys folder; without it agents/<agent>.jwk.'),
    tasks: limit(1, 100).default(3).describe('Tasks to open, with a token for each tool.'),
    timeout_seconds: limit(1, 3600).default(300).describe('Not contained by then, it has not held.'),
  })
    .optional()
    .describe('Fire drills by the clock; without it they are carried out by `errand drill` alone.'),
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

export type ErrandFile = z.output<typeof errandSchema>
