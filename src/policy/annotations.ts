/** What a policy's annotations ask of us. One that cannot be enforced is refused at load, never ignored. */
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { POLICY_ID } from './identifier.ts'
import type { ProblemCode } from './problem.ts'
import { didYouMean } from './suggest.ts'

export interface Annotations {
  readonly id: string
  readonly reason?: string
  /** Cap on the life of tokens that rest on this permit. */
  readonly ttlSeconds?: number
  /** How tokens that rest on this permit must be bound. */
  readonly senderConstraint?: 'dpop' | 'mtls'
}

const KNOWN = ['id', 'reason', 'ttl_seconds', 'sender_constraint'] as const
const MAX_REASON_LENGTH = 300

interface Fault {
  readonly code: ProblemCode
  readonly annotation?: string
  readonly message: string
  readonly suggestion?: string
}

export function readAnnotations(
  annotations: Readonly<Record<string, string | null>>,
  effect: 'permit' | 'forbid',
): { readonly annotations?: Annotations; readonly faults: readonly Fault[] } {
  const faults: Fault[] = []
  for (const name of Object.keys(annotations)) {
    if ((KNOWN as readonly string[]).includes(name)) continue
    const meant = didYouMean(name, KNOWN)
    faults.push({
      code: 'policy_rejected',
      annotation: name,
      message: `the annotation @${name} is not enforceable yet, so a policy that relies on it is refused`,
      ...(meant.suggestion === undefined
        ? { suggestion: `enforced are ${KNOWN.map((known) => `@${known}`).join(', ')}` }
        : meant),
    })
  }

  const id = annotations['id']
  if (id === undefined || id === null) {
    faults.push({
      code: 'policy_rejected',
      message: 'the policy has no @id: decisions could not name it',
      suggestion: `write @id("a_name") before ${effect}`,
    })
  } else if (!POLICY_ID.test(id)) {
    faults.push({
      code: 'bad_identifier',
      annotation: 'id',
      message: `the policy id ${JSON.stringify(id)} is not an identifier`,
      suggestion: 'lower-case ASCII letters, digits, "_", "." and "-", beginning with a letter, 64 at most',
    })
  }

  const reason = annotations['reason'] ?? undefined
  if (
    reason !== undefined &&
    (reason === '' ||
      reason.length > MAX_REASON_LENGTH ||
      /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/.test(reason))
  ) {
    faults.push({
      code: 'policy_rejected',
      annotation: 'reason',
      message: `@reason must be one line of 1 to ${MAX_REASON_LENGTH} characters without control characters`,
    })
  }

  const ttl = annotations['ttl_seconds'] ?? undefined
  if (ttl !== undefined && !(/^[1-9][0-9]{0,3}$/.test(ttl) && Number(ttl) <= MAX_TOKEN_LIFETIME_SECONDS)) {
    faults.push({
      code: 'bad_limit',
      annotation: 'ttl_seconds',
      message: `@ttl_seconds(${JSON.stringify(ttl)}) must be a whole number from 1 to ${MAX_TOKEN_LIFETIME_SECONDS}`,
    })
  }

  const sender = annotations['sender_constraint'] ?? undefined
  if (sender !== undefined && sender !== 'dpop' && sender !== 'mtls') {
    faults.push({
      code: 'policy_rejected',
      annotation: 'sender_constraint',
      message: `@sender_constraint(${JSON.stringify(sender)}) must be "dpop" or "mtls"`,
      ...didYouMean(sender, ['dpop', 'mtls']),
    })
  }

  // An obligation rests on a permit; on a forbid it would promise something that nothing carries out.
  if (effect === 'forbid') {
    for (const name of ['ttl_seconds', 'sender_constraint'] as const) {
      if (annotations[name] === undefined) continue
      faults.push({
        code: 'policy_rejected',
        annotation: name,
        message: `@${name} on a forbid has no effect`,
        suggestion: 'put it on the permits that it is meant for',
      })
    }
  }

  if (faults.length > 0 || typeof id !== 'string') return { faults }
  return {
    faults,
    annotations: {
      id,
      ...(reason === undefined ? {} : { reason }),
      ...(ttl === undefined ? {} : { ttlSeconds: Number(ttl) }),
      ...(sender === 'dpop' || sender === 'mtls' ? { senderConstraint: sender } : {}),
    },
  }
}
