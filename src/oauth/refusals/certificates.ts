/** F. Certificate chains: RFC 5280 §6 in full, then the rules of X.509-SVID. */
import type { Reason } from '../refusal.ts'
import type { Step, Words } from './words.ts'

const RENEW: Step = { action: 'attest_again', next: 'renew the certificate, and have it checked by whoever issues it' }
const REISSUE: Step = { action: 'ask_person', next: 'have the certificate issued anew by its authority' }

export const CERTIFICATES = {
  x509_validity: {
    ...RENEW,
    says: 'a certificate of the chain is outside its validity',
    means: 'The leaf, an intermediate or the anchor has expired, or is not valid yet.',
    why: 'RFC 5280 §6.1.3 (a)(2). The anchor is held to it too: one that expired anchors nothing.',
    agent: 'Fetch a new certificate from the platform, and send the current intermediates with it.',
    operator: 'If the leaf is fresh, an intermediate or the bundle here is old.',
    example: 'an SVID of yesterday',
  },
  x509_path_length: {
    ...REISSUE,
    says: 'the chain is longer than an authority in it allows',
    means: 'An authority says with `pathLenConstraint` how many may stand below it, and there are more.',
    why: 'An authority that may only issue leaves must not make further authorities.',
    agent: 'Send the chain that the platform gives, unchanged.',
    operator: 'Have the intermediate issued by the authority above it.',
    example: 'an authority with path length 0 that issued another authority',
  },
  x509_name_constraints: {
    ...REISSUE,
    says: 'a name is outside what an authority of the chain may certify',
    means:
      'A name in the certificate is outside the permitted names of an authority above, or among its excluded ones.',
    why: 'RFC 5280 §4.2.1.10: who may certify one department must not certify another.',
    agent: 'Nothing the agent can change.',
    operator: 'Compare the id with the `nameConstraints` of the intermediates. An id on a URI is constrained by host.',
    example: '`spiffe://other.example/…` under an authority for `company.example`',
  },
  x509_san: {
    ...REISSUE,
    says: 'the certificate must hold one SPIFFE id as its one URI name',
    means:
      'There is no URI among the subject alternative names, more than one, or one that is no SPIFFE id. A common name does not count.',
    why: 'X509-SVID §2: with two ids a certificate would be two agents.',
    agent: "Present the workload's SVID, not a server certificate.",
    operator: 'Issue one URI SAN; DNS names may stand beside it.',
    example: 'a certificate with a common name only',
  },
  x509_subject: {
    ...REISSUE,
    next: 'present the certificate that is registered, or have the registration name this one',
    says: 'the certificate is of another subject than the registered one',
    means:
      'The certificate is good, and its subject or alternative name is not the one that the registration expects (RFC 8705 §2.1).',
    why: 'An authority certifies many; the registration says which of them is this agent.',
    agent: 'Present the certificate that was issued for this agent.',
    operator: "Compare the expected name in the agent's file with the certificate, character for character.",
    example: 'the certificate of a neighbour, by the same authority',
  },
  x509_policy: {
    ...REISSUE,
    says: 'the chain is not within the limits of what is taken here',
    means:
      'Too many certificates (more than ten) or too large ones (more than 16 KB), a hash such as SHA-1, a key below 2048 bits RSA, another version than 3, or a purpose other than client authentication.',
    why: 'Weak hashes are forged, and validation is bounded so that a crafted chain costs its sender more than us.',
    agent: 'Send the leaf and its intermediates, nothing more.',
    operator: 'Issue with SHA-256, P-256 or RSA from 2048 bits, and `clientAuth` where there is an extended key usage.',
    example: 'a certificate for `serverAuth` only',
  },
  x509_signature: {
    ...REISSUE,
    says: 'a signature of the chain does not hold',
    means: 'A certificate names an authority that is there, and was not signed by its key.',
    why: 'Names are copied easily.',
    agent: 'Send the intermediates that belong to the leaf: after a rotation the old ones have the same names.',
    operator: 'Compare key ids of leaf, intermediate and bundle.',
    example: 'a new leaf with the intermediate of before the rotation',
  },
  x509_untrusted: {
    ...REISSUE,
    says: 'the chain ends at no authority that is trusted here',
    means: "No path leads from the certificate to an anchor of its trust domain's bundle.",
    why: 'Trust comes from the bundle in the configuration, not from what is sent along.',
    agent: 'Send all intermediates, leaf first.',
    operator: "Refresh the bundle in `keys/` with the platform's present one.",
    example: 'a self-signed certificate; or a missing intermediate',
  },
  x509_ca: {
    ...REISSUE,
    says: 'the chain holds an authority where a workload belongs, or the reverse',
    means: 'The leaf is marked as an authority, or an intermediate is not (or not properly).',
    why: 'A leaf that acts as an authority is how one stolen certificate becomes any certificate.',
    agent: "Present the workload's certificate.",
    operator: 'Authorities need critical basic constraints, a subject and a subject key id.',
    example: 'a leaf of which another certificate was issued',
  },
  x509_key_usage: {
    ...REISSUE,
    says: 'a certificate of the chain is for another use',
    means:
      'The leaf lacks critical key usage with `digitalSignature`, or may sign certificates; or an authority may not.',
    why: 'X509-SVID §4.3 and RFC 5280 §4.2.1.3.',
    agent: 'Nothing the agent can change.',
    operator: 'Correct the key usage in the profile by which certificates are issued.',
    example: 'a certificate for key encipherment only',
  },
  x509_critical_extension: {
    ...REISSUE,
    says: 'a certificate marks an extension as critical that is not supported here',
    means: 'A critical extension is not among those that are processed here.',
    why: 'RFC 5280 §4.2: who cannot process a critical extension must refuse the certificate.',
    agent: 'Nothing the agent can change.',
    operator: 'Issue without it, or not critical. Policy constraints are not processed.',
    example: 'critical policy constraints in an intermediate',
  },
  x509_malformed: {
    ...REISSUE,
    says: 'a certificate cannot be read',
    means: 'It is not DER, is cut short, or breaks a rule of the format (serial number 0, a length that lies).',
    why: 'What two parsers read in two ways is read by nobody here.',
    agent: 'Send DER or PEM as it was issued; look for a line break lost on the way through a proxy header.',
    example: 'a certificate cut off by a proxy at 4 KB',
  },
} as const satisfies Partial<Record<Reason, Words>>
