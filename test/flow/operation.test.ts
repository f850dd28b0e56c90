import { once } from 'node:events'
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer, connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type House, ISSUER, openHouse } from '../house.ts'
import { aliceAsks, clientOf, errand, newPlace, type Place, type RealProcess } from './real-process.ts'

describe('looking at the service', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())
  const ready = async () => {
    const { status, body } = await house.fetch('GET', '/ready')
    return { http: status, ...body } as { http: number; status: string; checks: Record<string, string> }
  }

  it('says that it is ready, and which development shortcuts are on', async () => {
    expect((await house.fetch('GET', '/health')).body).toEqual({ status: 'ok' })
    expect(await ready()).toEqual({
      http: 200,
      status: 'ok',
      mode: 'development',
      checks: { store: 'ok', audit: 'ok', checkpoints: 'ok', keys: 'ok', config: 'ok' },
      development_shortcuts: [
        `the issuer ${ISSUER} is served over http`,
        'the development issuer "dev" vouches for users',
      ],
    })
  })

  it('G6 a bad reload keeps the old configuration and shows; a good one is in force and clears it', async () => {
    const file = house.config('agents/research.yaml')
    const good = await readFile(file, 'utf8')
    const research = await house.agent('research')
    const works = async () => (await research.exchange({ form: { audience: 'tickets' } })).status
    const { digest } = house.service.snapshot()

    await writeFile(file, good.replace('stage: reversible_write', 'stage: reversable_write'))
    expect(await house.service.reload()).toBe(false)
    expect(await ready()).toMatchObject({ http: 200, status: 'degraded', checks: { config: 'degraded' } })
    expect(await works()).toBe(200)
    const shown = await house.admin('GET', '/config')
    expect(shown.body).toMatchObject({
      digest,
      failure: { problems: expect.stringContaining('research.yaml:') as string },
    })
    expect(JSON.stringify(shown.body['failure'])).toContain('reversible_write')
    expect((await house.fetch('GET', '/metrics')).text).toContain('errand_config_degraded 1')

    await writeFile(file, good.replace('display_name: Research assistant', 'display_name: Research desk'))
    expect(await house.service.reload()).toBe(true)
    expect(await ready()).toMatchObject({ http: 200, status: 'ok' })
    expect(house.service.snapshot().digest).not.toBe(digest)
    expect((await house.admin('GET', '/agents/research')).body['display_name']).toBe('Research desk')
    expect((await house.records({ type: 'config.rejected' })).length).toBeGreaterThan(0)
  })

  it('D23 another policy set kills the tokens of the old one, and going back lets them be made again', async () => {
    const file = house.config('policies/base.cedar')
    const good = await readFile(file, 'utf8')
    const research = await house.agent('research')
    const issue = () => research.exchange({ form: { audience: 'tickets' } })
    const active = async (token: unknown) =>
      (await (await house.tool('tickets')).form('/introspect', { token: String(token) })).body['active']
    const first = (await issue()).body['access_token']
    const config = async (text: string) => {
      await writeFile(file, text)
      expect(await house.service.reload()).toBe(true)
    }
    await config(good.replace('@ttl_seconds("120")', '@ttl_seconds("100")'))
    await expect.poll(() => active(first)).toBe(false)
    const second = (await issue()).body['access_token']
    expect(await active(second)).toBe(true)
    await config(good)
    await expect.poll(() => active(second)).toBe(false)
    await expect.poll(async () => (await issue()).status).toBe(200)
  })

  it('metrics name routes and reasons, never anybody, and are for this machine only', async () => {
    const research = await house.agent('research')
    const issued = await research.exchange({ form: { audience: 'tickets' } })
    await research.call('GET', `/tasks/${issued.body['task_id']}`)
    await house.fetch('GET', '/somewhere/alice')
    await house.fetch('BREW', '/tasks')
    const { text, status } = await house.fetch('GET', '/metrics')
    expect(status).toBe(200)
    expect(text).toMatch(/errand_tokens_issued_total\{kind="[^"]+"\} \d/)
    expect(text).toContain('route="/tasks/:id"')
    for (const name of ['alice', 'research', 'task_', 'BREW', String(issued.body['decision_id'])]) {
      expect(text).not.toContain(name)
    }
    const from = async (peer: string, headers: Record<string, string> = {}) =>
      (await house.service.app.fetch(new Request(`${ISSUER}/metrics`, { headers }), { base: ISSUER, peer })).status
    expect(await from('::1')).toBe(200)
    expect(await from('::ffff:127.0.0.1')).toBe(200)
    for (const peer of ['192.0.2.1', '10.0.0.1', '::ffff:10.0.0.1', '2001:db8::1', ''])
      expect(await from(peer)).toBe(404)
    // A proxy on this machine that nobody configured speaks for somebody else.
    for (const header of ['x-forwarded-for', 'forwarded', 'via', 'x-real-ip']) {
      expect(await from('127.0.0.1', { [header]: '203.0.113.9' })).toBe(404)
    }
  })

  it('turns requests away while it stops, and still says that it lives', async () => {
    const own = await openHouse()
    own.service.stop()
    const answer = await own.fetch('GET', '/.well-known/jwks.json')
    expect([answer.status, answer.body['error'], answer.headers.get('retry-after')]).toEqual([
      503,
      'temporarily_unavailable',
      '1',
    ])
    expect((await own.fetch('GET', '/health')).status).toBe(200)
    expect((await own.fetch('GET', '/ready')).status).toBe(503)
    await own.close()
  })
})

describe('errand serve as a process', () => {
  const places: Place[] = []
  const running: RealProcess[] = []
  afterEach(async () => {
    for (const each of running.splice(0)) {
      each.signal('SIGKILL')
      await each.ended
    }
    for (const each of places.splice(0)) await each.remove()
  })
  const place = async (change?: (file: string, text: string) => string) => {
    const made = await newPlace(change)
    places.push(made)
    return made
  }
  const serve = async (at: Place) => {
    const started = await at.serve()
    running.push(started)
    return started
  }
  /** A start that must fail: its exit code and what it said. */
  const fails = async (at: Place) => {
    const started = errand(at.folder, 'serve')
    running.push(started)
    const code = await started.ended
    expect(started.out()).not.toContain('listening')
    // One line for a person, and no stack.
    expect(started.err()).not.toMatch(/^ +at /m)
    return { code, err: started.err() }
  }

  it('SIGTERM finishes a request under way, ends streams, and exits 0', async () => {
    const at = await place()
    const started = await serve(at)
    const research = await clientOf(at, 'agents/research.jwk', 'research')
    const alice = await aliceAsks(at)
    expect((await research.token({ ...alice(), audience: 'tickets' }, { proofKey: research.proofKey })).status).toBe(
      200,
    )

    const stream = connect(at.port, '127.0.0.1')
    stream.write('GET /revocations/stream HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(stream, 'data')
    const slow = connect(at.port, '127.0.0.1')
    let answer = ''
    slow.on('data', (chunk) => {
      answer += String(chunk)
    })
    const body = 'grant_type=x'
    slow.write(
      `POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 5)}`,
    )
    // Answered behind it: the slow request has been read by now.
    expect((await fetch(`${at.issuer}/health`)).status).toBe(200)
    started.signal('SIGTERM')
    await once(stream, 'close')
    slow.write(body.slice(5))
    await once(slow, 'close')
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).toContain('unsupported_grant_type')
    expect(await started.ended).toBe(0)
    await expect(fetch(`${at.issuer}/health`)).rejects.toThrow()
    const records = await readFile(join(at.folder, 'data', 'errand.db')).then((bytes) => bytes.length)
    expect(records).toBeGreaterThan(0)
    // It can be started again at once, and knows what it knew.
    await serve(at)
  })

  it('P3 a second process on the same data folder refuses and says what to do; after a kill the folder is free', async () => {
    const at = await place()
    const first = await serve(at)
    const other = await place()
    await rm(join(other.folder, 'config'), { recursive: true })
    const yaml = join(at.folder, 'config', 'errand.yaml')
    const text = await readFile(yaml, 'utf8')
    const second = errand(
      other.folder,
      'serve',
      '--config',
      join(at.folder, 'config'),
      '--data',
      join(at.folder, 'data'),
      '--keys',
      join(at.folder, 'keys'),
    )
    running.push(second)
    expect(await second.ended).not.toBe(0)
    expect(second.err()).toContain('store_locked')
    expect(second.err()).toMatch(/stop it, or give this one a folder of its own/)
    expect((await fetch(`${at.issuer}/health`)).status).toBe(200)
    first.signal('SIGKILL')
    await first.ended
    expect(await readFile(yaml, 'utf8')).toBe(text)
    await serve(at)
  })

  it('a taken port is named, with what to do', async () => {
    const at = await place()
    const squatter = createServer().listen(at.port, '127.0.0.1')
    await once(squatter, 'listening')
    const { code, err } = await fails(at)
    squatter.close()
    expect(code).not.toBe(0)
    expect(err).toContain(`port ${at.port}`)
    expect(err).toMatch(/listen\.port/)
    expect(err).not.toContain('audit log')
  })

  it('G6 a configuration with a mistake is refused at start with file, line and suggestion', async () => {
    const at = await place((file, text) =>
      file === 'errand.yaml' ? `${text}\nbuonds: { max_body_bytes: 1024 }\n` : text,
    )
    const { code, err } = await fails(at)
    expect(code).not.toBe(0)
    expect(err).toMatch(/errand\.yaml:\d+/)
    expect(err).toContain('bounds')
  })

  it('a data folder with a log and no state, and one that is a file, say what to do', async () => {
    const half = await place()
    await serve(half)
    running.splice(0)[0]!.signal('SIGKILL')
    for (const name of ['errand.db', 'errand.db-wal', 'errand.db-shm']) {
      await rm(join(half.folder, 'data', name), { force: true })
    }
    const broken = await fails(half)
    expect(broken.code).not.toBe(0)
    expect(broken.err).toMatch(/data/)
    expect(broken.err).not.toContain('internal error')

    const file = await place()
    await writeFile(join(file.folder, 'data'), 'not a folder')
    const refused = await fails(file)
    expect(refused.code).not.toBe(0)
    expect(refused.err).not.toContain('internal error')
    expect(refused.err).toMatch(/must be folders/)
  })

  it('a data folder made of halves is refused, and says what to restore', async () => {
    const at = await place()
    const data = join(at.folder, 'data')
    const keys = join(at.folder, 'keys')
    const first = await serve(at)
    // Copied while it runs: what was written lately is in the write-ahead log.
    await cp(join(data, 'errand.db'), join(at.folder, 'copy.db'))
    first.signal('SIGTERM')
    await first.ended
    const refuses = async (...words: readonly string[]) => {
      const { code, err } = await fails(at)
      expect(code).toBe(1)
      for (const word of words) expect(err).toContain(word)
      expect(err).not.toContain('internal error')
    }

    await rename(join(data, 'errand.db'), join(at.folder, 'good.db'))
    await rename(join(at.folder, 'copy.db'), join(data, 'errand.db'))
    await refuses('data_damaged', 'errand.db-wal', 'one backup')
    for (const name of ['errand.db', 'errand.db-wal', 'errand.db-shm']) await rm(join(data, name), { force: true })
    await rename(join(at.folder, 'good.db'), join(data, 'errand.db'))

    await rename(join(data, 'audit'), join(at.folder, 'audit'))
    await refuses('data_damaged', 'audit is missing or empty')
    await rename(join(at.folder, 'audit'), join(data, 'audit'))

    const [segment] = (await readdir(join(data, 'audit'), { recursive: true })).filter((name) => name.endsWith('.seg'))
    const path = join(data, 'audit', segment!)
    const good = await readFile(path)
    await writeFile(path, Buffer.from(good).fill(0x20, 200, 220))
    await refuses('data_damaged', 'at index 0', '0000000000000000.seg', 'errand audit verify')
    await writeFile(path, good)

    await rename(join(keys, 'root.key'), join(at.folder, 'root.key'))
    await refuses('key_file_missing', 'root.key does not exist', 'restore it')
    await rename(join(at.folder, 'root.key'), join(keys, 'root.key'))
    await serve(at)
  }, 60_000)

  it('a start in the wrong folder says so, and leaves nothing behind', async () => {
    const at = await place()
    const config = join(at.folder, 'config')
    await rename(config, join(at.folder, 'elsewhere'))
    const { code, err } = await fails(at)
    expect(code).not.toBe(0)
    expect(err).toMatch(/the folder .*config does not exist/)
    expect(await readdir(at.folder)).toEqual(['elsewhere'])
    await mkdir(config)
    expect((await fails(at)).err).toMatch(/config\/errand\.yaml does not exist/)
    expect(await readdir(at.folder)).toEqual(['config', 'elsewhere'])
  })

  it('O5 a key file that others can read, or that is cut short, is refused at start', async () => {
    const at = await place()
    await mkdir(join(at.folder, 'keys'), { recursive: true })
    await writeFile(join(at.folder, 'keys', 'root.key'), 'A'.repeat(43), { mode: 0o644 })
    const { code, err } = await fails(at)
    expect(code).not.toBe(0)
    expect(err).toContain('key_file_unsafe')
    expect(err).not.toContain('AAAAA')
  })

  it('H2 lives through garbage, and through a SIGHUP with a broken configuration', async () => {
    const at = await place()
    const started = await serve(at)
    for (const bytes of [
      Buffer.alloc(70_000, 0xff),
      Buffer.from('\x16\x03\x01'),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    ]) {
      const socket = connect(at.port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.resume()
      socket.end(bytes)
      await once(socket, 'close')
    }
    await writeFile(join(at.folder, 'config', 'errand.yaml'), '{{{')
    started.signal('SIGHUP')
    await expect
      .poll(async () => ((await (await fetch(`${at.issuer}/ready`)).json()) as { status: string }).status)
      .toBe('degraded')
    const research = await clientOf(at, 'agents/research.jwk', 'research')
    const alice = await aliceAsks(at)
    expect((await research.token({ ...alice(), audience: 'tickets' }, { proofKey: research.proofKey })).status).toBe(
      200,
    )
    expect(started.child.exitCode).toBeNull()
  })
})
