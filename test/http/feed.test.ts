/** The feed over HTTP: what a stream begins with, and the name of the key that its values are made with. */
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { createEventReader } from '@errand/verifier/sse.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decode, type House, ISSUER, openHouse } from '../house.ts'

interface Frame {
  readonly kind?: 'snapshot' | 'delta'
  readonly seq: number
  readonly k: string
  readonly after?: string
  readonly epoch: string
  readonly entries?: readonly { readonly e: string; readonly d: string }[]
}

describe('the stream of revocations', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  /** Reads a stream frame by frame. */
  async function connect(headers: Record<string, string> = {}) {
    const request = new Request(`${ISSUER}/revocations/stream`, { headers })
    const response = await house.service.app.fetch(request, { base: ISSUER, peer: '127.0.0.1' })
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
    const reader = response.body!.getReader()
    const decoder = new TextDecoder()
    const frames: Frame[] = []
    const read = createEventReader(1_000_000, ({ event, data }) => {
      if (event === 'frame') frames.push(decode(data).payload as unknown as Frame)
    })
    const next = async (): Promise<Frame> => {
      while (frames.length === 0) {
        const { value, done } = await reader.read()
        if (done) throw new Error('the stream ended')
        read(decoder.decode(value, { stream: true }))
      }
      return frames.shift()!
    }
    return { next, leave: () => reader.cancel() }
  }
  const revoke = async (task: string): Promise<string> => {
    const { status, body } = await house.admin('POST', '/revocations', {
      match: { task },
      reason: 'a test of the feed',
    })
    expect(status).toBe(201)
    return body['epoch'] as unknown as string
  }
  const place = (epoch: string): number => Number(epoch.split('.')[1])
  const taskId = (letter: string) => `task_${letter.repeat(22)}`

  it('begins with a snapshot for who brings no epoch, or none that can be read', async () => {
    const epoch = await revoke(taskId('A'))
    for (const headers of [{}, { 'last-event-id': 'yesterday' }, { 'last-event-id': '' }]) {
      const stream = await connect(headers)
      const first = await stream.next()
      expect([first.kind, first.epoch]).toEqual(['snapshot', epoch])
      expect(first.entries!.map(({ e }) => e)).toContain(epoch)
      await stream.leave()
    }
  })

  it('begins with what came after Last-Event-ID, and goes on without a gap', async () => {
    const known = await revoke(taskId('B'))
    const missed = [await revoke(taskId('C')), await revoke(taskId('D'))]
    const stream = await connect({ 'last-event-id': known })
    const first = await stream.next()
    expect([first.kind, first.after, first.epoch]).toEqual(['delta', known, missed.at(-1)])
    expect(first.entries!.map(({ e }) => e)).toEqual(missed)

    const live = await revoke(taskId('E'))
    const seen: Frame[] = []
    while (seen.at(-1)?.epoch !== live) seen.push(await stream.next())
    expect(seen.every(({ kind }) => kind === undefined)).toBe(true)
    // A frame may say again what the delta said; it leaves out nothing after it.
    const later = seen
      .flatMap(({ entries = [] }) => entries.map(({ e }) => e))
      .filter((e) => place(e) > place(first.epoch))
    expect(later).toEqual([live])
    let reached = first.epoch
    for (const frame of seen) {
      expect(place(frame.after!)).toBeLessThanOrEqual(place(reached))
      reached = frame.epoch
    }
    await stream.leave()
  })

  it('begins with a delta of nothing for who missed nothing, and with a snapshot for an epoch that is not ours', async () => {
    const epoch = await revoke(taskId('F'))
    const upToDate = await connect({ 'last-event-id': epoch })
    expect(await upToDate.next()).toMatchObject({ kind: 'delta', after: epoch, epoch, entries: [] })
    await upToDate.leave()
    const [generation, sequence] = epoch.split('.').map(Number) as [number, number]
    for (const other of [`${generation}.${sequence + 1}`, `${generation + 1}.0`]) {
      const stream = await connect({ 'last-event-id': other })
      expect(await stream.next()).toMatchObject({ kind: 'snapshot', epoch })
      await stream.leave()
    }
  })

  it('names the key of its values as the endpoint that hands it out does', async () => {
    const { status, body } = await (await house.tool('tickets')).call('GET', '/revocations/key')
    expect(status).toBe(200)
    const stream = await connect()
    const { k } = await stream.next()
    await stream.leave()
    expect(body['kid']).toBe(k)
    expect(feedKeyId(Buffer.from(body['key'] as unknown as string, 'base64url'))).toBe(k)
    // Strangers get the feed, not its key.
    expect((await house.fetch('GET', '/revocations/key')).status).toBe(401)
    expect((await (await house.agent('research')).call('GET', '/revocations/key')).status).toBe(403)
  })
})
