/** The one way the verifier fetches: no redirects, a time-out, a bounded answer. */

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>

/** The service could not be asked, or gave an answer that is none. Its message holds no secret. */
export class ServiceUnavailable extends Error {
  readonly status: number | undefined
  constructor(message: string, options: { readonly cause?: unknown; readonly status?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'ServiceUnavailable'
    this.status = options.status
  }
}

export interface FetchOptions {
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly timeoutMs: number
  readonly maxBytes: number
  readonly signal?: AbortSignal
}

export interface Fetched {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** Only https, or http to this machine: a proof or an assertion never crosses a network in the clear. */
export function checkServiceUrl(text: string): URL {
  const url = new URL(text)
  const loopback = ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback))
    throw new TypeError(
      `the service must be reached by https (or by http on loopback), not ${url.protocol}//${url.host}`,
    )
  if (url.username || url.password || url.search || url.hash)
    throw new TypeError('the URL of the service may hold no user, query or fragment')
  return url
}

/** `base` with or without its last slash; `path` begins with one. */
export const endpoint = (base: string, path: string): string => `${base.replace(/\/$/, '')}${path}`

/** Opens the request; throws `ServiceUnavailable` for anything but an answer. */
export async function open(fetch: Fetch, url: string, init: RequestInit): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, { ...init, redirect: 'manual' })
  } catch (cause) {
    throw new ServiceUnavailable(`no answer from ${url.split('?', 1)[0]}`, { cause })
  }
  if (
    response.type === 'opaqueredirect' ||
    (response.status >= 300 && response.status < 400 && response.status !== 304)
  ) {
    await response.body?.cancel()
    throw new ServiceUnavailable('redirects are not followed', { status: response.status })
  }
  return response
}

export async function fetchText(fetch: Fetch, url: string, options: FetchOptions): Promise<Fetched> {
  const timeout = AbortSignal.timeout(options.timeoutMs)
  const response = await open(fetch, url, {
    method: options.method ?? 'GET',
    signal: options.signal ? AbortSignal.any([timeout, options.signal]) : timeout,
    ...(options.headers ? { headers: options.headers } : {}),
    ...(options.body === undefined ? {} : { body: options.body }),
  })
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = response.body?.getReader()
  try {
    while (reader) {
      const { done, value } = await reader.read()
      if (done) break
      size += value.byteLength
      if (size > options.maxBytes) {
        await reader.cancel()
        throw new ServiceUnavailable(`an answer of more than ${options.maxBytes} bytes`)
      }
      chunks.push(value)
    }
  } catch (cause) {
    if (cause instanceof ServiceUnavailable) throw cause
    throw new ServiceUnavailable('the answer broke off', { cause })
  }
  return { status: response.status, headers: response.headers, text: Buffer.concat(chunks).toString('utf8') }
}

/** The answer's JSON object where the status is 200; otherwise throws. */
export function jsonObject({ status, text }: Fetched): { readonly [name: string]: unknown } {
  if (status !== 200) throw new ServiceUnavailable(`the service answered ${status}`, { status })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new ServiceUnavailable('the answer is not JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ServiceUnavailable('the answer is not a JSON object')
  return value as { readonly [name: string]: unknown }
}
