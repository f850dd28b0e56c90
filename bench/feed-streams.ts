/**
 * Very many verifiers as the service sees them: a process that holds streams of the feed open. argv: port, path of a
 * tool's key file, issuer, client id. Told `{ open }` it opens so many more, coming again where it is turned away; told
 * `{ count }` it says what arrived since.
 */
import { createPrivateKey, randomBytes, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

const [port = '', keyFile = '', issuer = '', clientId = ''] = process.argv.slice(2)
const jwk = JSON.parse(readFileSync(keyFile, 'utf8')) as { kid: string }
const key = createPrivateKey({ key: jwk as never, format: 'jwk' })
const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

function assertion(): string {
  const iat = Math.floor(Date.now() / 1000)
  const claims = { iss: clientId, sub: clientId, aud: issuer, jti: randomBytes(16).toString('base64url'), iat }
  const input = `${encoded({ typ: 'client-authentication+jwt', alg: 'ES256', kid: jwk.kid })}.${encoded({ ...claims, exp: iat + 60 })}`
  return `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

let open = 0
let lost = 0
let frames = 0
let turnedAway = 0
const FRAME = Buffer.from('event: frame\n')

/** Resolves when the first frame is there. */
function stream(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port: Number(port), host: '127.0.0.1' })
    let streaming = false
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (streaming) {
        open -= 1
        lost += 1
      } else resolve(false)
    })
    socket.on('data', (chunk: Buffer) => {
      for (let at = chunk.indexOf(FRAME); at >= 0; at = chunk.indexOf(FRAME, at + 1)) {
        frames += 1
        if (streaming) continue
        streaming = true
        open += 1
        resolve(true)
      }
      if (!streaming && chunk.subarray(0, 12).toString('latin1') === 'HTTP/1.1 503') {
        turnedAway += 1
        socket.destroy()
      }
    })
    socket.write(
      `GET /revocations/stream HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: ClientAssertion ${assertion()}\r\n\r\n`,
    )
  })
}

/** As a follower does: again after a while that is not the same for everybody. */
async function follow(): Promise<void> {
  while (!(await stream())) await pause(500 * (0.5 + Math.random()))
}

process.on('message', async (told: { readonly open?: number; readonly count?: true }) => {
  if (told.open !== undefined) {
    const began = performance.now()
    await Promise.all(Array.from({ length: told.open }, follow))
    process.send!({ opened: performance.now() - began })
  } else {
    process.send!({ open, lost, frames, turnedAway })
    frames = 0
  }
})
process.on('disconnect', () => process.exit())
process.send!({ ready: true })
