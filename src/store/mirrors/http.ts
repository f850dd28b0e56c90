/** A mirror that takes batches of lines by POST; the same batch again has the same `Idempotency-Key`. */
import { readFile } from 'node:fs/promises'
import type { MirroredRecord, MirrorSink } from '../../audit/mirror.ts'
import type { SendGuarded } from '../../config/guarded-request.ts'

const TOKEN = /^[\x21-\x7e]{1,4096}$/

export function createHttpSink(deps: {
  readonly uri: string
  readonly logId: string
  readonly line: (record: MirroredRecord) => string
  readonly post: SendGuarded
  readonly authorities?: readonly Uint8Array[]
  /** Read anew each time: whoever rotates it needs no restart. */
  readonly bearerFile?: string
}): MirrorSink {
  const { uri, logId, line, post, authorities, bearerFile } = deps
  const authorization = async (): Promise<Record<string, string>> => {
    if (bearerFile === undefined) return {}
    const token = (await readFile(bearerFile, 'utf8')).trim()
    if (!TOKEN.test(token)) throw new Error('the file of the bearer token holds none')
    return { authorization: `Bearer ${token}` }
  }
  return {
    send: async (batch) => {
      const headers = {
        ...(await authorization()),
        'idempotency-key': `${logId}-${batch[0]!.index}-${batch.at(-1)!.index}`,
      }
      const { status } = await post({
        uri,
        headers,
        body: { type: 'application/x-ndjson', text: batch.map((record) => `${line(record)}\n`).join('') },
        ...(authorities === undefined ? {} : { trust: { authorities } }),
      })
      if (status < 200 || status > 299) throw new Error(`it answered ${status}`)
    },
    close: async () => true,
  }
}
