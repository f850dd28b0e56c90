/** The one way the verifier fetches: no redirects, a time-out, a bounded answer. */
import { quietTimer } from './timer.ts'
import { utf8Text } from './utf8.ts'

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

/** Nothing that a relay is sent or sends is secret, and what it sends is signed: http will do. */
export function checkFeedUrl(text: string): void {
  const { protocol, username, password, search, hash } = new URL(text)
  if ((protocol !== 'https:' && protocol !== 'http:') || username || password || search || hash)
    throw new TypeError('feed and files must be URLs by https or http, without user, query or fragment')
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
  const { signal } = options
  // Not AbortSignal.any: a long-lived signal would keep what each request made of it.
  const ending = new AbortController()
  const abort = () => ending.abort()
  const timer = quietTimer(abort, options.timeoutMs)
  signal?.addEventListener('abort', abort)
  if (signal?.aborted) abort()
  try {
    const response = await open(fetch, url, {
      method: options.method ?? 'GET',
      signal: ending.signal,
      ...(options.headers ? { headers: options.headers } : {}),
      ...(options.body === undefined ? {} : { body: options.body }),
    })
    return { status: response.status, headers: response.headers, text: await readBounded(response, options.maxBytes) }
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

async function readBounded(response: Response, maxBytes: number): Promise<string> {
  const reader = response.body?.getReader()
  if (!reader) return ''
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      size += next.value.byteLength
      if (size > maxBytes) {
        await reader.cancel()
        throw new ServiceUnavailable(`an answer of more than ${maxBytes} bytes`)
      }
      chunks.push(next.value)
    }
  } catch (cause) {
    if (cause instanceof ServiceUnavailable) throw cause
    throw new ServiceUnavailable('the answer broke off', { cause })
  }
  return utf8Text(chunks)
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
