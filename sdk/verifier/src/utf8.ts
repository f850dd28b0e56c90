/** Bytes as text. A byte order mark stays in it, for whoever parses the text to refuse. */

export function utf8Text(chunks: readonly Uint8Array[]): string {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join('') + decoder.decode()
}

/** A text of its own: what was cut out of a longer one keeps all of that in memory. */
export const apart = (text: string): string => decoder.decode(encoder.encode(text))
const encoder = new TextEncoder()
const decoder = new TextDecoder()
