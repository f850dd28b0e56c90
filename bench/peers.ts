/** Starts a contender, and prepares what is sent to it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { type KeyObject, randomBytes, sign } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import type { Load } from './load.ts'
import { EXCHANGE, PEER, PEER_RESOURCE } from './provider.ts'
import { generateKeyPairSync } from '../test/key-pairs.ts'

export interface Peer {
  readonly port: number
  readonly pid: number
  stop(): Promise<void>
}

export interface PeerOptions {
  readonly core?: number
  readonly nodeFlags?: readonly string[]
}

export async function startPeer(kind: string, keys: object, { core, nodeFlags = [] }: PeerOptions): Promise<Peer> {
  const script = fileURLToPath(new URL('./peer-server.ts', import.meta.url))
  const command = [process.execPath, ...nodeFlags, '--import', 'tsx', script, kind, JSON.stringify(keys)]
  if (core !== undefined) command.unshift('taskset', '-c', String(core))
  const child: ChildProcess = spawn(command[0]!, command.slice(1), {
    env: { ...process.env, NODE_ENV: 'production' },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const port = await new Promise<number>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the contender ${kind} ended with ${code}`)))
    child.stdout!.once('data', (line: Buffer) => resolve(Number(line.toString())))
  })
  return {
    port,
    pid: child.pid!,
    async stop() {
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await gone
    },
  }
}

export interface Pair {
  readonly privateKey: KeyObject
  readonly privateJwk: object
  readonly publicJwk: object
}

export function newPair(kid: string): Pair {
  const { privateKey, publicKey } = generateKeyPairSync('ec')
  const more = { kid, alg: 'ES256', use: 'sig' }
  return {
    privateKey,
    privateJwk: { ...privateKey.export({ format: 'jwk' }), ...more },
    publicJwk: { ...publicKey.export({ format: 'jwk' }), ...more },
  }
}

function jws(header: object, payload: object, key: KeyObject): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${part({ alg: 'ES256', ...header })}.${part(payload)}`
  return `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

export interface ProviderClient {
  readonly user: Pair
  readonly client: Pair
  readonly secret: string
}

/** `p`: a client secret, one subject token again and again. `q`: an assertion by the client's key, new each time. */
export function prepareProvider(port: number, kind: 'p' | 'q', count: number, by: ProviderClient): Load {
  const seconds = Math.floor(Date.now() / 1000)
  const times = { iat: seconds, exp: seconds + 300 }
  const subject = jws(
    { kid: 'user', typ: 'JWT' },
    { iss: `${PEER}/users`, sub: 'alice', aud: PEER, ...times, groups: ['support', 'finance'], department: 'care' },
    by.user.privateKey,
  )
  const form = {
    grant_type: EXCHANGE,
    subject_token: subject,
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    resource: PEER_RESOURCE,
    scope: 'desk:read desk:search desk:comment',
  }
  const basic = Buffer.from(`secret:${by.secret}`).toString('base64')
  const requests: Buffer[] = []
  for (let at = 0; at < count; at++) {
    const assertion = () => ({
      client_id: 'key',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: jws(
        { kid: 'client' },
        { iss: 'key', sub: 'key', aud: PEER, jti: randomBytes(16).toString('base64url'), ...times },
        by.client.privateKey,
      ),
    })
    const body = new URLSearchParams(kind === 'p' ? form : { ...form, ...assertion() }).toString()
    const authorization = kind === 'p' ? `Authorization: Basic ${basic}\r\n` : ''
    requests.push(
      Buffer.from(
        `POST /token HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/x-www-form-urlencoded\r\n${authorization}Content-Length: ${body.length}\r\n\r\n${body}`,
        'latin1',
      ),
    )
  }
  return { port, requests }
}
