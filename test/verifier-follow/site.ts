/** The small service and verifiers of it, in memory with clocks that move when told, or on a real port in real time. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { createVerifier, type Verifier, type VerifierOptions } from '@errand/verifier/verifier.ts'
import { AUDIENCE, type Clock, createClock, createFakeService, type FakeService, ISSUER } from './fake-service.ts'

export interface Site {
  readonly clock: Clock
  readonly service: FakeService
  /** Of the tool `tickets`; it ends with the site. */
  verifier(options?: Partial<VerifierOptions>): Verifier
  /** Without a key: it follows nothing. */
  offline(options?: Partial<VerifierOptions>): Verifier
}
export interface MemorySite extends Site {
  close(): void
}
export interface ServedSite extends Site {
  readonly url: string
  /** Cuts whoever is connected off. */
  readonly server: Server
  close(): Promise<void>
}

function siteOf(clock: Clock, service: FakeService, defaults: Partial<VerifierOptions>) {
  const made: Verifier[] = []
  const offline = (options: Partial<VerifierOptions> = {}) => {
    const it = createVerifier({ issuer: ISSUER, audience: AUDIENCE, now: () => clock.now, ...defaults, ...options })
    made.push(it)
    return it
  }
  return {
    clock,
    service,
    offline,
    verifier: (options: Partial<VerifierOptions> = {}) =>
      offline({ tool: 'tickets', key: service.toolKey, ...options }),
    end() {
      for (const it of made.splice(0)) it.close()
      service.close()
    },
  }
}

export function openSite(): MemorySite {
  const clock = createClock()
  const service = createFakeService(clock)
  const { end, ...site } = siteOf(clock, service, { fetch: service.fetch, monotonic: () => clock.local })
  return { ...site, close: end }
}

/** Real streams and real time; the clocks of the service and the verifier differ by far. */
export async function serveSite(): Promise<ServedSite> {
  const started = performance.now()
  const clock = createClock()
  const real: Clock = Object.create(clock, {
    service: { get: () => 5_000_000 + performance.now() - started, set: () => undefined },
  })
  const service = createFakeService(real)
  const server = createServer(getRequestListener((asked) => service.handle(asked)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { end, ...site } = siteOf(clock, service, { serviceUrl: url })
  return {
    ...site,
    url,
    server,
    async close() {
      end()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
