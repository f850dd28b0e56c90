/** A. Tokens as text and structure: what is refused before a word of a token is believed. */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const SIGN_IN: Step = {
  action: 'sign_in_again',
  next: 'present a new token: the user signs in again, or the agent whose token it is renews in time',
}
const PROVE: Step = {
  action: 'prove_again',
  next: 'send a fresh DPoP proof, by the same key, for this method and address',
}
const ATTEST: Step = { action: 'attest_again', next: 'attest again with fresh evidence' }
const WHOLE: Step = { action: 'fix_request', next: 'send the token exactly as it was issued, character for character' }
const KIND: Step = { action: 'fix_request', next: 'send a token of the kind and type that this parameter takes' }
const ISSUED: Step = {
  action: 'fix_request',
  next: 'have whoever makes the token write it in the form that is taken here',
}

/** A token that time or a signature has put out of use is replaced by whoever made it. */
const REPLACED = { ...ATTEST, inSlot: { subject_token: SIGN_IN, assertion: SIGN_IN, dpop: PROVE } } as const

export const TOKENS = {
  token_too_large: {
    ...KIND,
    says: 'the token is larger than any that is taken here',
    means:
      'What was presented is longer than 16,384 bytes and was not read at all; or the token that would have been issued is longer than 2 KB.',
    why: 'The length is looked at before anything is parsed, so that a huge token costs its sender more than us. Issued tokens travel in headers beside a proof, where servers allow few kilobytes.',
    agent:
      'Present a token made for APIs, not one stuffed with group lists or pictures. If it was the token to be issued: ask for fewer operations at once.',
    operator:
      'Have the identity provider leave claims out that no policy reads. Long `constraints` on arguments make issued tokens long.',
    example: 'a user token of 40 KB that lists each of the 900 groups of the user',
  },
  headers_too_large: {
    action: 'fix_request',
    next: 'send fewer and shorter headers',
    says: 'the headers are larger than is taken here',
    means: 'All headers of the request together are longer than `bounds.max_header_bytes` (32 KB by default).',
    why: 'Headers are held in memory before anybody is known.',
    agent: 'Send only what the API asks for. Cookies of other services and tracing baggage are the usual cause.',
    operator: 'Look at what a proxy in front adds. Raise `bounds.max_header_bytes` only if the headers are yours.',
    example: 'a proxy that passes 60 KB of cookies on',
  },
  jws_not_compact: {
    ...WHOLE,
    says: 'a signed token is three parts of base64url, joined by dots',
    means: 'The token is a JSON serialisation of a JWS, or its parts are not three.',
    why: 'One form of a token means one reading of it. The JSON forms allow several signatures and unprotected headers.',
    agent: 'Send the compact form: `header.payload.signature`.',
    example: '`{"payload":"…","signatures":[…]}` as `subject_token`',
  },
  jwe_not_accepted: {
    ...KIND,
    says: 'encrypted tokens are not taken here',
    means: 'The token has five parts: it is encrypted. It was not decrypted.',
    why: "Decryption at a caller's wish is work and an oracle, and an encrypted token proves nothing about who made it (CVE-2023-51774).",
    agent: 'Present the signed token inside it.',
    operator: 'Turn token encryption off for this audience at the identity provider.',
    example: "an ID token encrypted to the service's published key",
  },
  noncanonical_encoding: {
    ...WHOLE,
    says: 'a part of the token is not base64url in its one canonical form',
    means:
      'A part of the token has padding, white space, a character of another alphabet, or bits set that stand for nothing.',
    why: 'If one token had several spellings, a spent or revoked one could come again in another.',
    agent:
      'Do not touch the token: no trimming, no line breaks, no re-encoding. A line break at the end of a file is the usual cause.',
    example: 'a token read from a file with its newline',
  },
  bad_utf8: {
    ...ISSUED,
    says: 'the text is not valid UTF-8',
    means: 'A part of the token or the body is not UTF-8, or begins with a byte order mark.',
    why: 'Two readers that repair broken text in two ways would read two tokens.',
    agent: 'Write JSON as UTF-8 without a byte order mark.',
    example: 'a payload in UTF-16',
  },
  bad_json: {
    ...ISSUED,
    says: 'the JSON is not valid',
    means: 'The header or payload of the token is not a JSON object by RFC 8259.',
    why: 'What one parser forgives and another refuses is read in two ways.',
    agent: 'Build tokens with a JOSE library, not by hand.',
    example: '`{"exp":1790000000,}` with its comma as payload',
  },
  duplicate_member: {
    ...ISSUED,
    says: 'a JSON object names the same member twice',
    means: 'A member (for example `sub`) stands twice in one object of the token or the body.',
    why: 'Some readers keep the first, some the last: two services would see two users.',
    agent: 'Write each member once.',
    example: '`{"sub":"alice","sub":"bob"}`',
  },
  json_limits: {
    ...ISSUED,
    says: 'the JSON is deeper or wider than is taken here, or holds a number that not all readers read alike',
    means:
      'The JSON is nested deeper than 16 levels, has too many members, or holds a number that is no safe integer where one must stand.',
    why: 'Depth is bounded before anything recurses, and numbers above 2^53 differ from reader to reader.',
    agent: 'Flatten the structure, and send large numbers as strings where the API takes strings.',
    example: '`request_details` with a hundred nested arrays',
  },
  alg_not_allowed: {
    ...ISSUED,
    says: 'the signature algorithm is not the one of the key',
    means: 'The `alg` of the header is not the one algorithm of the key that the token names.',
    why: 'A header is written by whoever made the token. Letting it choose the algorithm is how `none` and HMAC under a public key were accepted elsewhere.',
    agent: 'Sign with the algorithm of your registered key: ES256 or EdDSA for assertions and proofs.',
    operator: 'List the algorithm of the identity provider under `algorithms` in its file in `config/issuers/`.',
    example: 'an assertion with `"alg":"RS256"` for a registered P-256 key',
  },
  bad_numeric_date: {
    ...ISSUED,
    says: 'a time is not a whole number of seconds, or is out of range',
    means:
      '`exp`, `iat` or `nbf` is missing, is no whole number of seconds, or `exp - iat` is longer than is taken for this issuer.',
    why: 'A time that is read in two ways is a token that lives for ever in one of them.',
    agent: 'Write seconds since 1970 as integers, not milliseconds and not strings.',
    operator:
      'A user token that lives longer than `max_token_lifetime_seconds` of its issuer is refused by this reason: shorten it there.',
    example: '`"exp":"1790000000"`, or milliseconds',
  },
  not_yet_valid: {
    action: 'wait',
    next: 'wait until it is valid, or have the clock of its issuer set right',
    says: 'what was presented is not valid yet',
    means: "`iat` or `nbf` lies more than 30 seconds ahead of the service's clock.",
    why: 'What is dated ahead outlives what was granted.',
    agent: 'Set the clock of the machine that makes the token: it is ahead.',
    operator: "If every caller is refused by this, it is the service's clock that is behind.",
    example: 'an assertion made on a laptop whose clock is two minutes fast',
  },
  expired: {
    ...REPLACED,
    says: 'what was presented has expired',
    means:
      'The time in `exp` has passed; for a retry with an `Idempotency-Key`, what the first try issued has expired.',
    why: 'Short lives are what bounds the use of a stolen token.',
    agent:
      'Get a new one shortly before it is needed. The agent SDK asks your function for a user token whenever it needs one: do not cache longer than `exp`.',
    operator: 'Where fresh tokens are refused, compare the clocks of the service and of whoever issues.',
    example: 'the ID token of a sign-in an hour ago',
  },
  unknown_claim: {
    ...KIND,
    says: 'the token holds a claim that is not known here',
    means:
      'A token of our own has a claim that it cannot have, or a name such as `__proto__` stands where a claim or a task id should.',
    why: 'A claim that is not understood may be the one that limits the token.',
    agent: 'Send the token as it was issued, and a `task_id` as it was given (`task_` and 22 characters).',
    example: '`task_id=constructor`',
  },
  bad_claim: {
    action: 'fix_request',
    next: 'have the token issued with the claims that are required here',
    says: 'a claim is missing, or not of the form it must have',
    means:
      'A claim that is needed here is absent or of another type: `jti` of an assertion, the groups of a user token, `hops` of a token of ours.',
    why: 'What is missing cannot be judged, and nothing is guessed.',
    agent: 'Compare your assertion with the page on attestation: `iss`, `sub`, `aud`, `jti`, `iat`, `exp`.',
    operator: 'The claim named by `groups_claim` must be a list of at most 500 strings.',
    example: 'a user token whose `groups` is the string `"support"` instead of a list',
  },
  bad_subject: {
    ...ISSUED,
    says: 'the subject is not a plain text of the length that is taken here',
    means:
      '`sub` is empty, longer than 255 characters, no string, or holds control characters, invisible ones or space at its end.',
    why: 'Two subjects that look alike must not be two people, and a subject is a key in logs, policies and revocations.',
    agent: "Use the identity provider's stable id as `sub`, not a display name.",
    example: '`"sub":"alice "` with its space',
  },
  crit_unsupported: {
    ...ISSUED,
    says: 'the token marks an extension as critical that is not supported here',
    means: 'The header has `crit` or `b64`.',
    why: 'RFC 7515 §4.1.11: who does not understand a critical extension must refuse.',
    agent: 'Sign without `crit` and without unencoded payloads.',
    example: '`{"alg":"ES256","crit":["b64"],"b64":false}`',
  },
  bad_signature: {
    ...REPLACED,
    says: 'the signature does not hold',
    means: 'The signature was checked under the key that the token names, and it does not fit header and payload.',
    why: 'It was made with another key, or somebody changed the token on the way.',
    agent:
      'Sign with the private half of the key that is registered under this `kid`. A rotated key with an unchanged `kid` is the usual cause.',
    operator: "Compare the public key in `keys/` with the agent's, or look at the identity provider's JWKS.",
    example: "a private key replaced on the agent's machine, while the old public half is still registered",
  },
  bad_key: {
    ...ISSUED,
    says: 'the key is not fit for use: of another kind, too weak, or off its curve',
    means:
      'The key that signed, or the one in the proof, is not P-256 or Ed25519 (for identity providers also P-384 or RSA from 2048 bits), or its point is not on its curve.',
    why: 'Invalid points and weak keys turn a signature into a formality.',
    agent: 'Make a new key: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`.',
    operator: 'Register the new public half, and have the old one removed.',
    example: 'an RSA key of 512 bits in a JWKS',
  },
  bad_auth_scheme: {
    action: 'fix_request',
    next: 'send one Authorization header: ClientAssertion <jwt>',
    says: 'the Authorization header is not of the scheme that is taken here, or is there twice',
    means:
      'The header is not `Authorization: ClientAssertion <jwt>` (at a tool: `DPoP <token>` or `Bearer <token>`), is there twice, or the token stands in the URL.',
    why: 'Two headers are read in two ways, and URLs end up in logs.',
    agent: 'Send exactly one header, one space between scheme and token, and no `access_token` in the query.',
    operator: 'Look at proxies that add an Authorization header of their own.',
    example: '`Authorization: Basic …` at `/tasks`',
  },
} as const satisfies Partial<Record<Reason, Words>>
