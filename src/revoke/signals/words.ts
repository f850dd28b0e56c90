/** The event types of the Shared Signals Framework and of CAEP 1.0, spelt once. */

const CAEP = 'https://schemas.openid.net/secevent/caep/event-type/'
const SSF = 'https://schemas.openid.net/secevent/ssf/event-type/'

export const EVENT = {
  sessionRevoked: `${CAEP}session-revoked`, // CAEP §3.1
  tokenClaimsChange: `${CAEP}token-claims-change`, // §3.2
  credentialChange: `${CAEP}credential-change`, // §3.3
  riskLevelChange: `${CAEP}risk-level-change`, // §3.8
  verification: `${SSF}verification`, // SSF §8.1.4.1
  streamUpdated: `${SSF}stream-updated`, // SSF §8.1.5
} as const

/** RFC 8935 §2.4, RFC 8936 §2.4.4. */
export type SetError =
  | 'invalid_request'
  | 'invalid_key'
  | 'invalid_issuer'
  | 'invalid_audience'
  | 'authentication_failed'
  | 'access_denied'

export interface SetFault {
  readonly err: SetError
  readonly description: string
}
