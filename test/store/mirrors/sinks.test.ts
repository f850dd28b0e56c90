/** Where copies of the log go: files, HTTP and syslog, each as it is when it works and when it does not. */
import { KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer as createHttp, type IncomingMessage } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { MirroredRecord } from '../../../src/audit/mirror.ts'
import { createGuardedRequest, guardedLookup } from '../../../src/config/guarded-request.ts'
import { createFileSink, createStreamSink } from '../../../src/store/mirrors/file.ts'
import { createHttpSink } from '../../../src/store/mirrors/http.ts'
import { createMirrorPosition } from '../../../src/store/mirrors/position.ts'
import { createSyslogSink } from '../../../src/store/mirrors/syslog.ts'
import { issue, pemOf } from '../../attest/pki.ts'

let folder: string
const closing: (() => unknown)[] = []
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-mirrors-'))
})
afterAll(async () => {
  for (const close of closing) close()
  await rm(folder, { recursive: true, force: true })
})

const batch = (...indexes: readonly number[]): readonly MirroredRecord[] =>
  indexes.map((index) => ({ index, payload: Buffer.from(`{"i":${index}}`) }))
const line = ({ payload }: MirroredRecord) => payload.toString()

describe('a file', () => {
  it('grows by whole lines, goes on in a new file where it was rotated away, and follows no link', async () => {
    const path = join(folder, 'audit.jsonl')
    const sink = createFileSink(path, line, () => true)
    await sink.send(batch(0, 1))
    await rename(path, `${path}.1`)
    await sink.send(batch(2))
    await sink.sync?.()
    expect(await sink.close()).toBe(true)
    expect([await readFile(`${path}.1`, 'utf8'), await readFile(path, 'utf8')]).toEqual([
      '{"i":0}\n{"i":1}\n',
      '{"i":2}\n',
    ])
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await symlink(join(folder, 'elsewhere'), join(folder, 'link'))
    await expect(createFileSink(join(folder, 'link'), line, () => true).send(batch(3))).rejects.toThrow('ELOOP')
    await expect(createFileSink(join(folder, 'no', 'where'), line, () => true).send(batch(3))).rejects.toThrow('ENOENT')
  })

  it('takes none of the room that the log does not have', async () => {
    const path = join(folder, 'none.jsonl')
    await expect(createFileSink(path, line, () => false).send(batch(1))).rejects.toThrow('no room')
    await expect(stat(path)).rejects.toThrow('ENOENT')
  })

  it('or a stream', async () => {
    const written: string[] = []
    const write = (text: string, done: () => void) => {
      written.push(text)
      done()
    }
    const stream = { write }
    await createStreamSink(stream as unknown as NodeJS.WritableStream, line).send(batch(1, 2))
    expect(written).toEqual(['{"i":1}\n{"i":2}\n'])
  })
})

describe('HTTP', () => {
  const seen: { readonly headers: IncomingMessage['headers']; readonly body: string }[] = []
  let status = 200
  let uri: string
  beforeAll(async () => {
    const server = createHttp((incoming, response) => {
      let body = ''
      incoming.on('data', (chunk) => {
        body += String(chunk)
      })
      incoming.on('end', () => {
        seen.push({ headers: incoming.headers, body })
        response.writeHead(status, { location: 'http://127.0.0.1/' }).end('x')
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    closing.push(() => server.close())
    uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/log`
  })
  const sink = (more: object = {}) =>
    createHttpSink({ uri, logId: '0a1b2c3d', line, post: createGuardedRequest({ development: true }), ...more })

  it('posts lines with a token that is read anew each time, and a key by which the same batch is known', async () => {
    const bearerFile = join(folder, 'token')
    await writeFile(bearerFile, 'one\n')
    await sink({ bearerFile }).send(batch(4, 5))
    await writeFile(bearerFile, 'two')
    await sink({ bearerFile }).send(batch(4, 5))
    expect(seen.map(({ body, headers }) => [body, headers.authorization, headers['idempotency-key']])).toEqual([
      ['{"i":4}\n{"i":5}\n', 'Bearer one', '0a1b2c3d-4-5'],
      ['{"i":4}\n{"i":5}\n', 'Bearer two', '0a1b2c3d-4-5'],
    ])
    expect(seen[0]?.headers['content-type']).toBe('application/x-ndjson')
    await writeFile(bearerFile, 'a b')
    await expect(sink({ bearerFile }).send(batch(1))).rejects.toThrow('holds none')
    await expect(sink({ bearerFile: join(folder, 'absent') }).send(batch(1))).rejects.toThrow('ENOENT')
  })

  it.each([
    [302, 'redirect_refused'],
    [400, 'it answered 400'],
    [503, 'it answered 503'],
  ])('I3 takes %i for a no', async (answer, why) => {
    status = answer
    await expect(sink().send(batch(1))).rejects.toThrow(why)
    status = 200
  })

  it('I1 reaches no private address but where it is configured so', async () => {
    const resolve = async () => [{ address: '10.0.0.8', family: 4 }]
    const reaching = (privately: boolean) =>
      sink({
        uri: 'https://logs.example.com/',
        post: createGuardedRequest({ development: false, privately, resolve }),
      }).send(batch(1))
    await expect(reaching(false)).rejects.toThrow('url_forbidden')
    await expect(
      sink({ uri: 'https://10.0.0.8/', post: createGuardedRequest({ development: false }) }).send(batch(1)),
    ).rejects.toThrow('url_forbidden')
    await expect(reaching(true)).rejects.not.toThrow('url_forbidden')
  })
})

describe('syslog', () => {
  const frame = ({ payload }: MirroredRecord) => Buffer.concat([Buffer.from(`${payload.length} `), payload])
  const lookup = guardedLookup(() => true)
  const serving = async (server: Server) => {
    const got = { text: '', sockets: [] as Socket[] }
    const take = (socket: Socket) => {
      got.sockets.push(socket)
      socket.on('error', () => undefined)
      socket.on('data', (chunk) => {
        got.text += String(chunk)
      })
    }
    server.on(server.constructor.name === 'Server' && 'addContext' in server ? 'secureConnection' : 'connection', take)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    closing.push(() => {
      for (const socket of got.sockets) socket.destroy()
      server.close()
    })
    return { got, port: (server.address() as AddressInfo).port }
  }

  it('RFC 6587: frames one after the other on one connection, which is ended in order', async () => {
    const { got, port } = await serving(createServer())
    const sink = createSyslogSink({ host: '127.0.0.1', port, lookup }, frame)
    await sink.send(batch(1, 2))
    await sink.send(batch(3))
    expect(await sink.close()).toBe(true)
    await expect.poll(() => got.text).toBe('7 {"i":1}7 {"i":2}7 {"i":3}')
    expect(got.sockets).toHaveLength(1)
  })

  it('tells of a connection that was lost, and makes another', async () => {
    const { got, port } = await serving(createServer())
    const sink = createSyslogSink({ host: '127.0.0.1', port, lookup }, frame)
    let lost = 0
    sink.onLost?.(() => {
      lost += 1
    })
    await sink.send(batch(1))
    await expect.poll(() => got.sockets.length).toBe(1)
    got.sockets[0]?.destroy()
    await expect.poll(() => lost).toBe(1)
    await sink.send(batch(1))
    expect(await sink.close()).toBe(true)
    expect(lost).toBe(1)
    await expect.poll(() => got.text).toContain('7 {"i":1}')
  })

  it('has confirmed what was sent once the peer ends the connection in answer, and makes another for what comes next', async () => {
    const { got, port } = await serving(createServer())
    const sink = createSyslogSink({ host: '127.0.0.1', port, lookup }, frame)
    await sink.send(batch(1))
    await sink.confirm?.()
    expect(got.text).toBe('7 {"i":1}')
    await sink.send(batch(2))
    await sink.confirm?.()
    expect([got.text, got.sockets.length]).toEqual(['7 {"i":1}7 {"i":2}', 2])
  })

  it('has not where the peer is gone without a word: it gives up within 10 s, and sends on another connection', async () => {
    // It takes in what the kernel takes, and answers the end of nothing.
    const { got, port } = await serving(createServer({ allowHalfOpen: true }))
    const sink = createSyslogSink({ host: '127.0.0.1', port, lookup }, frame)
    await sink.send(batch(1))
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      await sink.send(batch(2))
      const confirming = expect(sink.confirm?.()).rejects.toThrow('nobody confirmed')
      for (let elapsed = 0; elapsed < 10_500; elapsed += 100) {
        await vi.advanceTimersByTimeAsync(100)
        await new Promise((resolve) => setImmediate(resolve))
      }
      await confirming
    } finally {
      vi.useRealTimers()
    }
    await sink.send(batch(1, 2))
    await expect.poll(() => got.sockets.length).toBe(2)
    expect(await sink.close()).toBe(false)
  })

  it('has not where the peer ends the connection on its own: nobody knows what it had read by then', async () => {
    const { got, port } = await serving(createServer())
    const sink = createSyslogSink({ host: '127.0.0.1', port, lookup }, frame)
    let lost = 0
    sink.onLost?.(() => {
      lost += 1
    })
    await sink.send(batch(1))
    await expect.poll(() => got.sockets.length).toBe(1)
    got.sockets[0]?.end()
    await expect(sink.confirm?.()).rejects.toThrow('nobody confirmed')
    expect(lost).toBe(1)
  })

  it('RFC 5425: over TLS to who can show a certificate of the authority for that name, and to nobody else', async () => {
    const until = { notAfter: Date.now() / 1000 + 3600 }
    const ca = await issue({ name: 'CN=logs', ca: true, ...until })
    const leaf = await issue({ name: 'CN=siem', issuer: ca, names: [{ type: 'dns', value: 'localhost' }], ...until })
    const key = String(KeyObject.from(leaf.keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))
    const { got, port } = await serving(createTls({ cert: pemOf(leaf), key }))
    const to = (host: string, by: string) => createSyslogSink({ host, port, lookup, tls: { ca: by } }, frame)
    const sink = to('localhost', pemOf(ca))
    await sink.send(batch(1))
    await sink.confirm?.()
    await expect.poll(() => got.text).toBe('7 {"i":1}')
    const other = await issue({ name: 'CN=other', ca: true, ...until })
    await expect(to('localhost', pemOf(other)).send(batch(2))).rejects.toThrow(/certificate|unable to/i)
    await expect(to('127.0.0.1', pemOf(ca)).send(batch(2))).rejects.toThrow(/altnames/i)
    expect(got.text).toBe('7 {"i":1}')
  })

  it('I1 says no where nobody listens, and where the name leads to what it may not reach', async () => {
    const { port } = await serving(createServer())
    const sink = createSyslogSink({ host: 'localhost', port, lookup: guardedLookup(() => false) }, frame)
    await expect(sink.send(batch(1))).rejects.toThrow('url_forbidden')
    await expect(createSyslogSink({ host: '127.0.0.1', port: 1, lookup }, frame).send(batch(1))).rejects.toThrow(
      'ECONNREFUSED',
    )
    expect(await sink.close()).toBe(false)
  })
})

describe('the position of a mirror', () => {
  it('is that of its log, and none where it is another one’s or spoilt', async () => {
    const home = join(folder, 'positions')
    const one = createMirrorPosition(home, 'siem', '0a1b2c3d')
    expect(await one.read()).toBeUndefined()
    await one.keep(12)
    await one.keep(13)
    expect(await one.read()).toBe(13)
    expect(await createMirrorPosition(home, 'other', '0a1b2c3d').read()).toBeUndefined()
    expect(await createMirrorPosition(home, 'siem', '99999999').read()).toBeUndefined()
    await writeFile(join(home, 'siem.json'), '{')
    expect(await one.read()).toBeUndefined()
  })
})
