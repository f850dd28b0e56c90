/**
 * Each issuer of a service begins two requests in one turn of the event loop; what more of one comes waits in a line of
 * its own. An exchange takes several turns (its body, the journal, the log), and each is as long as all that is worked
 * on in it: a burst of a neighbour, within its quota, would cost it several times that burst.
 */
import type { IncomingMessage } from 'node:http'

export interface FairTurns {
  /**
   * Calls `begin`, now or in a later turn, and not at all where the caller goes away before. `isFirst`: before whatever
   * else of `whose` waits. How many may wait is for the limits of each app to say, which ask `waiting`.
   */
  begin(whose: string, incoming: IncomingMessage, begin: () => void, isFirst?: boolean): void
  /** How many of `whose` wait. */
  waiting(whose: string): number
}

/** Of one that is not flooded there are seldom more; one alone helped the others no further, four cost them more. */
const MOST_IN_ONE_TURN = 2

interface Line {
  /** A set keeps the order of arrival, and lets anybody leave. */
  readonly first: Set<() => void>
  readonly others: Set<() => void>
  /** In this turn. */
  begun: number
}

/** `nextTurn` runs what it is given when all that could be read in this turn was read: `setImmediate` does. */
export function createFairTurns({ nextTurn }: { readonly nextTurn: (run: () => void) => void }): FairTurns {
  /** Of whoever began something in this turn, or waits. */
  const lines = new Map<string, Line>()
  const waitingIn = ({ first, others }: Line): number => first.size + others.size

  function beginNext(line: Line): void {
    const { first, others } = line
    const [next] = first.size > 0 ? first : others
    if (!next || line.begun >= MOST_IN_ONE_TURN) return
    line.begun += 1
    next()
  }

  function turn(): void {
    // One of each, then one more of each: nobody's second goes before another's first.
    for (let round = 0; round < MOST_IN_ONE_TURN; round++) for (const line of lines.values()) beginNext(line)
    for (const [whose, line] of lines) {
      if (waitingIn(line) === 0) lines.delete(whose)
      line.begun = 0
    }
    if (lines.size > 0) nextTurn(turn)
  }

  return {
    begin(whose, incoming, begin, isFirst = false) {
      let line = lines.get(whose)
      if (!line) {
        if (lines.size === 0) nextTurn(turn)
        line = { first: new Set(), others: new Set(), begun: 0 }
        lines.set(whose, line)
      }
      if (line.begun < MOST_IN_ONE_TURN && waitingIn(line) === 0) {
        line.begun += 1
        return begin()
      }
      const queue = isFirst ? line.first : line.others
      const leave = () => {
        queue.delete(next)
        incoming.off('close', leave)
      }
      const next = () => {
        leave()
        begin()
      }
      incoming.once('close', leave)
      queue.add(next)
    },
    waiting(whose) {
      const line = lines.get(whose)
      return line ? waitingIn(line) : 0
    },
  }
}
