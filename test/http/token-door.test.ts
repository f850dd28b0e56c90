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
