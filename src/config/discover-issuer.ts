/** Finds the keys of a user issuer from its metadata (OpenID Connect Discovery, RFC 8414), fetched as JWKS are. */
import { urlProblem } from './addresses.ts'
import type { Fetched, FetchJwks } from './fetch-jwks.ts'
import { type KeyAlgorithm, readPublicKeys } from './jwks.ts'

const ALGORITHMS: readonly KeyAlgorithm[] = ['ES256', 'EdDSA', 'RS256', 'PS256', 'ES384']

export interface DiscoveredIssuer {
  readonly issuer: string
  readonly jwksUri: string
  /** What its published keys sign with. */
  readonly algorithms: readonly KeyAlgorithm[]
  /** Unix seconds by its own clock, where it says. */
  readonly time?: number
}

export type Discovery =
  | { readonly ok: true; readonly value: DiscoveredIssuer }
  | {
      readonly ok: false
      readonly why: string
      /** What it calls itself, where that is not what was asked for (RFC 8414 §3.3). */
      readonly callsItself?: string
    }

export async function discoverIssuer(
  issuer: string,
  { fetch, development }: { readonly fetch: FetchJwks; readonly development: boolean },
): Promise<Discovery> {
  const fault = urlProblem(issuer, { development })
  if (fault !== undefined) return { ok: false, why: `the issuer ${fault}` }
  let last: Discovery = { ok: false, why: 'it has no metadata' }
  for (const url of metadataUrls(issuer)) {
    const fetched = await tried(fetch, url)
    if (typeof fetched === 'string') {
      last = { ok: false, why: `${url}: ${fetched}` }
      continue
    }
    return read(issuer, fetched, { fetch, development })
  }
  return last
}

/** Which keys a JWKS holds that can be used, and the algorithms they are of. */
export function usableAlgorithms(
  text: string,
  named: readonly KeyAlgorithm[] = ALGORITHMS,
): { readonly ok: true; readonly algorithms: readonly KeyAlgorithm[] } | { readonly ok: false; readonly why: string } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { ok: false, why: 'its keys are not JSON' }
  }
  // RSA keys that do not say their algorithm are pinned to the common one.
  const tries = [named, named.filter((each) => each !== 'PS256'), ALGORITHMS.filter((each) => each !== 'PS256')]
  let why = ''
  for (const algorithms of tries) {
    const keys = readPublicKeys(value, algorithms)
    if (keys.ok) return { ok: true, algorithms: [...new Set(keys.keys.map(({ alg }) => alg as KeyAlgorithm))].sort() }
    why ||= keys.why
  }
  return { ok: false, why: `its keys: ${why}` }
}

/** OpenID Connect Discovery §4 appends, RFC 8414 §3 inserts; many serve only one of the two. */
function metadataUrls(issuer: string): readonly string[] {
  const url = new URL(issuer)
  const path = url.pathname.replace(/\/$/, '')
  return [
    `${url.origin}${path}/.well-known/openid-configuration`,
    `${url.origin}/.well-known/oauth-authorization-server${path}`,
  ]
}

async function read(
  issuer: string,
  { text, time }: Fetched,
  { fetch, development }: { readonly fetch: FetchJwks; readonly development: boolean },
): Promise<Discovery> {
  let metadata: unknown
  try {
    metadata = JSON.parse(text)
  } catch {
    return { ok: false, why: 'its metadata is not JSON' }
  }
  const {
    issuer: named,
    jwks_uri: jwksUri,
    id_token_signing_alg_values_supported: signing,
  } = (metadata ?? {}) as {
    readonly [name: string]: unknown
  }
  if (named !== issuer)
    return {
      ok: false,
      why: 'its metadata names another issuer',
      ...(typeof named === 'string' && named.length <= 2048 && urlProblem(named, { development }) === undefined
        ? { callsItself: named }
        : {}),
    }
  if (typeof jwksUri !== 'string') return { ok: false, why: 'its metadata names no jwks_uri' }
  const fault = urlProblem(jwksUri, { development })
  if (fault !== undefined) return { ok: false, why: `its jwks_uri ${fault}` }
  const keys = await tried(fetch, jwksUri)
  if (typeof keys === 'string') return { ok: false, why: `${jwksUri}: ${keys}` }
  const said = Array.isArray(signing) ? ALGORITHMS.filter((each) => signing.includes(each)) : []
  const usable = usableAlgorithms(keys.text, said.length > 0 ? said : ALGORITHMS)
  if (!usable.ok) return usable
  return {
    ok: true,
    value: { issuer, jwksUri, algorithms: usable.algorithms, ...(time === undefined ? {} : { time }) },
  }
}

/** The answer, or why there was none. */
const tried = (fetch: FetchJwks, url: string): Promise<Fetched | string> =>
  fetch(url).catch((error: unknown) => {
    const { code, message } = error as { readonly code?: unknown; readonly message?: string }
    return typeof code === 'string' ? code : (message ?? 'not fetched')
  })
