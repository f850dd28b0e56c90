/** A bad connection between two programs on this machine: slow, trickling, cut, silent or reset, as long as asked. */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

export type Fault =
  | 'none'
  /** Everything arrives two seconds late, both ways. */
  | 'delay'
  /** One byte a second, both ways. */
  | 'trickle'
  /** What is open is closed, and so is whatever is opened. */
  | 'cut'
  /** Connections stay open, new ones too, and nothing passes any more, nor ever will on them. */
  | 'half-open'
  /** As cut, by RST. */
  | 'reset'

export const FAULTS: readonly Exclude<Fault, 'none'>[] = ['delay', 'trickle', 'cut', 'half-open', 'reset']
const DELAY_MS = 2_000

export interface BadLine {
  readonly port: number
  /** How connections are from now on. */
  become(fault: Fault): void
  /** Connections that the near side has not given up. */
  open(): number
  close(): Promise<void>
}

interface Pair {
  readonly near: Socket
  readonly far: Socket
  /** Lost for ever: bytes went missing on it. */
  silent: boolean
}

export async function openProxy(target: { readonly port: number; readonly host?: string }): Promise<BadLine> {
  let fault: Fault = 'none'
  const pairs = new Set<Pair>()

  const end = ({ near, far }: Pair, abruptly: boolean): void => {
    for (const socket of [near, far])
      if (abruptly) socket.resetAndDestroy()
      else socket.destroy()
  }

  function pass(pair: Pair, from: Socket, to: Socket): void {
    // One direction, in order: what came later does not overtake what is held up.
    let last: Promise<void> = Promise.resolve()
    from.on('data', (bytes: Buffer) => {
      const arrived = performance.now()
      last = last.then(async () => {
        if (fault === 'half-open') pair.silent = true
        if (pair.silent) return
        if (fault === 'delay') await pause(Math.max(0, arrived + DELAY_MS - performance.now()))
        let rest = bytes
        while (fault === 'trickle' && rest.length > 0 && !to.destroyed) {
          to.write(rest.subarray(0, 1))
          rest = rest.subarray(1)
          await pause(1_000)
        }
        if (rest.length > 0 && !to.destroyed) to.write(rest)
      })
    })
    from.on('end', () => {
      void last.then(() => pair.silent || to.end())
    })
    from.on('error', () => undefined)
    from.on('close', () => {
      void last.then(() => {
        if (!pair.silent) to.destroy()
        if (pair.near.destroyed && pair.far.destroyed) pairs.delete(pair)
      })
    })
  }

  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    if (fault === 'cut' || fault === 'reset') {
      near.on('error', () => undefined)
      if (fault === 'reset') near.resetAndDestroy()
      else near.destroy()
      return
    }
    const far = connect({ port: target.port, host: target.host ?? '127.0.0.1', allowHalfOpen: true })
    const pair: Pair = { near, far, silent: fault === 'half-open' }
    pairs.add(pair)
    pass(pair, near, far)
    pass(pair, far, near)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }

  return {
    port,
    become(next) {
      fault = next
      if (next === 'half-open') for (const pair of pairs) pair.silent = true
      if (next === 'cut' || next === 'reset') for (const pair of pairs) end(pair, next === 'reset')
    },
    open: () => [...pairs].filter(({ near }) => !near.destroyed && !near.readableEnded).length,
    close: async () => {
      for (const pair of pairs) end(pair, false)
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
