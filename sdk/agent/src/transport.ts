/** What this package needs of a fetch to speak to the service: text out, a bounded answer in. */

export type Transport = (
  url: string,
  init: {
    readonly method: string
    readonly headers: Record<string, string>
    readonly body?: string
    readonly signal?: AbortSignal
    readonly redirect: 'manual'
  },
) => Promise<Response>

export const MAX_ANSWER_BYTES = 262_144

/** The answer's text; throws where it is longer than anything the service sends. */
export async function boundedText(response: Response): Promise<string> {
  if (!response.body) return ''
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength
    // Leaving the loop cancels the stream.
    if (size > MAX_ANSWER_BYTES) throw new Error('the answer is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** `Retry-After` in seconds (RFC 9110 §10.2.3: a number or a date). */
export function retryAfterSeconds(headers: { get(name: string): string | null }, now: number): number | undefined {
  const text = headers.get('retry-after')
  if (text === null) return undefined
  if (/^[0-9]{1,9}$/.test(text)) return Number(text)
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil(date / 1000 - now))
}
