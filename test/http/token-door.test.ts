/** The short way of `POST /token` and the long one, on a real port: nobody can tell which one answered. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openRunning, type Running } from '../running.ts'

describe('POST /token', () => {
  let running: Running
  beforeAll(async () => {
    running = await openRunning()
  })
  afterAll(() => running.close())

  /** A field that means nothing keeps a request from the short way. */
  const LONG = { 'x-unusual': '1' }

  async function ask(body: string, headers: Record<string, string> = {}) {
    const answer = await fetch(`${running.issuer}/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      body,
    })
    const names = [...answer.headers.keys()].filter((name) => name !== 'x-request-id').sort()
    expect(answer.headers.get('x-request-id')).toMatch(/^req_/)
    return { status: answer.status, names, body: await answer.json(), noStore: answer.headers.get('cache-control') }
  }

  it.each([
    ['an empty form', ''],
    ['no grant type', 'scope=a'],
    ['an unknown grant type', 'grant_type=magic'],
    ['a parameter twice', 'grant_type=a&grant_type=b'],
    ['no client', 'grant_type=client_credentials&scope=tickets%3Aread_ticket'],
    [
      'an assertion that is none',
      'grant_type=client_credentials&client_assertion=x&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer',
    ],
    ['more parameters than anybody needs', Array.from({ length: 70 }, (_, n) => `p${n}=1`).join('&')],
    ['escapes that are none', 'grant_type=%zz&%=%'],
  ])('refuses %s the same either way', async (_, body) => {
    const short = await ask(body)
    expect(short).toEqual(await ask(body, LONG))
    expect(short.status).toBeGreaterThanOrEqual(400)
    expect(short.noStore).toBe('no-store')
  })

  /** Written by hand: clients do not send such things. */
  async function bytes(lines: readonly string[], body: string, more: readonly string[] = []) {
    const length = `Content-Length: ${Buffer.byteLength(body)}`
    const head = [...lines, ...more, length, 'Connection: close', '', ''].join('\r\n')
    const { port } = new URL(running.issuer)
    const answer = await new Promise<string>((resolve, reject) => {
      let text = ''
      const socket = connect(Number(port), '127.0.0.1', () => socket.write(head + body))
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
      })
      socket.once('error', reject)
      socket.once('close', () => resolve(text))
    })
    const [fields = '', content] = answer.split('\r\n\r\n')
    const names = fields.split('\r\n').map((line, at) => (at === 0 ? line : line.replace(/:.*/, '').toLowerCase()))
    return { names: names.sort(), content }
  }
  const FORM = 'Content-Type: application/x-www-form-urlencoded'

  it.each([
    ['media types that disagree', ['POST /token HTTP/1.1', 'Host: a', FORM, 'Content-Type: application/json'], ''],
    ['a media type twice', ['POST /token HTTP/1.1', 'Host: a', FORM, FORM], ''],
    ['two proofs in two fields', ['POST /token HTTP/1.1', 'Host: a', FORM, 'DPoP: a', 'DPoP: b'], ''],
    ['no host', ['POST /token HTTP/1.0', FORM], ''],
    ['an empty host', ['POST /token HTTP/1.1', 'Host:', FORM], ''],
    ['a host that is none', ['POST /token HTTP/1.1', 'Host: a b', FORM], ''],
    ['a host with a path', ['POST /token HTTP/1.1', 'Host: a/x?y', FORM], ''],
    ['a host with a name of somebody', ['POST /token HTTP/1.1', 'Host: u@a', FORM], ''],
    ['a port that is none', ['POST /token HTTP/1.1', 'Host: a:99999', FORM], ''],
    ['a host in capitals', ['POST /token HTTP/1.1', 'Host: LOCALHOST:443', FORM], ''],
    ['an address that is none', ['POST /token HTTP/1.1', 'Host: 1.2.3.400:80', FORM], ''],
    ['a byte order mark', ['POST /token HTTP/1.1', 'Host: a', FORM], '\ufeff'],
    ['a whole URL', ['POST http://a/token HTTP/1.1', 'Host: a', FORM], ''],
    ['HTTP/1.0', ['POST /token HTTP/1.0', 'Host: a', FORM], ''],
  ])('answers %s the same either way', async (_, lines, mark) => {
    const body = `${mark}grant_type=magic`
    const short = await bytes(lines, body)
    expect(short).toEqual(await bytes(lines, body, ['X-Unusual: 1']))
    expect(short.names.some((line) => /^HTTP\/1\.1 4/.test(line))).toBe(true)
  })

  it('E8 refuses two proofs the same either way', async () => {
    const body = 'grant_type=client_credentials'
    const short = await ask(body, { dpop: 'a, b' })
    expect(short).toEqual(await ask(body, { dpop: 'a, b', ...LONG }))
    expect(short.body).toMatchObject({ error: 'invalid_dpop_proof' })
  })

  it('H1 refuses a body that is too large without waiting for it, either way', async () => {
    const body = 'x'.repeat(200_000)
    const short = await ask(body)
    expect(short).toEqual(await ask(body, LONG))
    expect(short.status).toBe(413)
  })

  it('goes on after a sender that went away in the middle of its form', async () => {
    const { port } = new URL(running.issuer)
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), '127.0.0.1', () => {
        socket.write(
          'POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant',
        )
        setTimeout(() => socket.destroy(), 50)
      })
      socket.once('close', () => resolve())
    })
    expect((await ask('grant_type=magic')).status).toBe(400)
  })
})
