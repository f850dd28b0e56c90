import { createServer, type RequestListener } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { isPublicAddress } from '../../src/config/addresses.ts'
import { createFetchJwks, createRemoteKeys, type Fetched } from '../../src/config/fetch-jwks.ts'
import { publicJwk } from './folder.ts'

const open: Server[] = []
afterEach(async () => {
  for (const server of open.splice(0)) await new Promise<void>((done) => server.close(() => done()))
})
async function listening<S extends Server>(server: S): Promise<number> {
  open.push(server)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', () => done()))
  return (server.address() as AddressInfo).port
}
const serve = async (listener: RequestListener) => {
  const server = createServer(listener)
  server.keepAliveTimeout = 1
  return `http://127.0.0.1:${await listening(server)}/jwks`
}
async function canary(): Promise<{ port: number; connections: () => number }> {
  let connections = 0
  const port = await listening(
    createTcpServer((socket) => {
      connections++
      socket.destroy()
    }),
  )
  return { port, connections: () => connections }
}

describe('fetching keys', () => {
  const development = createFetchJwks({ development: true })

  it('reads a set from one loopback destination in development, with its age', async () => {
    const uri = await serve((_, response) =>
      response.setHeader('cache-control', 'public, max-age=120').end('{"keys":[]}'),
    )
    expect(await development(uri)).toEqual({ text: '{"keys":[]}', maxAgeSeconds: 120, time: expect.any(Number) })
  })

  it('I1 a destination inside is refused before a socket is opened, canary silent: url_forbidden', async () => {
    const { port, connections } = await canary()
    const production = createFetchJwks({ development: false })
    for (const host of [
      '127.0.0.1',
      '169.254.169.254',
      '0x7f.1',
      '2130706433',
      '[::ffff:7f00:1]',
      '[::1]',
      'localhost.',
      'localhost',
    ]) {
      await expect(production(`https://${host}:${port}/jwks`), host).rejects.toThrow('url_forbidden')
    }
    await expect(production(`http://127.0.0.1:${port}/jwks`)).rejects.toThrow('url_forbidden')
    expect(connections()).toBe(0)
  })

  it('I2 a name that turns to loopback when it is connected to is refused there: url_forbidden', async () => {
    const { port, connections } = await canary()
    let asked = 0
    // What a check before connecting would have seen is public; nothing is asked before connecting.
    const rebinding = createFetchJwks({
      development: true,
      resolve: async () => {
        asked++
        return [{ address: '127.0.0.1', family: 4 }]
      },
    })
    await expect(rebinding(`https://login.example.com:${port}/jwks`)).rejects.toThrow('url_forbidden')
    const mixed = createFetchJwks({
      development: true,
      resolve: async () => [
        { address: '1.1.1.1', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ],
    })
    await expect(mixed(`https://login.example.com:${port}/jwks`)).rejects.toThrow('url_forbidden')
    expect([asked, connections()]).toEqual([1, 0])
  })

  it('I3 a redirect is not followed: redirect_refused', async () => {
    const { port, connections } = await canary()
    for (const status of [301, 302, 303, 307, 308]) {
      const uri = await serve((_, response) =>
        response.writeHead(status, { location: `http://127.0.0.1:${port}/` }).end(),
      )
      await expect(development(uri)).rejects.toThrow('redirect_refused')
    }
    expect(connections()).toBe(0)
  })

  it('I5 an answer without end, of a gigabyte, packed, or that never comes is cut: fetch_limits', async () => {
    const endless = await serve((_, response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
      }
      response.on('drain', more)
      more()
    })
    await expect(development(endless)).rejects.toThrow('fetch_limits: above 256 KB')
    const huge = await serve((_, response) => response.writeHead(200, { 'content-length': 1_000_000_000 }).write('x'))
    await expect(development(huge)).rejects.toThrow('fetch_limits: above 256 KB')
    const bomb = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(10_000_000))),
    )
    await expect(development(bomb)).rejects.toThrow('fetch_limits: compressed')
    const silent = await serve(() => {})
    await expect(development(silent)).rejects.toThrow('fetch_limits: above 2 s')
    const slow = await serve((_, response) => {
      response.writeHead(200).write('{')
    })
    await expect(development(slow)).rejects.toThrow()
  })

  it('an error of the other side is an error', async () => {
    const uri = await serve((_, response) => response.writeHead(503).end())
    await expect(development(uri)).rejects.toThrow('status 503')
  })

  it('knows which addresses are public', () => {
    for (const address of ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00::1'])
      expect(isPublicAddress(address), address).toBe(true)
    for (const address of [
      '0.0.0.0',
      '10.1.2.3',
      '100.64.0.1',
      '127.8.8.8',
      '169.254.169.254',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '198.18.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::ffff:1.1.1.1',
      '64:ff9b::101:101',
      'fc00::1',
      'fe80::1',
      'ff02::1',
      '2002:7f00:1::',
      '2001::1',
      '2001:db8::1',
      'x',
      '',
    ]) {
      expect(isPublicAddress(address), address).toBe(false)
    }
  })
})

describe('remote keys', () => {
  const keysOf = (...kids: string[]) => JSON.stringify({ keys: kids.map(publicJwk) })
  function issuer(first: string | Error) {
    let clock = 1_000_000
    let answer: Fetched | Error = typeof first === 'string' ? { text: first } : first
    let fetches = 0
    const refused: string[] = []
    const remote = createRemoteKeys({
      now: () => clock,
      onRefused: (_, why) => refused.push(why),
      fetch: async () => {
        fetches++
        if (answer instanceof Error) throw answer
        return answer
      },
    })
    return {
      keys: remote.of('https://login.example.com/jwks', ['ES256']),
      remote,
      refused,
      fetches: () => fetches,
      pass: (seconds: number) => {
        clock += seconds
      },
      answers: (next: Fetched | Error) => {
        answer = next
      },
    }
  }

  it('are fetched when first asked for, once for all who ask', async () => {
    const { keys, fetches } = issuer(keysOf('a'))
    const found = await Promise.all([keys('a'), keys('a'), keys('b')])
    expect(found.map((key) => key?.kid)).toEqual(['a', 'a', undefined])
    expect(fetches()).toBe(1)
  })

  it('B5 ten thousand unknown kids cost one fetch per cooldown', async () => {
    const { keys, fetches, pass } = issuer(keysOf('a'))
    for (let n = 0; n < 10_000; n++) expect(await keys(`k${n}`)).toBeUndefined()
    expect(fetches()).toBe(1)
    pass(30)
    await keys('k')
    await keys('k')
    expect(fetches()).toBe(2)
    expect((await keys('a'))?.kid).toBe('a')
  })

  it('find a key that was published after the last fetch', async () => {
    const { keys, pass, answers } = issuer(keysOf('a'))
    await keys('a')
    answers({ text: keysOf('a', 'b') })
    expect(await keys('b')).toBeUndefined()
    pass(30)
    expect((await keys('b'))?.kid).toBe('b')
  })

  it('B8 a set with one bad key, or of too many, is refused whole; the last good one serves until its own expiry', async () => {
    const { keys, pass, answers, refused } = issuer(keysOf('a'))
    await keys('a')
    const bad = [
      { keys: [publicJwk('a'), { kty: 'oct', kid: 'x', k: 'AA' }] },
      { keys: [publicJwk('a'), { ...publicJwk('b'), d: 'AA' }] },
      { keys: [publicJwk('a'), publicJwk('a')] },
      { keys: Array.from({ length: 10_000 }, () => ({ kty: 'EC' })) },
      { keys: [] },
    ]
    for (const set of bad) {
      answers({ text: JSON.stringify(set) })
      pass(600)
      expect((await keys('a'))?.kid).toBe('a')
      expect(await keys('new')).toBeUndefined()
    }
    answers({ text: 'not json' })
    pass(599)
    expect(await keys('new')).toBeUndefined()
    expect(refused).toHaveLength(bad.length + 1)
    pass(3600)
    await expect(keys('a')).rejects.toMatchObject({ reason: 'jwks_rejected' })
  })

  it('Inv12 are away, not unknown, where none was ever fetched, and are soon asked for again', async () => {
    const { keys, answers, pass, fetches } = issuer(new Error('connect ECONNREFUSED'))
    await expect(keys('a')).rejects.toMatchObject({
      name: 'Unavailable',
      reason: 'jwks_rejected',
      retryAfterSeconds: 3,
    })
    expect(fetches()).toBe(1)
    answers({ text: keysOf('a') })
    pass(2)
    await expect(keys('a')).rejects.toMatchObject({ reason: 'jwks_rejected' })
    expect(fetches()).toBe(1)
    pass(1)
    expect((await keys('a'))?.kid).toBe('a')
  })

  it('FI-7 are fetched again after a clock that was ahead has come back', async () => {
    const { keys, answers, pass } = issuer(keysOf('a'))
    pass(7200)
    await keys('a')
    answers({ text: keysOf('a', 'b') })
    pass(-7200)
    expect((await keys('b'))?.kid).toBe('b')
  })

  it('are kept across reloads of the configuration', async () => {
    const { keys, remote, fetches } = issuer(keysOf('a'))
    await keys('a')
    expect((await remote.of('https://login.example.com/jwks', ['ES256'])('a'))?.kid).toBe('a')
    expect(fetches()).toBe(1)
  })
})
