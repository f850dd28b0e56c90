/** What only a tool answers: the codes of the verifier that the service has not itself. */
import type { RefusalCode } from '@errand/verifier/errors.ts'
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const RENEW: Step = { action: 'renew', next: 'get a new token for this tool from the service, and send the call again' }
const WAIT: Step = {
  action: 'wait',
  next: 'wait as long as Retry-After says, then send the same call with a new proof',
}

export type ToolCode = Exclude<RefusalCode, Reason>

interface ToolWords extends Words {
  /** Status and error of the tool's answer. */
  readonly answer: string
}

export const AT_TOOLS: Readonly<Record<ToolCode, ToolWords>> = {
  token_required: {
    answer: '401 `invalid_token`',
    ...RENEW,
    says: 'an access token is required',
    means: 'The request has no Authorization header.',
    why: 'A tool serves nobody whom it does not know.',
    agent:
      'Get a token for this tool at the service: `WWW-Authenticate` leads to the metadata that names it (RFC 9728).',
    operator: 'Paths that need no token are served before the middleware.',
    example: 'the first call of an MCP client',
  },
  bearer_not_accepted: {
    answer: '401 `invalid_token`',
    ...RENEW,
    says: 'this tool wants tokens that are bound to a key',
    means: 'The token has no `cnf`: it is a bearer token.',
    why: 'A bearer token works for whoever finds it.',
    agent: 'Send a DPoP proof with the exchange, and the token is bound to its key.',
    operator:
      '`acceptBearer` of the verifier and `accepts_bearer` of the tool go together; such tokens live 60 seconds.',
    example: 'a token that was got without a proof',
  },
  feed_required: {
    answer: '401 `invalid_token`',
    ...RENEW,
    says: 'this tool takes tokens of a minute at most',
    means: "The tool's verifier has no key and cannot follow revocations, and this token lives longer than 60 seconds.",
    why: 'Whoever cannot hear of a revocation must not trust for longer than a minute.',
    agent: 'Nothing is wrong with the call. Tell whoever runs the tool.',
    operator:
      'Give the verifier its `key`, or register the tool with `follows_feed: false`, so that its tokens are short.',
    example: 'a verifier started without its key',
  },
  ancestor_revoked: {
    answer: '401 `invalid_token`',
    action: 'ask_parent',
    next: 'ask the agent whose token stands behind this one for another hand-over',
    says: 'a token that this one descends from was revoked',
    means: 'The token itself was not revoked, but one in its chain was.',
    why: 'What descends from a dead token is dead, at every tool, without a list of descendants.',
    agent: 'Stop the work that was handed over, and tell the agent that gave it.',
    operator: '`errand explain <jti>` shows the chain, `errand audit search --type revocation.added` what was revoked.',
    example: "a sub-agent's call a second after the task above it was cut",
  },
  revocation_state_stale: {
    answer: '503 `temporarily_unavailable`',
    ...WAIT,
    says: 'what is known here of revocations is too old',
    means:
      'The tool lost touch with the service for longer than the effect of this operation allows. The token may be good.',
    why: 'Past its bound a verifier refuses by itself: the service may have revoked the token, and it would not know.',
    agent: "Send it again. The agent SDK's `task.fetch` does so twice.",
    operator: 'Look at the connection from tool to service, and `staleness_seconds` of the tool.',
    example: 'the network between tool and service is cut',
  },
  keys_unavailable: {
    answer: '503 `temporarily_unavailable`',
    ...WAIT,
    says: 'the keys of the token service are not to be had',
    means: 'The token names a key that the tool does not have, and the service could not be asked.',
    why: 'A token whose key is not known can be neither good nor bad.',
    agent: 'Send it again.',
    operator: 'The tool must reach `/.well-known/jwks.json` of the issuer.',
    example: 'a tool that starts while the service is down',
  },
  service_unavailable: {
    answer: '503 `temporarily_unavailable`',
    ...WAIT,
    says: 'the token service could not be asked',
    means:
      'This operation is introspected or budgeted, so the service must be asked for each call, and did not answer.',
    why: 'A budget that is not asked for is none.',
    agent: 'Send it again.',
    operator: 'The tool must reach `/introspect` and `/tasks/{id}/reservations`.',
    example: 'a refund while the service restarts',
  },
  insufficient_scope: {
    answer: '403 `insufficient_scope`',
    action: 'renew',
    next: 'get a token whose scope includes the operation that WWW-Authenticate names',
    says: 'the operation is not granted, or not with these arguments',
    means:
      'The token is good, and does not hold this operation, or bounds an argument that was sent. The description says which argument.',
    why: "A token can do one task's work; what was not asked for was not given.",
    agent:
      'Exchange again with the `scope` that `WWW-Authenticate` names, or call with arguments within the constraints of `authorization_details`.',
    operator: '`errand explain <jti>` shows what was asked for and what was lost.',
    example: 'a refund of 700 with a token that is good up to 500',
  },
  operation_unknown: {
    answer: '403 `insufficient_scope`',
    action: 'fix_request',
    next: 'call a route or MCP tool that the tool declares',
    says: 'this route is no operation of the tool',
    means: "Method and path (or the MCP tool's name) map to no operation in the verifier's routes.",
    why: 'What nobody labelled with an effect is denied.',
    agent: "Compare method and path with the tool's API.",
    operator: "Add the route to the operation, in the tool's file and in the verifier.",
    example: '`POST /tickets/7/escalate`, which nobody declared',
  },
  bad_arguments: {
    answer: '400 `invalid_request`',
    action: 'fix_request',
    next: 'send arguments that can be read in one way only',
    says: 'the arguments cannot be read in one way only',
    means: 'The body is not JSON, names a member twice, or an argument stands in path and body with two values.',
    why: 'The tool must act on what was checked.',
    agent: 'Send each argument once.',
    example: '`POST /payments/pay_1/refunds` with `{"payment_id":"pay_2"}`',
  },
}

const TOKEN = '401 `invalid_token`'
const PROOF = '401 `invalid_dpop_proof`'

/** Reasons of the service that tools answer as well, and as what. */
export const ALSO_AT_TOOLS: Readonly<Record<Extract<RefusalCode, Reason>, string>> = {
  token_too_large: '413 `invalid_request`',
  not_a_token: TOKEN,
  jws_not_compact: TOKEN,
  jwe_not_accepted: TOKEN,
  noncanonical_encoding: TOKEN,
  bad_utf8: TOKEN,
  bad_json: TOKEN,
  duplicate_member: TOKEN,
  json_limits: TOKEN,
  alg_not_allowed: TOKEN,
  bad_numeric_date: TOKEN,
  not_yet_valid: TOKEN,
  expired: TOKEN,
  unknown_claim: TOKEN,
  bad_claim: TOKEN,
  bad_subject: TOKEN,
  crit_unsupported: TOKEN,
  bad_signature: TOKEN,
  bad_key: TOKEN,
  unknown_kid: TOKEN,
  header_forbidden: TOKEN,
  untrusted_issuer: TOKEN,
  wrong_typ: TOKEN,
  wrong_audience: TOKEN,
  depth: TOKEN,
  bad_scope: TOKEN,
  bad_authorization_details: TOKEN,
  bad_auth_scheme: TOKEN,
  key_scope: TOKEN,
  key_state: TOKEN,
  binding_downgrade: TOKEN,
  cnf_mismatch: TOKEN,
  peer_invalid: TOKEN,
  revoked: TOKEN,
  task_not_active: TOKEN,
  htm: PROOF,
  htu: PROOF,
  ath: PROOF,
  proof_key: PROOF,
  proof_duplicate: PROOF,
  proof_invalid: PROOF,
  proof_required: PROOF,
  proof_replayed: PROOF,
  budget_exhausted: '403 `insufficient_scope`',
  media_type: '415 `invalid_request`',
  body_too_large: '413 `invalid_request`',
  replay_guard_unavailable: '503 `temporarily_unavailable`',
}
