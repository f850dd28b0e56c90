/** E. Proof of possession: DPoP (RFC 9449) and certificate-bound tokens (RFC 8705). */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const PROVE: Step = {
  action: 'prove_again',
  next: 'send a fresh DPoP proof, by the same key, for this method and address',
}
const NONCE: Step = { action: 'prove_again', next: 'send it again with the nonce of the DPoP-Nonce header' }

export const POSSESSION = {
  proof_replayed: {
    ...PROVE,
    says: 'this DPoP proof has been used',
    means: 'A proof with this `jti` and key was seen before.',
    why: 'A proof is good for one request: whoever reads it on the way cannot use it again.',
    agent:
      "Make a new proof for each try, retries included. At a tool it may also be older than the tool's last start.",
    operator: 'Where it happens without retries, look for a proxy that repeats requests.',
    example: 'an HTTP client that repeats a request with the headers of the first',
  },
  htu: {
    ...PROVE,
    says: 'the DPoP proof is for another address',
    means: '`htu` is not the address of this endpoint as the configuration has it. Query and fragment do not count.',
    why: 'A proof that was sent to one server must be worth nothing at another.',
    agent: 'Take the URL from the metadata (`token_endpoint`), not the address of a proxy or container.',
    operator:
      'Behind a proxy, `issuer` must be the public address; forwarded headers are not believed. At tools, set `publicUrl`.',
    example: '`http://errand:4460/token` where the issuer is `https://errand.example`',
  },
  htm: {
    ...PROVE,
    says: 'the DPoP proof is for another method',
    means: '`htm` is not the method of this request, in capitals.',
    why: 'A proof for reading must not do for writing.',
    agent: 'Make the proof for exactly this method.',
    example: '`"htm":"GET"` on `POST /token`',
  },
  ath: {
    ...PROVE,
    says: 'the DPoP proof is for another token',
    means: '`ath` is missing, or is not the digest of the token that came with the proof.',
    why: 'RFC 9449 §4.3: a proof made for one token must not carry another.',
    agent: 'At a tool set `ath` to the base64url SHA-256 of the access token. At the service leave it out.',
    example: 'a proof of before the token was renewed',
  },
  proof_key: {
    action: 'prove_again',
    next: 'prove by a P-256 or Ed25519 key, and send its public half alone',
    says: 'the key of the DPoP proof is not a public P-256 or Ed25519 key',
    means:
      'The `jwk` of the proof is of another kind, holds its private part, or the proof is unsigned or signed with a shared secret.',
    why: 'A private key that was sent is no longer private, and a MAC proves nothing about who made it.',
    agent: 'Export the public half only. If the private part was sent, throw the key away.',
    example: 'a `jwk` with its member `d`',
  },
  proof_duplicate: {
    action: 'fix_request',
    next: 'send one DPoP header',
    says: 'there is more than one DPoP proof',
    means: 'The request has two DPoP headers.',
    why: 'Which of two counts differs from reader to reader.',
    agent: 'Look for a client and a wrapper that both add one.',
    example: 'an SDK inside an HTTP client with a DPoP plug-in',
  },
  proof_required: {
    action: 'prove_again',
    next: 'send a DPoP proof, or come over mTLS',
    says: 'a DPoP proof or a client certificate is required',
    means:
      'Nothing proves a key: the evidence is standing, the caller is an administrator, or the tool takes no bearer tokens.',
    why: 'A token that is bound to no key works for whoever finds it.',
    agent: 'Send a DPoP proof with the request; the token is bound to its key.',
    operator: '`accepts_bearer: true` for a tool that cannot check proofs; its tokens then live 60 seconds.',
    example: 'an exchange for the payments tool without a DPoP header',
  },
  proof_invalid: {
    ...PROVE,
    says: 'the DPoP proof is not valid',
    means:
      'The proof is malformed, its signature does not hold, `typ` is not `dpop+jwt`, or `iat` is too old or ahead. The description says which where it can.',
    why: 'RFC 9449 §4.3 lists what a proof must be; all of it is checked.',
    agent:
      'Compare the clock: a proof is good for `dpop.proof_lifetime_seconds` (60 by default), and not more than 30 seconds ahead.',
    example: 'a proof that was made ten minutes ago',
  },
  nonce_missing: {
    ...NONCE,
    says: 'the DPoP proof holds no nonce',
    means:
      'The service wants a nonce of its own in proofs, and this one has none. The header `DPoP-Nonce` of this answer brings one.',
    why: 'A nonce shows that a proof was made now, not prepared in advance (RFC 9449 §8).',
    agent:
      'Repeat the request once with a new proof, new assertion and this nonce. Keep the nonce of each answer for the next request.',
    operator: '`dpop.require_nonce: false` for clients that cannot.',
    example: 'the first request of every process',
  },
  nonce_stale: {
    ...NONCE,
    says: 'the nonce of the DPoP proof is not a current one',
    means:
      'The nonce is older than two windows of `dpop.nonce_lifetime_seconds`, was given to another client, or is none of ours.',
    why: 'A nonce is good for its client and its time, so that it cannot be hoarded or shared.',
    agent: 'Use the nonce of this answer. Keep one for each client id, not one for the process.',
    operator: "Replicas that refuse each other's nonces do not share a root key.",
    example: 'the first request after an hour of silence',
  },
  key_switch: {
    action: 'attest_again',
    next: 'prove by the key that was first seen with this evidence, or attest again with fresh evidence',
    says: 'the evidence belongs to another proof key',
    means:
      "Standing evidence was first used with another DPoP key, holds another key itself, or an administrator's proof is not by the key of its assertion.",
    why: 'Evidence that stands for an hour would otherwise serve whoever copies it, with a key of their own.',
    agent: 'Keep one DPoP key for as long as the evidence lives. After a restart, fetch fresh evidence.',
    example: 'two processes that share one JWT-SVID and have a key each',
  },
  binding_downgrade: {
    action: 'prove_again',
    next: 'send a DPoP proof by the key of the token',
    says: 'a token that is bound to a key was presented without a proof of it',
    means: 'A DPoP-bound token was sent as `Bearer`, or to a place that sees no proofs.',
    why: 'Accepted as bearer, a bound token would work for its thief.',
    agent: "Send `Authorization: DPoP <token>` and a proof; the agent SDK's `task.fetch` does.",
    example: '`curl -H "Authorization: Bearer $TOKEN"` with a bound token',
  },
  cnf_mismatch: {
    action: 'prove_again',
    next: 'prove by the key that the token is bound to, or get a new token',
    says: 'the token is bound to another key',
    means: "The proof or the client certificate is not of the key in the token's `cnf`.",
    why: 'The key is what makes it your token.',
    agent:
      'Use the key with which the token was got. After a renewed certificate, or a restart with a new key, get a new token.',
    example: 'a token kept in a file, and a DPoP key made anew at start',
  },
  peer_invalid: {
    action: 'attest_again',
    next: 'renew the certificate, and have it checked by whoever issues it',
    says: 'the client certificate of this connection is not accepted',
    means: 'The certificate was good when the connection was opened, and has expired or been banned since.',
    why: 'A connection that is kept open does not keep its certificate alive.',
    agent: 'Open a new connection with the renewed certificate.',
    example: 'keep-alive over the end of an hourly SVID',
  },
} as const satisfies Partial<Record<Reason, Words>>
