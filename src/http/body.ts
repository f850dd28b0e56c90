/** Reads bodies within bounds: forms as text, JSON by the strict reader, nothing guessed from another media type. */
import { parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { Context } from 'hono'
import type { ZodType, z } from 'zod'
import { readForm } from '../exchange/token-request.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import type { Env } from './route.ts'

async function readText(c: Context<Env>, most: number): Promise<Result<string>> {
  const tooLarge = refuse('body_too_large', 'request')
  const length = c.req.header('content-length')
  if (length !== undefined) {
    if (Number(length) > most) return tooLarge
    // The HTTP parser holds the sender to the length it announced.
    return ok(await c.req.text())
  }
  const { body } = c.req.raw
  if (!body) return ok('')
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength
    if (size > most) return tooLarge
    chunks.push(chunk)
  }
  return ok(Buffer.concat(chunks).toString('utf8'))
}

const mediaType = (c: Context<Env>): string =>
  (c.req.header('content-type') ?? '').split(';', 1)[0]!.trim().toLowerCase()

export async function formOf(c: Context<Env>, most: number): Promise<Result<ReadonlyMap<string, readonly string[]>>> {
  if (mediaType(c) !== 'application/x-www-form-urlencoded') return refuse('media_type', 'request')
  if (new URL(c.req.url).search !== '') return refuse('param_in_query', 'request') // RFC 6749 §2.3.1, RFC 6750 §2.3
  const text = await readText(c, most)
  return text.ok ? readForm(text.value) : text
}

export async function jsonOf<T extends ZodType>(c: Context<Env>, most: number, schema: T): Promise<Result<z.infer<T>>> {
  if (mediaType(c) !== 'application/json') return refuse('media_type', 'request')
  const text = await readText(c, most)
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
