/** Protected resource metadata (RFC 9728): tells a client that knows only the tool where its tokens come from. */

export interface ResourceMetadata {
  readonly resource: string
  readonly authorization_servers: readonly string[]
  readonly bearer_methods_supported: readonly ['header']
  readonly scopes_supported?: readonly string[]
  readonly resource_name?: string
  readonly authorization_details_types_supported: readonly ['tool']
  readonly dpop_signing_alg_values_supported: readonly string[]
  readonly dpop_bound_access_tokens_required: boolean
  readonly tls_client_certificate_bound_access_tokens?: true
}

/** RFC 9728 §3.1: the well-known part stands between host and path, and a path that is only a slash goes. */
export function metadataUrl(resource: string): URL {
  const url = new URL(resource)
  url.pathname = `/.well-known/oauth-protected-resource${url.pathname === '/' ? '' : url.pathname}`
  return url
}
