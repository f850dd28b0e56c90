/**
 * The one place that speaks to Vault or OpenBao: node-vault by `read` and `write`, never by its commands, over a
 * transport of our own. Its own one follows redirects with the token, waits for ever, and puts token and body into its
 * errors; its logins replace the token of the client; its debug output shows what is written.
 */
import { type Fetch, fetchText } from '@errand/verifier/http.ts'
import type { VaultError as ErrorOfNodeVault } from 'node-vault'

/** What kept Vault from doing it, without anything of what was asked. */
export class VaultFailure extends Error {
  /** Absent where nobody answered. */
  readonly status: number | undefined
  constructor(what: string, status?: number) {
    super(what)
    this.name = 'VaultFailure'
    this.status = status
  }
}

export type Json = Readonly<Record<string, unknown>>

export interface VaultPort {
  read(path: VaultPath): Promise<Json>
  /** Answers the body, an empty object where there is none, and throws `VaultFailure`. */
  write(path: VaultPath, data: Json, timeoutMs?: number): Promise<Json>
}

/** Segments, from configuration alone: none of them can mean anything else in a path. */
export type VaultPath = readonly string[]
const SEGMENT = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/

export interface VaultPortDeps {
  readonly address: string
  readonly namespace?: string | undefined
  /** Absent for a login. */
  readonly token?: string
  readonly fetch: Fetch
  readonly timeoutMs: number
}

const MAX_ANSWER_BYTES = 1_048_576

export async function createVaultPort(deps: VaultPortDeps): Promise<VaultPort> {
  // Loaded where somebody has a Vault: with its own HTTP client, which is never used, it is large.
  const { default: nodeVault } = await import('node-vault')
  const client = nodeVault({
    endpoint: deps.address,
    debug: () => undefined,
    'request-promise': { defaults: () => transport(deps) },
  })
  // Its options fall back on the environment, these do not.
  Object.assign(client, { token: deps.token, namespace: deps.namespace, pathPrefix: '', endpoint: deps.address })

  const asking = async (path: VaultPath, ask: (path: string) => Promise<unknown>): Promise<Json> => {
    const odd = path.find((segment) => !SEGMENT.test(segment))
    if (odd !== undefined || path.length === 0) throw new VaultFailure('not a path in Vault')
    const body = await ask(path.join('/')).catch((error: unknown): never => {
      if (error instanceof VaultFailure) throw error
      const { statusCode, body } =
        (error as ErrorOfNodeVault & { response?: { statusCode?: unknown; body?: unknown } }).response ?? {}
      if (typeof statusCode !== 'number') throw new VaultFailure('Vault could not be asked')
      const status = statusCode === 400 && isNothingThere(body) ? 404 : statusCode
      throw new VaultFailure(`Vault answered ${status}`, status)
    })
    return typeof body === 'object' && body !== null ? (body as Json) : {}
  }
  return {
    read: (path) => asking(path, (text) => client.read(text)),
    write: (path, data, timeout) =>
      asking(path, (text) => client.write(text, data, timeout === undefined ? {} : { timeout })),
  }
}

/** Transit says so with 400, as it says everything else; of what Vault says no more than this is ever read. */
function isNothingThere(body: unknown): boolean {
  const errors = (body as { readonly errors?: unknown } | null | undefined)?.errors
  return Array.isArray(errors) && /^(?:(?:encryption|signing) )?key not found$/.test(String(errors[0]))
}

interface RequestOfNodeVault {
  readonly uri: string
  readonly method: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  readonly timeout?: number
}

const transport =
  ({ fetch, timeoutMs }: VaultPortDeps) =>
  async ({ uri, method, headers, json, timeout }: RequestOfNodeVault) => {
    const { pathname } = new URL(uri)
    const body = method === 'POST' && typeof json === 'object' ? { body: JSON.stringify(json) } : {}
    const answer = await fetchText(fetch, uri, {
      method,
      timeoutMs: timeout ?? timeoutMs,
      maxBytes: MAX_ANSWER_BYTES,
      headers: { ...headers, 'content-type': 'application/json', 'x-vault-request': 'true' },
      ...body,
    }).catch((error: Error & { status?: number }): never => {
      throw error.status === undefined
        ? new VaultFailure('Vault does not answer')
        : new VaultFailure(`Vault answered ${error.status}, and redirects are not followed`, error.status)
    })
    return { statusCode: answer.status, body: jsonOf(answer.text), request: { path: pathname } }
  }

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
