/** How many ask Vault at a time, how many wait, and how long one does: what is slow holds up a bounded number. */
import { VaultFailure } from './vault-port.ts'

export interface Lanes {
  /** Settles within the time, whatever `run` does; what it left under way keeps its lane until it ends. */
  through<T>(run: () => Promise<T>): Promise<T>
}

export function createLanes({
  lanes,
  mostWaiting,
  milliseconds,
}: {
  readonly lanes: number
  readonly mostWaiting: number
  readonly milliseconds: number
}): Lanes {
  let free = lanes
  const waiting = new Set<() => void>()

  const leave = () => {
    const [next] = waiting
    if (!next) free += 1
    else {
      waiting.delete(next)
      next()
    }
  }

  return {
    async through<T>(run: () => Promise<T>): Promise<T> {
      if (free === 0 && waiting.size >= mostWaiting) throw new VaultFailure('too many signatures wait for Vault')
      let turn: (() => void) | undefined
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          if (turn) waiting.delete(turn)
          reject(new VaultFailure(`Vault does not answer within ${milliseconds} ms`))
        }, milliseconds)
      })
      const work = async (): Promise<T> => {
        if (free > 0) free -= 1
        else
          await new Promise<void>((resolve) => {
            turn = resolve
            waiting.add(resolve)
          })
        try {
          return await run()
        } finally {
          leave()
        }
      }
      try {
        return await Promise.race([work(), late])
      } finally {
        clearTimeout(timer)
      }
    },
  }
}
