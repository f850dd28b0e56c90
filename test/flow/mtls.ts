/** The service on real ports, one of them mTLS, behind a proxy that may say certificates; and clients that show theirs. */
import { createPrivateKey, KeyObject } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pino from 'pino'
import { serve } from '../../src/main.ts'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type Issued, issue, pemOf } from '../attest/pki.ts'
import { signJws } from '../house.ts'
import { freePort } from '../running.ts'

export const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

export interface Got {
  readonly status: number
  readonly body: Record<string, unknown>
  /** Whether it came over a connection that had answered before. */
  readonly reused: boolean
}

export type MtlsListener = Awaited<ReturnType<typeof openMtls>>

const keyPem = ({ keys }: Issued) => String(KeyObject.from(keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))

export async function openMtls(
  /** Files of config/, or what becomes of those of the sample. */
  config: Readonly<Record<string, string | ((text: string) => string)>>,
  startAt: number,
) {
  const folder = await mkdtemp(join(tmpdir(), 'errand-mtls-'))
  const [port, mtlsPort] = [await freePort(), await freePort()]
  const issuer = `http://127.0.0.1:${port}`
  await cp('config', join(folder, 'config'), { recursive: true })
  const write = async (file: string, change: string | ((text: string) => string)) => {
    const path = join(folder, 'config', file)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, typeof change === 'string' ? change : change(await readFile(path, 'utf8')), { mode: 0o600 })
  }
  const server = await issue({ name: 'CN=127.0.0.1', names: [{ type: 'ip', value: '127.0.0.1' }] })
  await write('../keys/tls/server.pem', pemOf(server))
  await write('../keys/tls/server.key', keyPem(server))
  const own = (text: string) => text.replaceAll('http://127.0.0.1:4460', issuer)
  await write('issuers/dev.yaml', own)
  await write('errand.yaml', (text) =>
    own(text).replace(
      'port: 4460',
      `port: ${port}\n  mtls: { port: ${mtlsPort}, cert_file: tls/server.pem, key_file: tls/server.key }\n  trusted_proxies: [127.0.0.2]\n  client_certificate_header: Client-Cert`,
    ),
  )
  for (const [file, change] of Object.entries(config)) await write(file, change)

  const clock = { ms: startAt * 1000 }
  const now = () => Math.floor(clock.ms / 1000)
  const lines: string[] = []
  const service = await serve({
    configDir: join(folder, 'config'),
    dataDir: join(folder, 'data'),
    keysDir: join(folder, 'keys'),
    print: () => undefined,
    nowMs: () => clock.ms,
    logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })

  const agents: Agent[] = []
  const userToken = async () => {
    const jwk = JSON.parse(await readFile(join(folder, 'keys', 'users', 'dev-issuer.jwk'), 'utf8')) as { kid: string }
    return signJws(
      { typ: 'JWT', kid: jwk.kid },
      {
        iss: `${issuer}/dev-issuer`,
        sub: 'alice',
        aud: issuer,
        iat: now(),
        exp: now() + 300,
        groups: ['support'],
        department: 'customer-care',
      },
      createPrivateKey({ key: jwk as never, format: 'jwk' }),
    )
  }

  return {
    issuer,
    mtlsPort,
    folder,
    service,
    clock,
    now,
    lines,
    /** A client with one connection that it keeps. */
    connected: (certificate?: { readonly chain: readonly Uint8Array[] } & Issued) => {
      const agent = new Agent({
        keepAlive: true,
        maxSockets: 1,
        rejectUnauthorized: false,
        ...(certificate
          ? { key: keyPem(certificate), cert: certificate.chain.map((der) => pemOf({ der })).join('') }
          : {}),
      })
      agents.push(agent)
      return (path: string, form: Record<string, string>, headers: Record<string, string> = {}): Promise<Got> =>
        new Promise((resolve, reject) => {
          const body = new URLSearchParams(form).toString()
          const own = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length, ...headers }
          const sent = request(
            { host: '127.0.0.1', port: mtlsPort, path, method: 'POST', agent, headers: own },
            (response) => {
              let text = ''
              response.on('data', (chunk) => {
                text += String(chunk)
              })
              response.on('end', () =>
                resolve({
                  status: response.statusCode ?? 0,
                  body: JSON.parse(text) as Record<string, unknown>,
                  reused: sent.reusedSocket,
                }),
              )
            },
          )
          sent.on('error', reject)
          sent.end(body)
        })
    },
    /** The form of an exchange by the research agent for alice. */
    exchange: async (more: Record<string, string> = {}) => ({
      grant_type: GRANT.exchange,
      subject_token: await userToken(),
      subject_token_type: TOKEN_TYPE.idToken,
      client_id: 'research',
      request_details: JSON.stringify({
        purpose: 'look',
        environment: 'staging',
        data_classification: 'internal',
        deadline_seconds: 900,
      }),
      ...TICKETS,
      ...more,
    }),
    close: async () => {
      for (const each of agents) each.destroy()
      await service.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
