/**
 * Every kind of JWT that this service makes or takes, told apart by `typ`, key and slot. One table drives the code; a
 * test presents each kind in every other kind's slot.
 */
import { TYP } from '../oauth/words.ts'

export interface Kind {
  /** Lower case, without `application/`; `undefined` in the list: the header may lack it. */
  readonly typ: readonly (string | undefined)[]
  /** Whose key signs it. */
  readonly signer:
    | 'token_key'
    | 'feed_key'
    | 'checkpoint_key'
    | 'client'
    | 'user_issuer'
    | 'workload_issuer'
    | 'workload_oidc_issuer'
    | 'attester'
    | 'holder'
    | 'agent_platform'
    | 'proof_key'
    | 'id_jag_key'
    | 'txn_token_key'
    | 'release_signer'
    | 'security_event_key'
    | 'status_key'
  /** Where it may be presented to us; `attestation` and `workload` are header fields of their own. */
  readonly slots: readonly (
    | 'subject_token'
    | 'actor_token'
    | 'client_assertion'
    | 'assertion'
    | 'attestation'
    | 'attestation_proof'
    | 'workload'
    | 'workload_proof'
    | 'dpop_header'
    | 'introspected'
    | 'revocation_order'
    | 'security_event'
    | 'acknowledgement'
  )[]
}

export const KINDS = {
  access_token: { typ: [TYP.accessToken], signer: 'token_key', slots: ['subject_token', 'introspected'] },
  hand_over: { typ: [TYP.handOver], signer: 'token_key', slots: ['subject_token', 'introspected'] },
  user_access_token: { typ: [TYP.accessToken], signer: 'user_issuer', slots: ['subject_token'] },
  user_id_token: { typ: ['jwt', undefined], signer: 'user_issuer', slots: ['subject_token'] },
  client_assertion: {
    typ: ['jwt', TYP.clientAuthentication, undefined],
    signer: 'client',
    slots: ['client_assertion', 'actor_token'],
  },
  jwt_svid: { typ: ['jwt', 'jose', undefined], signer: 'workload_issuer', slots: ['client_assertion', 'actor_token'] },
  id_jag: { typ: [TYP.idJag], signer: 'user_issuer', slots: ['assertion'] },
  workload_grant: { typ: ['jwt', undefined], signer: 'agent_platform', slots: ['assertion'] },
  workload_token: {
    typ: ['jwt', undefined],
    signer: 'workload_oidc_issuer',
    slots: ['client_assertion', 'actor_token'],
  },
  client_attestation: { typ: [TYP.clientAttestation], signer: 'attester', slots: ['attestation'] },
  client_attestation_proof: { typ: [TYP.clientAttestationProof], signer: 'holder', slots: ['attestation_proof'] },
  wit_svid: { typ: [TYP.workloadIdentity], signer: 'workload_issuer', slots: ['workload', 'attestation'] },
  workload_proof: { typ: [TYP.workloadProof], signer: 'holder', slots: ['workload_proof'] },
  dpop_proof: { typ: [TYP.dpop], signer: 'proof_key', slots: ['dpop_header'] },
  own_id_jag: { typ: [TYP.idJag], signer: 'id_jag_key', slots: [] },
  txn_token: { typ: [TYP.txnToken], signer: 'txn_token_key', slots: [] },
  release_manifest: { typ: [TYP.release], signer: 'release_signer', slots: [] },
  revocation_order: { typ: [TYP.globalTokenRevocation], signer: 'user_issuer', slots: ['revocation_order'] },
  security_event: { typ: [TYP.securityEvent], signer: 'user_issuer', slots: ['security_event'] },
  own_security_event: { typ: [TYP.securityEvent], signer: 'security_event_key', slots: [] },
  status_list: { typ: [TYP.statusList], signer: 'status_key', slots: [] },
  introspection_response: { typ: [TYP.introspection], signer: 'status_key', slots: [] },
  feed_frame: { typ: [TYP.feedFrame], signer: 'feed_key', slots: [] },
  receipt: { typ: [TYP.receipt], signer: 'checkpoint_key', slots: [] },
  statement: { typ: [TYP.statement], signer: 'feed_key', slots: [] },
  acknowledgement: { typ: [TYP.acknowledgement], signer: 'client', slots: ['acknowledgement'] },
} as const satisfies Record<string, Kind>

/** RFC 7515 §4.1.9: compared without case, `application/` may be left out, parameters make it another type. */
export function plainTyp(typ: unknown): string | undefined {
  if (typeof typ !== 'string') return undefined
  const lower = typ.toLowerCase()
  return lower.startsWith('application/') ? lower.slice('application/'.length) : lower
}

/** Whether a header's `typ` is one of the table's for this slot; what kind it then is, key and claims tell. */
export const typFits = (typ: unknown, slot: Kind['slots'][number]): boolean =>
  Object.values(KINDS).some((kind: Kind) => {
    if (!kind.slots.includes(slot)) return false
    return typ === undefined ? kind.typ.includes(undefined) : kind.typ.includes(plainTyp(typ) ?? '')
  })
