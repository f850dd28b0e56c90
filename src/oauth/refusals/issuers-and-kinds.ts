/** B and C. Whose keys count for what, and which kind of token goes where. */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const KIND: Step = { action: 'fix_request', next: 'send a token of the kind and type that this parameter takes' }
const NEW: Step = { action: 'attest_again', next: 'get a new token, which a current key signs' }
const NEW_USER: Step = { action: 'sign_in_again', next: 'get a new token, which a current key signs' }

export const ISSUERS_AND_KINDS = {
  unknown_kid: {
    action: 'attest_again',
    next: 'get a new token, which a current key signs; if that is refused too, register the key',
    inSlot: {
      subject_token: {
        action: 'sign_in_again',
        next: 'get a new token, which a current key signs; if that is refused too, register the key',
      },
    },
    says: 'the token was signed by a key that is not known here',
    means:
      'The `kid` of the header is not among the keys of this issuer or client; or there is no `kid`, and there are several keys.',
    why: 'Keys are found by issuer and `kid` among those that are configured, never through what a token brings along.',
    agent:
      'Put the `kid` of your registered key into the header. After a rotation, register the new key before signing with it.',
    operator:
      "Add the public key to the agent's `keys_file`. For an identity provider, check `jwks_uri`: a new key is fetched once per cooldown.",
    example: 'an assertion with `"kid":"2026-11"` while `2026-10` is registered',
  },
  header_forbidden: {
    action: 'fix_request',
    next: 'leave jku, x5u, x5c and jwk out of the header',
    says: 'the token header brings a key, or says where to get one',
    means: 'The header has `jku`, `x5u`, `x5c` or (but for a DPoP proof) `jwk`. Nothing was fetched.',
    why: 'A token that brings its own key proves nothing, and fetching from its address would make the service a tool of its sender.',
    agent: 'Name the key by `kid` alone.',
    operator: 'Some libraries add `x5c` by default: turn it off at the issuer.',
    example: '`{"alg":"ES256","jku":"https://attacker.example/keys"}`',
  },
  key_state: {
    ...NEW,
    inSlot: { subject_token: NEW_USER },
    says: 'the key that signed this does not count',
    means: 'The key is one of ours, but it is retired, compromised, or published and not yet active.',
    why: 'A key counts from its activation to its retirement. What a compromised key signed is dead, whatever it says.',
    agent: 'Get a new token; do not keep tokens beyond their life.',
    operator:
      '`errand keys list` shows the states. A token refused by this within its life means that its key was given up: that was on purpose.',
    example: 'a token signed before `errand keys compromise`',
  },
  key_scope: {
    action: 'fix_request',
    next: 'present something that was signed for this use',
    says: 'the key that signed this may not sign it',
    means:
      "The key is known, but for another purpose: a feed key does not sign tokens, and one client's key not another's.",
    why: 'One key, one purpose: a signature made for one thing must not serve as another.',
    agent: 'Use the key that is registered for this client and purpose.',
    example: 'a frame of the revocation feed presented as an access token',
  },
  untrusted_issuer: {
    action: 'ask_person',
    next: 'present a token of an issuer that is registered here',
    says: 'the issuer is not trusted here',
    means:
      '`iss` is not exactly an issuer of the configuration. In an assertion: `iss` and `sub` are not both the client id.',
    why: 'Issuers are compared as strings: another slash, case, port or look-alike letter is another issuer (CVE-2026-22772).',
    agent:
      'Check which identity provider or tenant the user signed in at. In assertions set `iss` = `sub` = your client id.',
    operator: 'Add the issuer to `config/issuers/`, with `issuer` copied from its metadata character for character.',
    example: '`https://idp.example/` where `https://idp.example` is registered',
  },
  jwks_rejected: {
    action: 'wait',
    next: 'wait as long as Retry-After says, then send it again',
    says: 'the keys of the issuer could not be had',
    means:
      "The issuer's key set could not be fetched, or was refused as a whole (too large, private keys, a duplicate `kid`), and no good older set is left.",
    why: 'A key set that is partly wrong is not partly believed; the last good one is used until it expires.',
    agent: 'Send it again later; nothing is wrong with your request.',
    operator:
      "Ask for `jwks_uri` from the service's machine: https, no redirect, at most 256 KB in 2 seconds, no private address.",
    example: 'the identity provider is down for longer than its key set may be kept',
  },
  jwks_untrusted: {
    action: 'wait',
    next: 'wait as long as Retry-After says, then send it again',
    says: 'whoever serves the keys of the issuer is not vouched for',
    means:
      "The host of `jwks_uri` showed a certificate that the system's authorities, or those of `jwks_ca_file`, do not vouch for, and no good older set is left.",
    why: 'Whoever takes over a name (by DNS, in an outage, say) must not bring keys of their own.',
    agent: 'Send it again later; nothing is wrong with your request.',
    operator:
      'Look at the certificate of that host. If it is the right one, give its authority by `jwks_ca_file`; if not, somebody else answers there.',
    example: 'the name of the identity provider leads to another machine',
  },
  wrong_typ: {
    ...KIND,
    says: 'this kind of token does not go here',
    means:
      'The `typ` of the header says another kind than this parameter or header takes; or an ID token where the issuer is registered for access tokens.',
    why: 'Kinds are told apart by `typ`, so that a token made for one place is worth nothing in another.',
    agent: "Send evidence as assertion, a user's token as `subject_token`, a hand-over only to `/token`.",
    operator: "`token_types` in the issuer's file says which kinds of its tokens are taken.",
    example: 'an access token as `client_assertion`',
  },
  assertion_audience: {
    action: 'fix_request',
    next: 'make a new assertion whose aud is the issuer of the metadata, character for character',
    says: 'the assertion must have our issuer identifier as its one audience, as a string',
    means: "`aud` is the token endpoint's URL, a list, or another server.",
    why: 'An assertion with a loose audience can be passed on to another server by the one that received it (CVE-2025-27370).',
    agent:
      'Set `aud` to the `issuer` of `/.well-known/oauth-authorization-server`, as one string. Many libraries default to the token endpoint.',
    operator: 'Behind another public name, `issuer` in `config/errand.yaml` must be the name that clients use.',
    example: '`"aud":"https://errand.example/token"`',
  },
  wrong_audience: {
    action: 'fix_request',
    next: 'get a token whose audience is this service',
    inSlot: { subject_token: { action: 'sign_in_again', next: 'get a token whose audience is this service' } },
    says: 'the token is not meant for this audience',
    means: 'No `aud` of the token is one that is registered for us. At a tool: the token is for another tool.',
    why: 'A token that was meant for somebody else and is accepted anyway makes everybody who holds it a user here (confused deputy).',
    agent:
      'Ask the identity provider for a token with the audience that the operator named; at a tool, get a token for that tool.',
    operator: "List our audience under `audiences` in the issuer's file.",
    example: "the user's token for the mail API",
  },
  token_type_mismatch: {
    ...KIND,
    says: 'the token is not of the type that was named',
    means: '`subject_token_type` or `actor_token_type` says another type than the token is.',
    why: "RFC 8693: the type is the caller's word, and it must agree with what the token says of itself.",
    agent:
      'Name `…:id_token` for an ID token, `…:access_token` for an access token, `…:jwt` for either; evidence as `actor_token` is `…:jwt`.',
    example: 'an ID token with `subject_token_type=…:access_token`',
  },
  self_actor: {
    action: 'fix_request',
    next: 'send the token of the user as subject_token, and evidence of the agent as actor_token',
    says: 'one token cannot be both the subject and the actor',
    means: 'The same token was sent as `subject_token` and as `actor_token`.',
    why: 'An agent acting for itself by its own word alone would be nobody acting for anybody.',
    agent: 'For work without a user use `client_credentials`, if the agent is registered as `autonomous`.',
    example: 'a JWT-SVID in both parameters',
  },
  not_a_token: {
    action: 'fix_request',
    next: 'send the whole token, as it was issued',
    says: 'what was presented is no token',
    means: 'The text has not the form of any token that is known here.',
    why: 'Vault tokens, approval ids and the like open nothing here, and are not looked up.',
    agent: 'Check that the variable holds the token, not its id, its digest or an error message.',
    example: '`token=undefined` at `/introspect`',
  },
  caller_not_audience: {
    action: 'fix_request',
    next: 'let the tool ask that the token is meant for',
    says: 'only the audience of a token may ask for this',
    means: 'The token is of another agent, and for another tool than the one that asks.',
    why: 'What a token says is for its holder and its audience (CVE-2026-37979). In answers it is `{"active":false}`; this reason stands in the record.',
    agent: 'Introspect and revoke your own tokens only; a tool those for its audience.',
    operator: 'Administrators may introspect and revoke any token.',
    example: 'the CRM introspects a token that was issued for the ticket desk',
  },
  client_auth_required: {
    action: 'attest_again',
    next: 'send a client assertion, or come over mTLS',
    says: 'client authentication is required',
    means:
      'There is no client assertion and no client certificate; or one half of `client_assertion` and `client_assertion_type`.',
    why: 'An id in a form or a header says who somebody wants to be (CVE-2025-61928).',
    agent:
      'At `/token`, `/introspect` and `/revoke` send both form parameters, elsewhere `Authorization: ClientAssertion <jwt>`.',
    operator: 'Certificates count on the mTLS listener only (`mtls` in `config/errand.yaml`).',
    example: '`client_id=research` and nothing else',
  },
} as const satisfies Partial<Record<Reason, Words>>
