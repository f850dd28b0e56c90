/**
 * Questions of now, of many readers in one: while one is at the service the next gathers, so that no number of readers,
 * and no flood of anything else, keeps the honest ones from being answered.
 */
import { ServiceUnavailable } from '@errand/verifier/http.ts'
import { isNonce, MAX_NONCES } from './statement.ts'

/** Nonces that come close together are asked in one question: that much older is what is answered. */
const GATHER_MS = 5
/** Between two questions: the service counts what one address asks of it. */
const EVERY_MS = 40
/** All of them are in one request line, which the service bounds. */
const MAX_LINE = 8_192
/** Of readers that wait: more are told to come again. */
const MAX_BATCHES = 16

export interface RelayStatementsDeps {
  /** The service's statement over these nonces, verified. */
  readonly ask: (nonces: readonly string[]) => Promise<string>
  readonly pause: (milliseconds: number) => Promise<void>
  /** Milliseconds. */
  readonly monotonic: () => number
}

interface Batch {
  readonly nonces: Set<string>
  characters: number
  readonly answer: Promise<string>
}

/** Answers undefined where it is no nonce; rejects with `ServiceUnavailable` where the service cannot be asked. */
export function createRelayStatements({
  ask,
  pause,
  monotonic,
}: RelayStatementsDeps): (nonce: string) => Promise<string | undefined> {
  let gathering: Batch | undefined
  let waiting = 0
  let busy: Promise<unknown> = Promise.resolve()
  let askedAt = Number.NEGATIVE_INFINITY

  function openBatch(): Batch {
    if (waiting >= MAX_BATCHES) throw new ServiceUnavailable('too many questions of now at once')
    waiting += 1
    const nonces = new Set<string>()
    const batch: Batch = {
      nonces,
      characters: 0,
      answer: busy.then(async () => {
        await pause(Math.max(GATHER_MS, askedAt + EVERY_MS - monotonic()))
        // Closed before it is sent: what is stamped was stamped after every nonce in it was made.
        if (gathering === batch) gathering = undefined
        waiting -= 1
        askedAt = monotonic()
        return ask([...nonces])
      }),
    }
    busy = batch.answer.catch(() => undefined)
    return batch
  }

  return async (nonce) => {
    if (!isNonce(nonce)) return undefined
    const fits = (batch: Batch) =>
      batch.nonces.has(nonce) || (batch.nonces.size < MAX_NONCES && batch.characters + nonce.length + 1 <= MAX_LINE)
    if (!gathering || !fits(gathering)) gathering = openBatch()
    const batch = gathering
    if (!batch.nonces.has(nonce)) {
      batch.nonces.add(nonce)
      batch.characters += nonce.length + 1
    }
    return batch.answer
  }
}
