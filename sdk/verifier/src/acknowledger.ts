/** Tells the service how far this verifier has come: soon after it moved, and now and then to say that it lives. */
import type { Acknowledgement } from './client.ts'
import { quietTimer } from './timer.ts'

const ACK_DEBOUNCE_MS = 200
/** What is said again: one that waits for us can tell that we live. */
const ACK_AGAIN_MS = 60_000

export interface Acknowledger {
  /** Something may be new; cheap, called for each frame. */
  look(): void
  /** Whoever was told before has forgotten it, or must be told more. */
  again(): void
  /** Says that this process ends, without being waited for. */
  close(): void
}

export interface AcknowledgerDeps {
  /** Undefined before there is anything to say. */
  readonly epoch: () => string | undefined
  readonly say: () => Omit<Acknowledgement, 'epoch'>
  readonly send: (said: Acknowledgement) => Promise<void>
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly onProblem: (problem: unknown) => void
}

export function createAcknowledger({ epoch, say, send, monotonic, onProblem }: AcknowledgerDeps): Acknowledger {
  let acknowledged: string | undefined
  let acknowledgedAt = Number.NEGATIVE_INFINITY
  let timer: ReturnType<typeof setTimeout> | undefined
  let closed = false

  function look(): void {
    const here = epoch()
    const recent = monotonic() - acknowledgedAt < ACK_AGAIN_MS
    if (here === undefined || timer || closed || (recent && here === acknowledged)) return
    timer = quietTimer(async () => {
      const now = epoch() ?? here
      let sent = false
      acknowledged = now
      try {
        await send({ epoch: now, ...say() })
        acknowledgedAt = monotonic()
        sent = true
      } catch (error) {
        acknowledged = undefined
        onProblem(error) // the next heartbeat tries again
      }
      timer = undefined
      if (sent) look()
    }, ACK_DEBOUNCE_MS)
  }

  return {
    look,
    again() {
      acknowledged = undefined
    },
    close() {
      clearTimeout(timer)
      if (!closed && acknowledged !== undefined)
        send({ epoch: acknowledged, ...say(), leaving: true }).catch(() => undefined)
      closed = true
    },
  }
}
