import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Verifier } from '@errand/verifier/verifier.ts'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { writeFeed } from '../../src/cli/feed-files.ts'
import { createFeed, type Feed } from '../../src/revoke/feed.ts'
import { revocation } from '../verifier-follow/fake-log.ts'
import { type Clock, type FakeService, ISSUER, request, until } from '../verifier-follow/fake-service.ts'
import { type MemorySite, openSite } from '../verifier-follow/site.ts'

const FILES = 'https://cdn.example/errand'
let folder: string
let site: MemorySite
let clock: Clock
let service: FakeService
let feed: Feed
let stop: AbortController
let writing: Promise<void>
const problems: unknown[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-files-'))
  site = openSite()
  ;({ clock, service } = site)
  feed = createFeed({
    log: service.log,
    feedKey: new Uint8Array(32).fill(3),
    issuer: ISSUER,
    now: () => clock.now,
    monotonic: () => clock.service,
    newRunId: () => 'run-of-files',
    sign: async (typ, payload) => ({ jws: service.signFeed(typ, payload) }),
  })
  stop = new AbortController()
  problems.length = 0
  writing = writeFeed(feed, folder, { signal: stop.signal, onProblem: (problem) => problems.push(problem) })
})
afterEach(async () => {
  stop.abort()
  feed.close()
  await writing
  site.close()
  await rm(folder, { recursive: true, force: true })
})

const read = async (name: string) => {
  const { frame } = JSON.parse(await readFile(join(folder, name), 'utf8')) as { frame: string }
  return JSON.parse(Buffer.from(frame.split('.')[1]!, 'base64url').toString()) as { kind: string; epoch: string }
}
const reached = async (epoch: string) => {
  while ((await read('snapshot.json').catch(() => undefined))?.epoch !== epoch)
    await new Promise((resolve) => setTimeout(resolve, 10))
}
/** What a web server makes of the folder. */
const served = async (url: string): Promise<Response> => {
  const text = await readFile(join(folder, url.slice(FILES.length)), 'utf8').catch(() => undefined)
  return text === undefined ? new Response('', { status: 404 }) : new Response(text)
}
const verifier = (asked: string[], files = served): Verifier =>
  site.verifier({
    files: FILES,
    fetch: (url, init) => {
      asked.push(url)
      return url.startsWith(FILES) ? files(url) : service.fetch(url, init)
    },
  })
const wholes = (asked: readonly string[]) => asked.filter((url) => url === `${ISSUER}/revocations`)

describe('the feed as files', () => {
  it('is a snapshot, and a delta from each place to the next, each whole from the moment it is there', async () => {
    await reached('0.0')
    await service.log.add(revocation({ jti: 'one' }))
    await reached('0.1')
    await service.log.add(revocation({ jti: 'two' }))
    await service.log.add(revocation({ jti: 'three' }))
    await reached('0.3')
    expect(await read('after/0.0.json')).toMatchObject({ kind: 'delta', epoch: '0.1' })
    const names = (await readdir(join(folder, 'after'))).sort()
    expect((await read(join('after', names.at(-1)!))).epoch).toBe('0.3')
    expect((await readdir(folder)).sort()).toEqual(['after', 'snapshot.json'])
    service.log.newGeneration()
    await service.log.add(revocation({ jti: 'four' }))
    await reached('1.4')
    expect(problems).toEqual([])
  })

  it('L6 serves a verifier that knows nothing; that it is old harms nothing, for the service is asked what is newer', async () => {
    const token = await service.token()
    await service.log.add(revocation({ jti: 'one' }))
    await reached('0.1')
    stop.abort()
    await service.log.add(revocation({ client_id: 'research' }))
    const asked: string[] = []
    const it = verifier(asked)
    await it.ready()
    await until(() => it.status()?.epoch === '0.2')
    expect(wholes(asked)).toEqual([])
    expect(asked).toContain(`${FILES}/snapshot.json`)
    const call = { operation: 'ticket.read', arguments: {} }
    await expect(it.verify(request(token, { now: clock.now }), call)).rejects.toMatchObject({ code: 'revoked' })
  })

  const signedDelta = (after: number) => {
    const k = feedKeyId(new Uint8Array(32).fill(3))
    const at = { seq: 0, s: 0, prev: '', after: `0.${after}`, epoch: `0.${after + 1}` }
    const frame = service.signFeed('errand-frame+jwt', { iss: ISSUER, run: 'files', k, kind: 'delta', ...at })
    return Response.json({ frame })
  }

  it('L6 is read no further where a file brings nothing new, whatever it says is next', async () => {
    await reached('0.0')
    const asked: string[] = []
    const it = verifier(asked, async (url) => (url.endsWith('/snapshot.json') ? served(url) : signedDelta(0)))
    await it.ready()
    expect(asked.filter((url) => url.startsWith(FILES))).toEqual([
      `${FILES}/snapshot.json`,
      `${FILES}/after/0.0.json`,
      `${FILES}/after/0.1.json`,
    ])
  })

  it('is read for five seconds and no longer, however many files there are', async () => {
    await reached('0.0')
    stop.abort()
    await writing
    for (let entry = 0; entry < 20; entry++) await service.log.add(revocation({ jti: `revoked ${entry}` }))
    const asked: string[] = []
    const it = verifier(asked, async (url) => {
      clock.pass(1.5)
      return url.endsWith('/snapshot.json') ? served(url) : signedDelta(Number(/after\/0\.(\d+)/.exec(url)![1]))
    })
    await it.ready()
    expect(asked.filter((url) => url.startsWith(FILES))).toHaveLength(4)
    await until(() => it.status()?.epoch === '0.20')
  })

  it('is left aside where it is away, forged, or of an older generation', async () => {
    await service.log.add(revocation({ jti: 'one' }))
    await reached('0.1')
    stop.abort()
    const forged = service.signFeed('errand-now+jwt', { iss: ISSUER, epoch: '9.9' })
    for (const files of [
      async () => new Response('', { status: 404 }),
      async () => new Response('', { status: 500 }),
      async () => Response.json({ frame: forged }),
    ]) {
      const asked: string[] = []
      const made = verifier(asked, files)
      await made.ready()
      expect([made.status()?.epoch, wholes(asked).length]).toEqual(['0.1', 1])
    }
    service.log.newGeneration()
    const made = verifier([])
    await made.ready()
    expect(made.status()).toMatchObject({ epoch: '1.1', steppedBack: false })
    expect(parseEpoch(made.status()?.epoch)).toEqual({ generation: 1, sequence: 1 })
  })
})
