/** What a file of agents/ may say. */
import { ATTESTATION_KINDS } from '@errand/verifier/claims.ts'
import { z } from 'zod'
import { STAGES } from '../attest/registration.ts'
import {
  clientId,
  defaultTask,
  display,
  foreignName,
  keyFields,
  keysPath,
  limit,
  list,
  rights,
  section,
  toolName,
  url,
} from './schema-parts.ts'

/** Compared as it stands (RFC 8705 §2.1.2). */
const certificateName = z.string().min(1).max(1024)

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
  drill: z
    .boolean()
    .default(false)
    .describe('Whether it is there for fire drills alone: `errand drill` ends what it does, at any time.'),
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

export type AgentFile = z.output<typeof agentSchema>
