/** F. Attestation: whether what is presented proves that it is this agent, and may prove it in this way. */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const ATTEST: Step = { action: 'attest_again', next: 'attest again with fresh evidence' }
const REGISTER: Step = { action: 'ask_person', next: 'have the agent registered for what its platform attests' }

export const ATTESTATION = {
  unknown_client: {
    action: 'ask_person',
    next: 'have the agent registered, or correct its id',
    says: 'the client is not known here',
    means: 'No registered agent, tool or administrator has this client id or SPIFFE id.',
    why: 'Every agent is registered before it gets anything. A stranger is told no more than that it was refused.',
    agent: 'Check `sub` of the evidence, letter for letter. Tools are called `tool:<name>`.',
    operator: 'Write `config/agents/<client_id>.yaml`; it counts within a second, without a restart.',
    example: 'a new agent whose file was not merged yet',
  },
  agent_disabled: {
    action: 'ask_person',
    next: 'ask security staff',
    says: 'the agent is disabled',
    means: 'The registration says `disabled: true`.',
    why: 'A switch for one agent, in a file that is reviewed.',
    agent: 'Stop.',
    operator: "Take `disabled` out of the agent's file. For an immediate end of what it holds, `errand revoke`.",
    example: 'an agent that was switched off over the weekend',
  },
  evidence_replayed: {
    ...ATTEST,
    says: 'this evidence has been used',
    means: 'An assertion with this `jti` of this client was seen before.',
    why: 'One-use evidence that is read on the way must be worth nothing.',
    agent: 'Make a new assertion with a random `jti` for each request, retries included.',
    example: 'an assertion that is kept in a variable and sent with each request',
  },
  origin_not_authorized: {
    ...REGISTER,
    says: 'the evidence is of an origin that may not attest this agent',
    means: 'The evidence names a trust domain that is not configured, or is `wimse://` where `spiffe://` is expected.',
    why: 'Each trust domain speaks for its own ids only.',
    agent: 'Check that the agent runs where it should: another cluster has another trust domain.',
    operator: 'Add the trust domain to `config/issuers/` with its bundle.',
    example: '`spiffe://staging.example/…` at the production service',
  },
  noncanonical_id: {
    ...REGISTER,
    says: 'the identity is not in its one canonical form',
    means: 'The SPIFFE id has capitals in its trust domain, escapes, empty or dot segments, or no path.',
    why: 'Ids are compared as bytes. One that would have to be normalised first is an attempt or an accident.',
    agent: 'Nothing the agent can change.',
    operator: 'Correct the id where it is issued: `spiffe://<trust domain>/<segment>/…`.',
    example: '`spiffe://company.example/agents/%72esearch`',
  },
  not_descendant: {
    ...REGISTER,
    says: 'the identity is not below the path that is permitted',
    means: 'The trust domain is registered with a `path_root`, and the id is not below it.',
    why: 'A platform that runs many things attests all of them; only some are agents.',
    agent: 'Check under which path the workload is registered at its platform.',
    operator: '`path_root` counts by whole segments: `/payroll` is not below `/pay`.',
    example: '`spiffe://company.example/web/shop` where `path_root` is `/agents`',
  },
  instance_epoch: {
    ...ATTEST,
    says: 'the evidence is older than the present registration of the agent',
    means: 'The evidence was issued before the SPIFFE id passed to this agent, or before `instance_since`.',
    why: 'When an id is given to a new agent, evidence of the old one still lives for a while.',
    agent: 'Fetch evidence anew from the platform.',
    operator: 'Wait until the old evidence has expired, or leave the old agent its id.',
    example: 'an SVID of an hour ago, after the id was given to another agent',
  },
  attestation_expired: {
    ...ATTEST,
    says: 'what the agent attested has expired',
    means: 'The evidence was accepted earlier, and its time has passed since.',
    why: 'What was verified once does not stay true.',
    agent: 'Fetch evidence from the platform for each use, or when a third of its life is left.',
    example: 'a JWT-SVID that is read from a file once, at start',
  },
  evidence_not_registered: {
    ...REGISTER,
    next: 'attest by a kind of evidence that the agent is registered for',
    says: 'the agent is not registered to attest by this kind of evidence',
    means:
      "The evidence is good, but its kind is not in the agent's `evidence` list, or its tier is below `minimum_tier`.",
    why: 'Otherwise the weakest kind that anybody configured would do for every agent.',
    agent: 'Use the evidence that the registration names.',
    operator: "Add the kind to `evidence` in the agent's file, if it is strong enough for what the agent may do.",
    example: 'a client assertion by an agent with `evidence: [jwt_svid]`',
  },
  release_unknown: {
    ...REGISTER,
    next: 'have the release signed and registered, or name the one that runs',
    says: 'no release of this id is registered for the agent',
    means:
      'The agent said that it is a release which is not among the signed manifests of this agent in `config/releases/`.',
    why: 'A release is named in tokens and revocations, so it must be one that a release signer of this agent stands for.',
    agent: 'Send the id that `errand release sign` printed for this build.',
    operator:
      'Put the signed manifest into `config/releases/`; it counts within a second. `errand release list` shows what is registered.',
    example: 'a build that was rolled out before its manifest was merged',
  },
  release_required: {
    action: 'fix_request',
    next: 'name the release that runs: parameter release, or a claim of that name in the assertion',
    says: 'the agent gets tokens only as a registered release, and none was named',
    means:
      'The registration says `release: {required: true}`, or `measurements` were sent, and neither the request nor the platform said which release this is.',
    why: 'Without it a token could not be ended by revoking the release it belongs to.',
    agent: 'Send `release` with the request, or as a claim of the client assertion.',
    operator:
      'Where the platform names the image, one registered release with that image is found by itself; of several the agent must say which.',
    example: 'an agent whose build does not pass the id on',
  },
  measurement_changed: {
    action: 'ask_person',
    next: 'run what was released, or have what runs signed and registered as a new release',
    says: 'what runs is not what the release says',
    means:
      'The image that the platform vouches for, or the model, a tool or a prompt that the agent sees, differs from the signed manifest; the description says where, for a tool down to the byte.',
    why: 'A container that is replaced under the same tag, and a tool whose description was changed after somebody reviewed it, are no longer what was approved.',
    agent: 'Stop using the changed tool, and report it.',
    operator:
      '`errand release diff` shows all that changed between two manifests. If the change is wanted: `errand release create`, `sign`, and register it.',
    example: 'an MCP server that put new instructions into the description of a tool',
  },
  evidence_lifetime: {
    ...ATTEST,
    next: 'attest again with evidence that lives as long as is taken here',
    says: 'the evidence lives longer than is taken here, or has ended',
    means:
      '`exp` lies further from `iat` than is taken: 300 seconds for an assertion; the description names the limit.',
    why: 'Evidence that lives for a year is a password.',
    agent: 'Set `exp` to a minute after `iat`.',
    operator: 'Shorten the life of SVIDs at the platform.',
    example: 'an assertion that is good for a day',
  },
  platform_full: {
    action: 'ask_person',
    next: 'ask security staff',
    says: 'the platform has as many agents here as it may have',
    means: 'The agent was not seen before, and its platform has as many principals here as its registration allows.',
    why: 'A platform that makes agents without end would fill the store and hide one among many.',
    agent: 'Use an agent of the platform that is known here already.',
    operator: 'Raise `max_agents` in the file of the platform, if so many agents are meant to be.',
    example: 'a platform that makes a new agent identity for each conversation',
  },
  evidence_revoked: {
    ...ATTEST,
    says: 'whoever issued the evidence no longer stands by it',
    means:
      'The signature holds and the time has not passed, but the platform that was asked about the token (Kubernetes TokenReview) no longer knows it, or knows it for somebody else or for another audience.',
    why: 'A projected token dies with its pod; its signature does not.',
    agent: 'Read the token from its file again. In a pod that is being ended, stop.',
    operator: 'Compare `audiences` of the issuer with the audience of the projected volume.',
    example: 'a token that was copied out of a pod which was deleted since',
  },
  attestation_challenge: {
    action: 'attest_again',
    next: 'make the proof anew with the challenge of the OAuth-Client-Attestation-Challenge header',
    says: 'the proof of the client attestation holds no current challenge',
    means:
      'The claim `challenge` is missing, older than two windows of `dpop.nonce_lifetime_seconds`, or none of ours.',
    why: 'A challenge shows that a proof was made now, not prepared in advance.',
    agent:
      'Repeat the request once with the challenge that this answer brings in `OAuth-Client-Attestation-Challenge`; `POST /challenge` gives one beforehand.',
    operator: '`dpop.require_nonce: false` for clients that cannot.',
    example: 'the first request of a client that did not ask for a challenge',
  },
  attestation_stale: {
    ...ATTEST,
    next: 'get a new attestation from the attester',
    says: 'the client attestation is not fresh enough',
    means: 'It has expired, or its `iat` is missing or older than `max_age_seconds` of the attester.',
    why: 'What an attester saw yesterday says little about today.',
    agent: 'Have the attester look again; the key may stay the same.',
    operator: '`max_age_seconds` in the file of the attester says how old its word may be.',
    example: 'an attestation of last week by an attester with `max_age_seconds: 86400`',
  },
  attestation_unavailable: {
    action: 'wait',
    next: 'wait as long as Retry-After says, then send it again',
    says: 'whoever must confirm the evidence does not answer at this moment',
    means:
      'The issuer is registered with `token_review`, and the API server that must be asked did not answer as it should.',
    why: 'Evidence that must be confirmed is not accepted on trust while nobody can be asked.',
    agent: 'Wait and retry.',
    operator: 'Look at the API server, its certificate authority, and the token with which it is asked.',
    example: 'a Kubernetes API server during its upgrade',
  },
  header_duplicate: {
    action: 'fix_request',
    next: 'send each header once',
    says: 'a header that belongs there once is there twice',
    means: 'There are two attestations, two workload identity tokens, or two proofs of one.',
    why: 'Which of two counts differs from reader to reader.',
    agent: 'Look for a client and a wrapper that both add one.',
    example: 'a sidecar that adds its own `Workload-Identity-Token`',
  },
} as const satisfies Partial<Record<Reason, Words>>
