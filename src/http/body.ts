/** Reads bodies within bounds: forms as text, JSON by the strict reader, nothing guessed from another media type. */
import { parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { Context } from 'hono'
import type { ZodType, z } from 'zod'
import { readForm } from '../exchange/token-request.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import type { Env, Knock } from './route.ts'

/** The body as text, at most so many bytes. Once per request: `formOf` and `jsonOf` read what was read then. */
export async function readBody(c: Context<Env>, most: number): Promise<Result<string>> {
  const tooLarge = refuse('body_too_large', 'request')
  const length = c.req.header('content-length')
  if (length !== undefined && Number(length) > most) return tooLarge
  try {
    // The HTTP parser holds the sender to the length it announced.
    // Bytes as they came, here as below and on the short way: `text()` would drop a byte order mark.
    if (length !== undefined) return ok(Buffer.from(await c.req.arrayBuffer()).toString('utf8'))
    const { body } = c.req.raw
    return body ? ((await readBounded(body, most)) ?? tooLarge) : ok('')
  } catch {
    // The sender went away, or was cut off for being slow: whatever is answered now, nobody reads.
    return refuse('bad_body', 'request', { detail: 'the body ended early' })
  }
}

async function readBounded(body: ReadableStream<Uint8Array>, most: number): Promise<Result<string> | undefined> {
  const reader = body.getReader()
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return ok(Buffer.concat(chunks).toString('utf8'))
    size += value.byteLength
    // Left unread, not cancelled: that would close the connection before the answer is out.
    if (size > most) return undefined
    chunks.push(value)
  }
}

const FORM = 'application/x-www-form-urlencoded'

function mediaType(c: Knock): string {
  const field = c.req.header('content-type') ?? ''
  return field === FORM ? FORM : field.split(';', 1)[0]!.trim().toLowerCase()
}

/** A bare question mark is an empty query, and none. */
const hasQuery = (url: string): boolean => url.includes('?') && new URL(url).search !== ''

const NOTHING: Result<string> = ok('')

export function formOf(c: Knock): Result<ReadonlyMap<string, readonly string[]>> {
  if (mediaType(c) !== FORM) return refuse('media_type', 'request')
  if (hasQuery(c.req.url)) return refuse('param_in_query', 'request') // RFC 6749 §2.3.1, RFC 6750 §2.3
  const text = c.get('body') ?? NOTHING
  return text.ok ? readForm(text.value) : text
}

export function jsonOf<T extends ZodType>(c: Context<Env>, schema: T): Result<z.infer<T>> {
  if (mediaType(c) !== 'application/json') return refuse('media_type', 'request')
  const text = c.get('body') ?? NOTHING
  if (!text.ok) return text
  const json = parseStrictJson(text.value, { integersOnly: false })
  if (!json.ok)
    return refuse(json.fault === 'json_limits' ? 'json_limits' : 'bad_body', 'request', {
      detail: 'not JSON as RFC 8259 and our bounds have it',
    })
  const read = schema.safeParse(json.value)
  if (read.success) return ok(read.data)
  const [issue] = read.error.issues
  const where = issue?.path.join('.') || 'body'
  return refuse('bad_body', 'request', { detail: `${where}: ${issue?.message ?? 'not of the documented form'}` })
}
