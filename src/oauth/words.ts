/** The words of the specifications, spelt once. */

export const GRANT = {
  exchange: 'urn:ietf:params:oauth:grant-type:token-exchange', // RFC 8693 §2.1
  clientCredentials: 'client_credentials', // RFC 6749 §4.4
  jwtBearer: 'urn:ietf:params:oauth:grant-type:jwt-bearer', // RFC 7523 §2.1
} as const

export const TOKEN_TYPE = {
  accessToken: 'urn:ietf:params:oauth:token-type:access_token', // RFC 8693 §3
  refreshToken: 'urn:ietf:params:oauth:token-type:refresh_token',
  idToken: 'urn:ietf:params:oauth:token-type:id_token',
  saml1: 'urn:ietf:params:oauth:token-type:saml1',
  saml2: 'urn:ietf:params:oauth:token-type:saml2',
  jwt: 'urn:ietf:params:oauth:token-type:jwt',
  idJag: 'urn:ietf:params:oauth:token-type:id-jag', // draft-ietf-oauth-identity-assertion-authz-grant
  txnToken: 'urn:ietf:params:oauth:token-type:txn_token', // draft-ietf-oauth-transaction-tokens
  /** Ours: a one-use token that hands part of a task to one named agent. */
  handOver: 'urn:errand:params:oauth:token-type:hand-over',
} as const

export const ASSERTION_TYPE = {
  jwtBearer: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer', // RFC 7523 §2.2
  jwtSpiffe: 'urn:ietf:params:oauth:client-assertion-type:jwt-spiffe', // draft-ietf-oauth-spiffe-client-auth
} as const

/** draft-ietf-oauth-identity-assertion-authz-grant, *Resource Authorization Server Metadata*. */
export const GRANT_PROFILE = { idJag: 'urn:ietf:params:oauth:grant-profile:id-jag' } as const

export const TYP = {
  clientAttestation: 'oauth-client-attestation+jwt', // draft-ietf-oauth-attestation-based-client-auth §4
  clientAttestationProof: 'oauth-client-attestation-pop+jwt', // §5.1
  workloadIdentity: 'wit+jwt', // draft-ietf-wimse-workload-creds, SPIFFE WIT-SVID §2.2
  workloadProof: 'wpt+jwt', // draft-ietf-wimse-wpt §2
  accessToken: 'at+jwt', // RFC 9068 §2.1
  dpop: 'dpop+jwt', // RFC 9449 §4.2
  clientAuthentication: 'client-authentication+jwt', // RFC 7523bis
  handOver: 'errand-handover+jwt',
  idJag: 'oauth-id-jag+jwt', // draft-ietf-oauth-identity-assertion-authz-grant
  txnToken: 'txntoken+jwt', // draft-ietf-oauth-transaction-tokens
  feedFrame: 'errand-frame+jwt',
  statement: 'errand-now+jwt',
  acknowledgement: 'errand-ack+jwt',
  introspection: 'token-introspection+jwt', // RFC 9701 §5
  statusList: 'statuslist+jwt', // draft-ietf-oauth-status-list §5.1
  release: 'errand-release+jwt',
  receipt: 'errand-receipt+jwt',
  securityEvent: 'secevent+jwt', // RFC 8417 §2.3
  /** With it an identity provider authenticates at the endpoint of draft-parecki-oauth-global-token-revocation. */
  globalTokenRevocation: 'global-token-revocation+jwt',
} as const
