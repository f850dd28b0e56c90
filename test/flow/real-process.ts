/** `errand serve` as a real process on a folder of its own, and clients that reach it over a real connection. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createPrivateKey, randomBytes } from 'node:crypto'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JWK } from 'jose'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type KeyPair, newKeyPair, signJws } from '../house.ts'
import { freePort } from '../running.ts'

const BIN = fileURLToPath(new URL('../../bin/errand.js', import.meta.url))

export interface RealProcess {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  /** Resolves with the exit code, or the signal. */
  readonly ended: Promise<number | string>
  signal(name: NodeJS.Signals): void
}

/** Any `errand` command in `folder`, without waiting for anything. */
export function errand(folder: string, ...args: readonly string[]): RealProcess {
  const child = spawn(process.execPath, [BIN, ...args], {
    cwd: folder,
    env: { PATH: process.env['PATH'] ?? '', NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk) => {
    out += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    err += String(chunk)
  })
  const ended = new Promise<number | string>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(signal ?? code ?? -1))
  })
  return { child, out: () => out, err: () => err, ended, signal: (name) => void child.kill(name) }
}

export interface Place {
  readonly folder: string
  readonly port: number
  readonly issuer: string
  /** Starts `errand serve` and waits until it listens. */
  serve(): Promise<RealProcess>
  remove(): Promise<void>
}

export async function newPlace(change: (file: string, text: string) => string = (_, text) => text): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-real-'))
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  await cp('config', join(folder, 'config'), { recursive: true })
  for (const file of ['errand.yaml', 'issuers/dev.yaml']) {
    const path = join(folder, 'config', file)
    const text = (await readFile(path, 'utf8'))
      .replaceAll('http://127.0.0.1:4460', issuer)
      .replace('port: 4460', `port: ${port}`)
    await writeFile(path, change(file, text))
  }
  return {
    folder,
    port,
    issuer,
    async serve() {
      const started = errand(folder, 'serve')
      await new Promise<void>((resolve, reject) => {
        const look = () => {
          if (started.out().includes('Errand is listening')) resolve()
        }
        started.child.stdout?.on('data', look)
        void started.ended.then((code) => reject(new Error(`ended with ${code}: ${started.err()}`)))
      })
      return started
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

export interface Reply {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

const wallSeconds = () => Math.floor(Date.now() / 1000)

/** Where a client finds keys and service. */
export interface Reached extends Pick<Place, 'folder' | 'issuer'> {
  /** Where the service is reached, where that is not its issuer: one of several processes, or a proxy. */
  readonly base?: string
  /** The client's clock, Unix seconds. */
  readonly seconds?: () => number
}

/** A client of the service by its name; keys are read from the place's keys folder. */
export async function clientOf(
  { folder, issuer, base = issuer, seconds = wallSeconds }: Reached,
  file: string,
  clientId: string,
) {
  const jwk = JSON.parse(await readFile(join(folder, 'keys', file), 'utf8')) as JWK
  const { d: _, ...publicJwk } = jwk
  const key: KeyPair = {
    privateKey: createPrivateKey({ key: jwk as never, format: 'jwk' }),
    publicJwk,
    ...(jwk.kid === undefined ? {} : { kid: jwk.kid }),
  }
  let nonce = ''

  const assertion = () =>
    signJws(
      { typ: 'client-authentication+jwt', kid: key.kid },
      {
        iss: clientId,
        sub: clientId,
        aud: issuer,
        jti: randomBytes(12).toString('base64url'),
        iat: seconds(),
        exp: seconds() + 120,
      },
      key.privateKey,
    )
  const proof = (by: KeyPair, method: string, path: string) =>
    signJws(
      { typ: 'dpop+jwt', jwk: by.publicJwk },
      {
        jti: randomBytes(12).toString('base64url'),
        htm: method,
        htu: `${issuer}${path}`,
        iat: seconds(),
        ...(nonce === '' ? {} : { nonce }),
      },
      by.privateKey,
    )
  const send = async (method: string, path: string, headers: Record<string, string>, body?: string): Promise<Reply> => {
    const response = await fetch(`${base}${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
    nonce = response.headers.get('dpop-nonce') ?? nonce
    const text = await response.text()
    return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Reply['body']) }
  }
  /** Once more with the nonce that the first answer brought. */
  const withNonce = async (again: () => Promise<Reply>): Promise<Reply> => {
    const first = await again()
    return first.body['error'] === 'use_dpop_nonce' ? again() : first
  }
  const form = (fields: Readonly<Record<string, string>>) =>
    new URLSearchParams({ client_assertion_type: ASSERTION_TYPE.jwtBearer, ...fields }).toString()
  const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

  return {
    clientId,
    key,
    proofKey: newKeyPair(),
    assertion,
    /** `POST /token`; what was used up by it can be looked at afterwards. */
    async token(
      fields: Readonly<Record<string, string>>,
      { proofKey, ...more }: { readonly proofKey: KeyPair; readonly idempotencyKey?: string; readonly reuse?: string },
    ): Promise<Reply & { readonly spent: string }> {
      let spent = ''
      const reply = await withNonce(() => {
        spent = more.reuse ?? assertion()
        return send(
          'POST',
          '/token',
          {
            ...FORM,
            dpop: proof(proofKey, 'POST', '/token'),
            ...(more.idempotencyKey === undefined ? {} : { 'idempotency-key': more.idempotencyKey }),
          },
          form({ client_assertion: spent, ...fields }),
        )
      })
      return { ...reply, spent }
    },
    form: (path: string, fields: Readonly<Record<string, string>>) =>
      send('POST', path, FORM, form({ client_assertion: assertion(), ...fields })),
    /** A JSON endpoint, with a proof by the client's own key: what an administrator sends. */
    call: (method: string, path: string, json?: unknown) =>
      withNonce(() =>
        send(
          method,
          path,
          {
            authorization: `ClientAssertion ${assertion()}`,
            dpop: proof(key, method, path.split('?')[0]!),
            ...(json === undefined ? {} : { 'content-type': 'application/json' }),
          },
          json === undefined ? undefined : JSON.stringify(json),
        ),
      ),
  }
}
export type Client = Awaited<ReturnType<typeof clientOf>>

/** Form parameters of an exchange for Alice that opens a task. */
export async function aliceAsks({
  folder,
  issuer,
  seconds = wallSeconds,
}: Reached): Promise<() => Record<string, string>> {
  const jwk = JSON.parse(await readFile(join(folder, 'keys', 'users/dev-issuer.jwk'), 'utf8')) as JWK
  const privateKey = createPrivateKey({ key: jwk as never, format: 'jwk' })
  return () => ({
    grant_type: GRANT.exchange,
    subject_token: signJws(
      { typ: 'JWT', kid: jwk.kid },
      {
        iss: `${issuer}/dev-issuer`,
        sub: 'alice',
        aud: issuer,
        iat: seconds(),
        exp: seconds() + 300,
        groups: ['support', 'finance'],
        department: 'customer-care',
      },
      privateKey,
    ),
    subject_token_type: TOKEN_TYPE.idToken,
    request_details: JSON.stringify({
      purpose: 'look into an order',
      environment: 'staging',
      data_classification: 'internal',
      deadline_seconds: 900,
    }),
  })
}

export const claimsOf = (token: unknown): Readonly<Record<string, unknown>> =>
  JSON.parse(Buffer.from(String(token).split('.')[1] ?? '', 'base64url').toString('utf8')) as Record<string, unknown>
