/**
 * node-oidc-provider doing its nearest work: token exchange (RFC 8693) is a grant of one's own there. It leaves out
 * DPoP, evidence of a platform, policy, task, revocation and the audit record; its tokens are JWTs signed with ES256.
 */
import type { RequestListener } from 'node:http'
import { importJWK, type JWK, jwtVerify } from 'jose'
import Provider from 'oidc-provider'

export interface ProviderKeys {
  /** Private: it signs. */
  readonly signing: JWK
  /** Public: of the user's issuer, and of the client that signs assertions. */
  readonly subject: JWK
  readonly client: JWK
  readonly secret: string
}

export const PEER = 'http://127.0.0.1/peer'
export const PEER_RESOURCE = 'https://desk.example.com/'
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const SCOPE = 'desk:read desk:search desk:comment'
const LIFETIME_SECONDS = 300

export async function exchangeProvider({ signing, subject, client, secret }: ProviderKeys): Promise<RequestListener> {
  const info = {
    scope: SCOPE,
    audience: PEER_RESOURCE,
    accessTokenFormat: 'jwt',
    accessTokenTTL: LIFETIME_SECONDS,
    jwt: { sign: { alg: 'ES256' } },
  } as const
  const common = {
    grant_types: [EXCHANGE],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
  }
  const provider = new Provider(PEER, {
    clients: [
      { ...common, client_id: 'secret', client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' },
      {
        ...common,
        client_id: 'key',
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: 'ES256',
        jwks: { keys: [client] },
      },
    ],
    jwks: { keys: [signing] },
    scopes: SCOPE.split(' '),
    cookies: { keys: [secret] },
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: { enabled: true, getResourceServerInfo: () => info },
    },
  })
  const key = await importJWK(subject, 'ES256')
  const resource = new provider.ResourceServer(PEER_RESOURCE, info)
  provider.registerGrantType(
    EXCHANGE,
    async (context) => {
      const { client, params } = context.oidc
      const { payload } = await jwtVerify(String(params['subject_token']), key, {
        audience: PEER,
        issuer: `${PEER}/users`,
      })
      const token = new provider.AccessToken({ accountId: payload.sub, client, gty: 'token_exchange' })
      token.resourceServer = resource
      token.scope = String(params['scope'])
      context.body = {
        access_token: await token.save(),
        issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        token_type: 'Bearer',
        expires_in: LIFETIME_SECONDS,
        scope: token.scope,
      }
    },
    ['subject_token', 'subject_token_type', 'scope', 'resource'],
  )
  return provider.callback()
}
