/** The whole service with its log copied elsewhere: nothing is missing there, and what happens while that is away. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createSyslog } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import type { Json } from '../../src/audit/log.ts'
import { type House, openHouse } from '../house.ts'

const collector = { status: 200, lines: [] as string[] }
const server = createServer((incoming, response) => {
  let body = ''
  incoming.on('data', (chunk) => {
    body += String(chunk)
  })
  incoming.on('end', () => {
    if (collector.status === 200) collector.lines.push(...body.trimEnd().split('\n'))
    response.writeHead(collector.status).end()
  })
})
const file = join(tmpdir(), `errand-mirror-${process.pid}.jsonl`)
const syslog = { text: '' }
const desk = createSyslog((socket) => {
  socket.on('error', () => undefined)
  socket.on('data', (chunk) => {
    syslog.text += String(chunk)
  })
})
let house: House
let url: string
const withMirrors = (text: string) =>
  `${text}
audit:
  mirrors:
    - { name: collector, to: http, url: "${url}", on_failure: refuse, max_behind: 5 }
    - { name: siem, to: syslog, host: 127.0.0.1, port: ${(desk.address() as AddressInfo).port}, tls: false }
    - { name: kept, to: file, path: "${file}", format: ocsf }
`

beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  desk.listen(0, '127.0.0.1')
  await once(desk, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  house = await openHouse({ config: { 'errand.yaml': withMirrors } })
})
afterAll(async () => {
  await house.close()
  server.close()
  desk.close()
  rmSync(file, { force: true })
})

/** By their lengths, as a receiver takes them apart. */
function messages(): readonly string[] {
  const found: string[] = []
  for (let at = 0; at < syslog.text.length; ) {
    const space = syslog.text.indexOf(' ', at)
    const end = space + 1 + Number(syslog.text.slice(at, space))
    found.push(syslog.text.slice(space + 1, end))
    at = end
  }
  return found
}
const indexes = () => collector.lines.map((line) => (JSON.parse(line) as { readonly i: number }).i)
const exchange = async () => (await house.agent('research')).exchange({ form: { audience: 'tickets' } })
const caughtUp = () => expect.poll(() => house.service.log.size - new Set(indexes()).size, { timeout: 15_000 }).toBe(0)
const ready = async () => {
  const { status, body } = await house.fetch('GET', '/ready')
  return [status, (body['checks'] as unknown as { readonly mirrors: string }).mirrors]
}

describe('a service whose log is copied', () => {
  it('sends each record as it stands in the log, and the same as events to a file', async () => {
    expect(await exchange()).toMatchObject({ status: 200 })
    await caughtUp()
    for (const line of collector.lines) expect(canonicalize(JSON.parse(line) as Json)).toBe(line)
    const { size } = house.service.log
    await expect
      .poll(async () => (await readFile(file, 'utf8')).trimEnd().split('\n').length, { timeout: 5_000 })
      .toBe(size)
    const events = (await readFile(file, 'utf8')).trimEnd().split('\n')
    expect(
      events.map((each) => (JSON.parse(each) as { readonly metadata: { sequence: number } }).metadata.sequence),
    ).toEqual(Array.from({ length: size }, (_, i) => i))
    await expect.poll(() => messages().length, { timeout: 5_000 }).toBe(size)
    expect(messages().map((each) => each.slice(each.indexOf('{')))).toEqual(collector.lines.slice(0, size))
    expect(messages()[0]).toMatch(/^<110>1 [0-9T:.-]+Z 127\.0\.0\.1 errand - [a-z._]+ - \{/)
    expect(await ready()).toEqual([200, 'ok'])
    expect(collector.lines.join('')).not.toMatch(/alice|eyJ[A-Za-z0-9_-]{20}/)
  })

  it('issues nothing while a mirror that must keep up is too far behind, ends what is to end, and goes on by itself', async () => {
    collector.status = 503
    for (let n = 0; n < 20 && (await exchange()).status === 200; n += 1);
    const { size } = house.service.log
    const tasks = async () => (await house.service.stores.tasks.list({ limit: 1000 })).length
    const before = await tasks()
    const refused = await exchange()
    expect([refused.status, refused.body['error'], refused.headers.get('retry-after')]).toEqual([
      503,
      'temporarily_unavailable',
      expect.stringMatching(/^[1-9]/),
    ])
    expect(house.lines.some((line) => line.includes('audit_mirror_behind'))).toBe(true)
    // What the service does by itself may be recorded meanwhile; of an exchange there is nothing.
    const since = (await house.service.log.from(size, 100)).map(({ type }) => type)
    expect([since.filter((type) => /^t(oken|ask)\./.test(type)), await tasks()]).toEqual([[], before])
    await expect.poll(ready, { timeout: 5_000 }).toEqual([503, 'unavailable'])
    const shown = async () => (await house.admin('GET', '/config')).body['mirrors']
    await expect.poll(shown, { timeout: 5_000 }).toMatchObject([
      { name: 'collector', problem: 'it answered 503', overdue: true, holds: true },
      { name: 'siem', holds: false },
      { name: 'kept', holds: false },
    ])
    const metrics = async () => (await house.fetch('GET', '/metrics')).text
    await expect.poll(metrics, { timeout: 5_000 }).toContain('errand_audit_mirror_failing{mirror="collector"} 1')
    expect(await metrics()).toMatch(/errand_audit_mirror_records_behind\{mirror="collector"\} (?:[6-9]|[1-9][0-9]+)/)
    expect(await metrics()).toContain('errand_audit_mirror_failing{mirror="kept"} 0')

    const revoked = await house.admin('POST', '/revocations', {
      match: { sub: 'dev|bob' },
      mode: 'ban',
      reason: 'the collector is down and this must end',
    })
    expect(revoked.status, revoked.text).toBe(201)
    const lifted = await house.admin('POST', `/revocations/${String(revoked.body['id'])}/readmit`, { reason: 'over' })
    expect(lifted.status, lifted.text).toBe(200)

    collector.status = 200
    await house.advance(60)
    await caughtUp()
    await expect.poll(async () => (await exchange()).status, { timeout: 5_000 }).toBe(200)
    await caughtUp()
    expect(await ready()).toEqual([200, 'ok'])
    expect(indexes()).toEqual([...indexes()].sort((a, b) => a - b))
  })

  it('goes on after a restart where it was: nothing is missing, and at most the last second comes twice', async () => {
    await house.stop()
    house = await openHouse({ folder: house.folder })
    await caughtUp()
    expect(indexes().length).toBeLessThan(house.service.log.size + 20)
  })
})
