/**
 * Answers a flood a moment late. Who is turned away is told to come back in a second or more, so the moment costs an
 * honest caller nothing; one that sends its next request when the last is answered is slowed by it to what its
 * connections allow, and the processor time of all those noes is left to others.
 */
import type { ServerResponse } from 'node:http'

export interface Tarpit {
  /** Calls `answer` a moment later, or at once where many wait already; not at all where the caller has gone. */
  later(outgoing: ServerResponse, answer: () => void): void
}

const HOLD_MS = 100
/** A proxy in front holds a connection for each: not more than it can spare. */
const MOST = 256

export function createTarpit(): Tarpit {
  let held = 0
  return {
    later(outgoing, answer) {
      if (held >= MOST) return answer()
      held += 1
      const leave = () => {
        held -= 1
        outgoing.off('close', gone)
      }
      const gone = () => {
        clearTimeout(timer)
        leave()
      }
      const timer = setTimeout(() => {
        leave()
        answer()
      }, HOLD_MS)
      outgoing.once('close', gone)
    },
  }
}
