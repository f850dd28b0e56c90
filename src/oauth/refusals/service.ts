/** H, L, M and Q. Not now: load is shed, or something the service depends on is away. Nothing is wrong with the request. */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const WAIT: Step = { action: 'wait', next: 'wait as long as Retry-After says, then send it again' }

export const SERVICE = {
  rate_limited: {
    ...WAIT,
    says: 'too many requests',
    means:
      'This client, or its address before it proved who it is, has used up its share (`bounds.requests_per_second_per_client`, `bounds.strangers_per_second_per_source`).',
    why: 'One caller in a loop must not take the service from the others.',
    agent:
      'Keep tokens until four fifths of their life are over instead of exchanging for each call; the agent SDK does so. Send credentials with every request: strangers share a small ration.',
    operator: 'Callers behind one proxy are one address unless `trusted_proxies` names it.',
    example: 'an exchange before each of 200 calls in a second',
  },
  overloaded: {
    ...WAIT,
    says: 'too much work at this moment',
    means:
      'As many requests are being worked on as `bounds.max_concurrent_requests` allows or, while the processor is busy, as it answers within `bounds.max_queue_milliseconds`; or policies changed faster than the request was judged.',
    why: 'A short no is better than a long queue: whoever is let in is answered in time.',
    agent: 'Try again after `Retry-After`, with some randomness, and the same `Idempotency-Key`.',
    operator: 'Look at `/metrics`. If it lasts, add processes or replicas.',
    example: 'a thousand agents that start in the same second',
  },
  quota_exceeded: {
    action: 'ask_person',
    next: 'ask security staff',
    says: 'what may be stored here is used up',
    means: 'The data of this tenant have reached its quota, so no task is opened and no token issued.',
    why: 'What one tenant stores must not take the disk from the others. Revocation goes on working.',
    agent: 'Nothing is wrong with the request; it will be refused until somebody makes room.',
    operator:
      'Raise the quota of the tenant in `config/errand.yaml`, or find out what fills it: most often the audit log.',
    example: 'a year of records in a quota for a month',
  },
  replay_guard_unavailable: {
    ...WAIT,
    says: 'one-use tokens cannot be checked at this moment',
    means:
      'Whether a proof or an assertion is used for the first time could not be found out: the store is away, or full of proofs.',
    why: 'Where that cannot be known it is refused, never accepted (RFC 9449 §11.1).',
    agent: 'Try again with a new proof and a new assertion.',
    operator: 'Look at the store in `/ready`.',
    example: 'Redis is restarting',
  },
  sealed: {
    ...WAIT,
    says: 'the service is sealed',
    means:
      'An administrator has sealed it; or the store may have lost what it had acknowledged, and is being given it back. Nothing is issued meanwhile.',
    why: 'A store that went back in time may have forgotten a revocation.',
    agent: 'Wait. Tokens that you hold go on working as far as their tools can tell.',
    operator:
      'Most of it is over in a second. Where it stays, `/ready` says so and a start names the processes that are waited for: start them, with their data folders. What an administrator sealed, `errand unseal` lifts.',
    example: 'Redis has failed over, and one of the service’s processes is not back yet',
  },
  no_active_key: {
    ...WAIT,
    says: 'no signing key is active',
    means: 'No key may sign at this moment: the next one is published and not yet due, or none could be made.',
    why: 'A key signs only after every verifier could have seen it, and there is no silent fallback.',
    agent: 'Try again later.',
    operator: '`errand keys list` shows the states; `errand keys rotate --immediately` where it cannot wait.',
    example: 'the last key was retired while the service was off',
  },
  signer_unavailable: {
    ...WAIT,
    says: 'who has the signing key does not sign at this moment',
    means:
      'The private key is in Vault or OpenBao, which did not answer in time, or answered what is no signature by it.',
    why: 'No other key signs instead, and none that lies here: whoever could keep Vault away could choose the key.',
    agent: 'Try again after `Retry-After`, with the same `Idempotency-Key`.',
    operator:
      'The service log says what Vault answered; `errand doctor` looks at the login, the keys and what it may do. Revocation goes on working meanwhile.',
    example: 'Vault is sealed after a restart',
  },
  audit_unavailable: {
    ...WAIT,
    says: 'nothing can be recorded at this moment, so nothing is issued',
    means: 'The audit log could not be written: the disk is full, read-only or failing.',
    why: 'No token without its durable record: a token whose record was lost could not be found or revoked.',
    agent: 'Try again later, with the same `Idempotency-Key`.',
    operator:
      'Free space on the volume of `ERRAND_DATA`. Revocation goes on working meanwhile. After a failed sync the service must be restarted.',
    example: 'the disk is full',
  },
  audit_mirror_behind: {
    ...WAIT,
    says: 'the log is not copied as it must be, so nothing is issued',
    means: 'A mirror of the audit log that says `on_failure: refuse` is further behind than its `max_behind`.',
    why: 'Whoever configured it wants no token whose record is on this machine alone.',
    agent: 'Try again after `Retry-After`, with the same `Idempotency-Key`.',
    operator:
      'The service log says which mirror and why; `errand_audit_mirror_records_behind` how far. It goes on by itself once the mirror takes records again. Revocation works meanwhile.',
    example: 'the log collector is down',
  },
  store_unavailable: {
    ...WAIT,
    says: 'the store does not answer at this moment',
    means: 'State (tasks, revocations, one-use tokens) could not be read or written in time.',
    why: 'Without the state of revocations nothing is issued.',
    agent: 'Try again after `Retry-After`, with the same `Idempotency-Key`.',
    operator: 'Look at `/ready` and at the store: Redis down, or the file of the embedded store locked.',
    example: 'the connection to Redis is cut',
  },
  stopping: {
    ...WAIT,
    says: 'the service is stopping',
    means: 'The process finishes what it has begun and takes nothing new.',
    why: 'So that nothing is cut off in the middle when it is updated.',
    agent: 'Try again; another process, or the new one, will answer.',
    example: 'a request in the second in which the service is restarted',
  },
} as const satisfies Partial<Record<Reason, Words>>
