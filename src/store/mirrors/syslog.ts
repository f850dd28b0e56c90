/**
 * A mirror that takes syslog over TCP (RFC 6587) or TLS (RFC 5425). Nobody acknowledges there: what a lost connection
 * may have lost is sent again.
 */
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { MirroredRecord, MirrorSink } from '../../audit/mirror.ts'

const TIMEOUT_MS = 5_000
/** A peer that is gone is noticed within this, where anything is sent. */
const SETTLE_MS = 5_000

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

  return {
    settleMs: SETTLE_MS,
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
    },
    close: () =>
      new Promise((resolve) => {
        const open = socket
        socket = undefined
        if (!open) return resolve(false)
        const late = setTimeout(() => open.destroy(), 1_000)
        open.once('close', (failed) => {
          clearTimeout(late)
          resolve(!failed && open.writableFinished)
        })
        open.end()
      }),
  }
}
