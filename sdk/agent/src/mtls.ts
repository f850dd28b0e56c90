/** A small fetch over node:https that presents a client certificate, which the global fetch cannot. */
import { Agent, request } from 'node:https'
import type { Transport } from './transport.ts'
import { MAX_ANSWER_BYTES } from './transport.ts'

export interface ClientCertificate {
  /** PEM: the certificate, then its intermediates. */
  readonly cert: string
  readonly key: string
  /** PEM of the authorities that the server's certificate must come from; the system's where absent. */
  readonly ca?: string
}

/** Reads the certificate anew for each request, so that a rotated SVID is used at once. */
export function mtlsTransport(read: () => Promise<ClientCertificate>): Transport {
  let current: (ClientCertificate & { readonly agent: Agent }) | undefined
  const agentFor = async (): Promise<Agent> => {
    const { cert, key, ca } = await read()
    if (current?.cert === cert && current.key === key) return current.agent
    // Sockets of the old certificate finish what they carry and are not used again.
    current?.agent.destroy()
    const agent = new Agent({ cert, key, keepAlive: true, minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }) })
    current = { cert, key, agent }
    return agent
  }
  return async (url, init) => {
    const agent = await agentFor()
    return new Promise<Response>((resolve, reject) => {
      const outgoing = request(
        url,
        { agent, method: init.method, headers: init.headers, ...(init.signal ? { signal: init.signal } : {}) },
        (incoming) => {
          const chunks: Buffer[] = []
          let size = 0
          incoming.on('data', (chunk: Buffer) => {
            size += chunk.length
            if (size > MAX_ANSWER_BYTES) outgoing.destroy(new Error('the answer is too large'))
            else chunks.push(chunk)
          })
          incoming.on('error', reject)
          incoming.on('end', () => {
            const headers = new Headers()
            for (let index = 0; index + 1 < incoming.rawHeaders.length; index += 2) {
              headers.append(incoming.rawHeaders[index]!, incoming.rawHeaders[index + 1]!)
            }
            const status = incoming.statusCode ?? 0
            const bodiless = status === 204 || status === 205 || status === 304
            try {
              resolve(new Response(bodiless ? null : Buffer.concat(chunks), { status, headers }))
            } catch (error) {
              reject(error instanceof Error ? error : new Error('the answer is not HTTP'))
            }
          })
        },
      )
      outgoing.on('error', reject)
      outgoing.end(init.body)
    })
  }
}
