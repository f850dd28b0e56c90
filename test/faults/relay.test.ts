/** The feed through a relay that is stopped, killed, cut off or slow, of a service that is: nothing is accepted past the bound. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Verifier } from '@errand/verifier'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { claimsOf, type Client } from '../flow/real-process.ts'
import { newKeyPair } from '../house.ts'
import { openSite, type Replica, type Site, verdictOf } from './site.ts'
import { type BadLine, openProxy } from './tcp-proxy.ts'

const BIN = fileURLToPath(new URL('../../bin/errand.js', import.meta.url))
const BOUND_SECONDS = 2
/** So far behind that what it accepts by its own clock is nearly a minute too old; further, and the service would not know it. */
const BEHIND_SECONDS = 45

let site: Site
let service: Replica
let relay: ChildProcess
let relayUrl: string
let line: BadLine
let verifier: Verifier
let research: Client
let admin: Client
let asAlice: () => Record<string, string>

async function startRelay(listen = '127.0.0.1:0'): Promise<void> {
  relay = spawn(process.execPath, [BIN, 'relay', '--from', site.issuer, '--listen', listen])
  const [said] = (await once(relay.stdout!, 'data')) as [Buffer]
  relayUrl = / on (http:\S+)/.exec(String(said))![1]!
}
beforeAll(async () => {
  site = await openSite()
  service = await site.start()
  await startRelay()
  line = await openProxy({ port: Number(new URL(relayUrl).port) })
  research = await site.agent(service.base, 'research')
  admin = await site.admin(service.base)
  asAlice = await site.alice()
  verifier = await site.verifier(service.base, {
    feed: `http://127.0.0.1:${line.port}`,
    state: join(site.folder, 'tickets.state'),
    stalenessSeconds: { read: BOUND_SECONDS },
    // Its clock is wrong throughout: no bound rests on it.
    now: () => Date.now() / 1000 - BEHIND_SECONDS,
  })
})
afterAll(async () => {
  relay?.kill('SIGCONT')
  relay?.kill('SIGKILL')
  await line?.close()
  await site?.close()
})

async function token() {
  const proofKey = newKeyPair()
  const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey })
  expect(reply.status).toBe(200)
  return { text: String(reply.body['access_token']), proofKey }
}
type Held = Awaited<ReturnType<typeof token>>
const verdict = ({ text, proofKey }: Held) => verdictOf(verifier, text, proofKey)

/** Milliseconds at which it was acknowledged. */
async function revoke({ text }: Held): Promise<number> {
  const { jti } = claimsOf(text)
  const { status } = await admin.call('POST', '/revocations', { match: { jti }, reason: 'while something was wrong' })
  expect(status).toBe(201)
  return performance.now()
}
/** Asks until well past the bound; what was asked after it is not accepted. */
async function neverPast(held: Held, acknowledged: number): Promise<void> {
  const until = acknowledged + (BOUND_SECONDS + 2) * 1000
  while (performance.now() < until) {
    const asked = performance.now()
    const answer = await verdict(held)
    if (asked > acknowledged + BOUND_SECONDS * 1000)
      expect(['revoked', 'revocation_state_stale', 'keys_unavailable']).toContain(answer)
    await pause(20)
  }
}
async function recovers(revoked: Held, honest: Held): Promise<void> {
  await expect.poll(() => verdict(honest), { timeout: 20_000 }).toBe('accepted')
  expect(await verdict(revoked)).toBe('revoked')
}

/** What happens just before the token is revoked, or just after that is acknowledged, and how it ends. */
interface Fault {
  readonly before?: () => void | Promise<void>
  readonly after?: () => void | Promise<void>
  readonly end: () => void | Promise<void>
}
const FAULTS: Readonly<Record<string, Fault>> = {
  'the relay is stopped': {
    before: () => void relay.kill('SIGSTOP'),
    end: () => void relay.kill('SIGCONT'),
  },
  'the relay is killed': {
    before: async () => {
      relay.kill('SIGKILL')
      await once(relay, 'exit')
    },
    end: () => startRelay(`127.0.0.1:${new URL(relayUrl).port}`),
  },
  'the verifier is cut off': { before: () => line.become('cut'), end: () => line.become('none') },
  'its line is half-open': { before: () => line.become('half-open'), end: () => line.become('none') },
  'its line is two seconds slow': { before: () => line.become('delay'), end: () => line.become('none') },
  'the service is stopped': { after: () => service.signal('SIGSTOP'), end: () => service.signal('SIGCONT') },
  'the service is killed, and started again': {
    after: async () => {
      service.signal('SIGKILL')
      await service.ended
    },
    end: async () => {
      service = await site.start()
    },
  },
}

it.each(Object.entries(FAULTS))(
  'FI-4 FI-9 L6 L7 Inv1 Inv2 Inv12 while %s, nothing is accepted past the bound',
  async (_, { before, after, end }) => {
    const [revoked, honest] = [await token(), await token()]
    await expect.poll(() => verdict(revoked), { timeout: 10_000 }).toBe('accepted')
    await before?.()
    const acknowledged = await revoke(revoked)
    await after?.()
    await neverPast(revoked, acknowledged)
    await end()
    await recovers(revoked, honest)
  },
)
