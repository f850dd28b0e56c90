import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { fileStore, KeptStateError, readKept, type StateStore, writeKept } from '@errand/verifier/kept-state.ts'
import type { Verifier } from '@errand/verifier/verifier.ts'
import { revocation } from './fake-log.ts'
import { type Clock, type FakeService, ISSUER, request, until } from './fake-service.ts'
import { type MemorySite, openSite } from './site.ts'

let folder: string
let path: string
let site: MemorySite
let clock: Clock
let service: FakeService

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-kept-'))
  path = join(folder, 'revocations.state')
  site = openSite()
  ;({ clock, service } = site)
})
afterEach(async () => {
  site.close()
  // What was closed saves once more.
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 })
})

const verifier = (state: string | StateStore = path, problems: unknown[] = []): Verifier =>
  site.verifier({ state, onProblem: (problem) => problems.push(problem) })
const read = { operation: 'ticket.read', arguments: {} }
const verdictOf = (it: Verifier, token: string) =>
  it.verify(request(token, { now: clock.now }), read).then(
    () => 'accepted',
    (error: { code?: string }) => error.code,
  )
/** What stands in the file says that it reached so far. */
const keptUntil = async (epoch: string) => {
  while (
    !(await readFile(path, 'utf8').catch(() => '')).startsWith(`{"format":"errand verifier state 1"`) ||
    JSON.parse((await readFile(path, 'utf8')).split('\n', 1)[0]!).reached !== epoch
  )
    await new Promise((resolve) => setTimeout(resolve, 5))
}
/** A verifier that has seen a revocation, kept it, and is gone. */
async function once(): Promise<string> {
  const token = await service.token()
  await service.log.add(revocation({ client_id: 'research' }))
  const it = verifier()
  await it.ready()
  it.close()
  await keptUntil('0.1')
  return token
}

describe('a restarted verifier', () => {
  test('L7 is stale until the service has answered, and then asks for nothing but what is new', async () => {
    const token = await once()
    await service.log.add(revocation({ jti: 'later' }))
    const honest = await service.token({ client_id: 'triage' })
    let away = true
    service.intercept = (asked) => {
      if (away && asked.startsWith('/revocations') && asked !== '/revocations/key') throw new Error('away')
      return undefined
    }
    const it = verifier()
    await it.ready()
    expect(it.status()).toMatchObject({ epoch: '0.1', entries: 1, ageSeconds: Number.POSITIVE_INFINITY })
    expect(await verdictOf(it, token)).toBe('revoked')
    expect(await verdictOf(it, honest)).toBe('revocation_state_stale')
    away = false
    const wholes: string[] = []
    service.intercept = (asked, { url, headers }) => {
      const from = new URL(url).searchParams.get('after') ?? headers.get('last-event-id')
      if (from === null && (asked === '/revocations' || asked.endsWith('/stream'))) wholes.push(url)
      return undefined
    }
    clock.pass(2)
    await until(() => it.status()?.epoch === '0.2')
    expect(await verdictOf(it, honest)).toBe('accepted')
    expect(wholes).toEqual([])
  })

  test('L6 L7 is not led back by an older snapshot, nor by a service that has lost what was revoked', async () => {
    const token = await once()
    service.log.loseLast()
    service.restart()
    const honest = await service.token({ client_id: 'triage' })
    const it = verifier()
    await it.ready()
    expect(it.status()).toMatchObject({ epoch: '0.1', steppedBack: true })
    expect(await verdictOf(it, token)).toBe('revoked')
    expect(await verdictOf(it, honest)).toBe('revocation_state_stale')
  })

  test('L7 a log that went back is not trusted by the next process either', async () => {
    const saved: string[] = []
    const store: StateStore = { load: async () => saved.at(-1), save: async (text) => void saved.push(text) }
    await service.log.add(revocation({ jti: 'a' }))
    const it = verifier(store)
    await it.ready()
    service.log.loseLast()
    service.restart()
    clock.pass(31)
    expect(await verdictOf(it, await service.token())).toBe('revocation_state_stale')
    await service.log.add(revocation({ jti: 'b' }))
    await service.log.add(revocation({ jti: 'c' }))
    it.close()
    await until(() => saved.some((text) => text.includes('forked_in')))
    const next = verifier(store)
    await next.ready()
    expect(await verdictOf(next, await service.token())).toBe('revocation_state_stale')
    expect(next.status()?.steppedBack).toBe(true)
  })
})

describe('the file', () => {
  test('is whole, readable by its owner alone, holds keyed hashes, and leaves nothing beside it', async () => {
    await once()
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readdir(folder)).toEqual(['revocations.state'])
    expect(await readFile(path, 'utf8')).not.toContain('research')
  })

  test('P2 damaged or of another, it is a named warning and a fresh start from the network', async () => {
    const token = await once()
    const whole = await readFile(path, 'utf8')
    for (const [text, code] of [
      ['', 'state_damaged'],
      ['\0\0\0\n', 'state_damaged'],
      [whole.slice(0, -20), 'state_damaged'],
      [whole.replace('"0.1"', '"0.9"'), 'state_damaged'],
      [whole.replace(ISSUER, 'https://other.example'), 'state_of_another'],
    ] as const) {
      const problems: unknown[] = []
      const it = verifier({ load: async () => text, save: async () => undefined }, problems)
      await it.ready()
      expect((problems[0] as KeptStateError).code, text).toBe(code)
      expect(await verdictOf(it, token)).toBe('revoked')
      it.close()
    }
  })

  test('that cannot be read or written is a problem that is told, and stops nothing', async () => {
    const problems: unknown[] = []
    const it = verifier(join(folder, 'no/such/folder'), problems)
    await it.ready()
    expect(await verdictOf(it, await service.token())).toBe('accepted')
    await until(() => problems.length > 0)
    expect((problems[0] as KeptStateError).code).toBe('state_unwritable')
    const unread: unknown[] = []
    await verifier(folder, unread).ready()
    expect((unread[0] as KeptStateError).code).toBe('state_unreadable')
  })

  test('of several processes keeps the highest state', async () => {
    const owner = { issuer: ISSUER, feedKey: new Uint8Array(32).fill(3), keyId: 'k' }
    const at = (epoch: string) => ({
      reached: parseEpoch(epoch)!,
      heardOf: parseEpoch(epoch)!,
      forkedIn: undefined,
      entries: [],
      checkpoints: [],
    })
    const store = fileStore(path)
    await store.save(await writeKept(at('1.7'), owner))
    await store.save(await writeKept(at('1.6'), owner))
    expect(readKept((await store.load())!, owner).reached).toEqual({ generation: 1, sequence: 7 })
    await store.save(await writeKept(at('2.0'), owner))
    expect(readKept((await store.load())!, owner).reached).toEqual({ generation: 2, sequence: 0 })
  })

  test('P2 any change of one byte is noticed', async () => {
    const owner = { issuer: ISSUER, feedKey: new Uint8Array(32).fill(3), keyId: 'k' }
    const epoch = { generation: 1, sequence: 3 }
    const entry = { epoch, shape: 'agent', value: 'A'.repeat(22), expiresAt: 1_800_000_000, absolute: false }
    const kept = { reached: epoch, heardOf: epoch, forkedIn: 2, entries: [entry], checkpoints: ['note'] }
    const text = await writeKept(kept, owner)
    expect(readKept(text, owner)).toEqual(kept)
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const changed = `${text.slice(0, at)}${String.fromCharCode(text.charCodeAt(at) ^ by)}${text.slice(at + 1)}`
        expect(() => readKept(changed, owner)).toThrow(KeptStateError)
      }),
    )
  })
})
