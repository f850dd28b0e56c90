/**
 * A mirror that takes syslog over TCP (RFC 6587) or TLS (RFC 5425). Nobody acknowledges there. But who ends a connection
 * in answer to its end has read what came before; so the connection is ended now and then, and the next record makes another.
 */
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { MirroredRecord, MirrorSink } from '../../audit/mirror.ts'

const TIMEOUT_MS = 5_000
const CONFIRM_MS = 10_000
const CLOSE_MS = 1_000
/** More than one way there and back: an end that the peer made on its own is here before ours leaves. */
const QUIET_MS = 200

export interface SyslogTarget {
  readonly host: string
  readonly port: number
  /** Absent over plain TCP; `ca` where not the system's authorities vouch for the peer. */
  readonly tls?: { readonly ca?: string }
  /** Judges where the name leads when connecting. */
  readonly lookup: LookupFunction
}

export function createSyslogSink(target: SyslogTarget, frame: (record: MirroredRecord) => Buffer): MirrorSink {
  let socket: Socket | undefined
  let lost: () => void = () => undefined
  let quiet: Promise<unknown> = Promise.resolve()

  const connected = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const { host, port, tls, lookup } = target
      const options = { host, port, lookup, timeout: TIMEOUT_MS }
      const made = tls
        ? connectTls({
            ...options,
            minVersion: 'TLSv1.2',
            // RFC 6066 §3: an address is no server name.
            ...(isIP(host) ? {} : { servername: host }),
            ...(tls.ca ? { ca: tls.ca } : {}),
          })
        : connectTcp(options)
      made.once(tls ? 'secureConnect' : 'connect', () => {
        made.setTimeout(0)
        made.setKeepAlive(true, 10_000)
        socket = made
        resolve(made)
      })
      made.once('timeout', () => made.destroy(new Error('no connection in time')))
      made.on('error', reject)
      made.once('close', () => {
        reject(new Error('the connection was closed'))
        if (socket !== made) return
        socket = undefined
        lost()
      })
      // It has nothing to say, but its end must be heard.
      made.resume()
    })

  /** Resolves with whether the peer ended the connection because we did. */
  const concluded = async (withinMs: number): Promise<boolean> => {
    const open = socket
    await quiet
    // What has arrived by now is read before this runs.
    await new Promise((resolve) => setImmediate(resolve))
    if (!open || socket !== open || open.readableEnded || open.destroyed) return false
    socket = undefined
    return new Promise((resolve) => {
      const late = setTimeout(() => open.destroy(), withinMs)
      open.once('close', (failed) => {
        clearTimeout(late)
        resolve(!failed && open.readableEnded && open.writableFinished)
      })
      open.end()
    })
  }

  return {
    confirm: async () => {
      if (!(await concluded(CONFIRM_MS))) throw new Error('nobody confirmed what was sent')
    },
    onLost: (listener) => {
      lost = listener
    },
    send: async (batch) => {
      const open = socket ?? (await connected())
      await new Promise<void>((resolve, reject) => {
        const late = setTimeout(() => open.destroy(new Error('it takes nothing')), TIMEOUT_MS)
        const ended = () => finish(new Error('the connection was closed'))
        const finish = (error?: Error | null) => {
          clearTimeout(late)
          open.off('close', ended)
          if (error) reject(error)
          else resolve()
        }
        open.once('close', ended)
        open.write(Buffer.concat(batch.map(frame)), finish)
      })
      quiet = new Promise((resolve) => setTimeout(resolve, QUIET_MS))
    },
    close: () => concluded(CLOSE_MS),
  }
}
