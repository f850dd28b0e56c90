/** The little of node-oidc-provider that the benchmark uses; the package ships no types. */
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http'

  interface Context {
    readonly oidc: { readonly client: object; readonly params: { readonly [name: string]: string | undefined } }
    body: object
  }
  interface ResourceServerInfo {
    readonly scope: string
    readonly audience: string
    readonly accessTokenFormat: 'jwt'
    readonly accessTokenTTL: number
    readonly jwt: { readonly sign: { readonly alg: string } }
  }
  export default class Provider {
    constructor(issuer: string, configuration: object)
    readonly AccessToken: new (
      values: object,
    ) => {
      resourceServer: object
      scope: string
      save(): Promise<string>
    }
    readonly ResourceServer: new (
      identifier: string,
      info: ResourceServerInfo,
    ) => object
    registerGrantType(name: string, handler: (context: Context) => Promise<void>, parameters: readonly string[]): void
    callback(): (request: IncomingMessage, response: ServerResponse) => void
  }
}
