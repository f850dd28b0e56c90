/**
 * The whole service in memory, with a clock that moves only when told: real rooms, real embedded store and audit log
 * in a temporary folder, the sample configuration (changed where a test says so), and callers that can prove who
 * they are.
 */
import { createHash, randomBytes, sign as signBytes, type KeyObject } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createPrivateKey } from 'node:crypto'
import type { JWK } from 'jose'
import pino from 'pino'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import type { AuditRecord, AuditSearch } from '../src/audit/log.ts'
import { type OpenService, openService } from '../src/main.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../src/oauth/words.ts'
import { generateKeyPairSync } from './key-pairs.ts'

/** 2026-11-23 is a Monday: policies that speak of business hours permit at 10:00 UTC. */
const START = Date.UTC(2026, 10, 23, 10, 0, 0) / 1000
export const ISSUER = 'http://127.0.0.1:4460'
export const DEV_ISSUER = `${ISSUER}/dev-issuer`

export interface Answer {
  readonly status: number
  // Bodies are JSON of many shapes; tests look into them.
  readonly body: Readonly<Record<string, never>> & { readonly [name: string]: unknown }
  readonly headers: Headers
  readonly text: string
}

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicJwk: JWK
  readonly kid?: string
}

export function newKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { privateKey, publicJwk: publicKey.export({ format: 'jwk' }) as JWK }
}

const base64url = (value: object | string): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

/** A compact JWS by hand, so that tests can make what no library would. */
export function signJws(header: object, payload: object | string, key: KeyObject): string {
  const input = `${base64url({ alg: 'ES256', ...header })}.${base64url(payload)}`
  return `${input}.${signBytes('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

export const decode = (jws: string): { header: Record<string, unknown>; payload: Record<string, unknown> } => {
  const [header = '', payload = ''] = jws.split('.')
  const read = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Record<string, unknown>
  return { header: read(header), payload: read(payload) }
}

export interface ProofOptions {
  readonly key?: KeyPair
  readonly method?: string
  readonly url?: string
  readonly accessToken?: string
  readonly nonce?: string | null
  readonly header?: object
  readonly claims?: object
}

export interface ExchangeOptions {
  /** Further or other form parameters; `undefined` leaves one out. */
  readonly form?: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly user?: string
  /** The DPoP key; the agent's own by default. `null` sends no proof. */
  readonly proofKey?: KeyPair | null
  readonly headers?: Readonly<Record<string, string>>
  readonly proof?: ProofOptions
  /** `/token` by default. */
  readonly path?: string
}

export type House = Awaited<ReturnType<typeof openHouse>>

export interface HouseOptions {
  /** Files under config/ to write (text) or to leave out (null). */
  readonly config?: Readonly<Record<string, string | null | ((text: string) => string)>>
  readonly startAt?: number
  /** Folders of an earlier house: a restart. */
  readonly folder?: string
  readonly env?: { readonly peer?: string }
}

export async function openHouse(options: HouseOptions = {}) {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'errand-house-')))
  const configDir = join(folder, 'config')
  if (!options.folder) await cp('config', configDir, { recursive: true })
  for (const [name, change] of Object.entries(options.config ?? {})) {
    const path = join(configDir, name)
    if (change === null) await rm(path)
    else {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, typeof change === 'string' ? change : change(await readFile(path, 'utf8')))
    }
  }
  const startMs = (options.startAt ?? START) * 1000
  const clock = { ms: startMs, monotonicMs: startMs }
  const lines: string[] = []
  const service: OpenService = await openService({
    configDir,
    dataDir: join(folder, 'data'),
    keysDir: join(folder, 'keys'),
    nowMs: () => clock.ms,
    monotonic: () => clock.monotonicMs,
    logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })
  const now = () => Math.floor(clock.ms / 1000)

  const keyOf = async (file: string): Promise<KeyPair> => {
    const jwk = JSON.parse(await readFile(join(folder, 'keys', file), 'utf8')) as JWK
    const { d: _, ...publicJwk } = jwk
    return {
      privateKey: createPrivateKey({ key: jwk as never, format: 'jwk' }),
      publicJwk,
      ...(jwk.kid === undefined ? {} : { kid: jwk.kid }),
    }
  }

  const fetch = async (
    method: string,
    path: string,
    init: { readonly headers?: Record<string, string>; readonly body?: string } = {},
  ): Promise<Answer> => {
    const request = new Request(`${ISSUER}${path}`, {
      method,
      headers: init.headers ?? {},
      ...(init.body === undefined ? {} : { body: init.body }),
    })
    const response = await service.app.fetch(request, { base: ISSUER, peer: options.env?.peer ?? '127.0.0.1' })
    const text = await response.text()
    // A bug is never the expected answer: show what the service logged of it.
    if (response.status === 500) console.error(lines.filter((line) => line.includes('unexpected fault')).at(-1))
    let body: unknown = {}
    try {
      body = JSON.parse(text)
    } catch {
      // Not JSON: the test looks at the text.
    }
    return { status: response.status, body: body as Answer['body'], headers: response.headers, text }
  }

  /** A proof for one of our endpoints, with a fresh nonce for `client` unless the test says otherwise. */
  const proof = (client: string, path: string, { key, ...more }: ProofOptions & { readonly key: KeyPair }): string => {
    const nonce = more.nonce === undefined ? nonceFor(client) : more.nonce
    return signJws(
      { typ: 'dpop+jwt', jwk: key.publicJwk, ...more.header },
      {
        jti: randomBytes(12).toString('base64url'),
        htm: more.method ?? 'POST',
        htu: more.url ?? `${ISSUER}${path}`,
        iat: now(),
        ...(nonce === null ? {} : { nonce }),
        ...(more.accessToken === undefined
          ? {}
          : { ath: createHash('sha256').update(more.accessToken).digest('base64url') }),
        ...more.claims,
      },
      key.privateKey,
    )
  }

  /** What clients learnt from challenges; their requests use what is fresh. */
  const nonces = new Map<string, string>()
  const nonceFor = (client: string): string => service.freshNonce(client)
  /** Asks as the client without a nonce and keeps what the challenge brings. */
  const learnNonce = async (client: string): Promise<string> => {
    const assertion = signJws({ typ: 'JWT', kid: 'none' }, { sub: client }, newKeyPair().privateKey)
    const answer = await fetch('GET', '/agents', { headers: { authorization: `ClientAssertion ${assertion}` } })
    const nonce = answer.headers.get('dpop-nonce') ?? ''
    nonces.set(client, nonce)
    return nonce
  }

  const assertionOf = (clientId: string, key: KeyPair, claims: object = {}, header: object = {}): string =>
    signJws(
      { typ: 'client-authentication+jwt', kid: key.kid, ...header },
      {
        iss: clientId,
        sub: clientId,
        aud: ISSUER,
        jti: randomBytes(12).toString('base64url'),
        iat: now(),
        exp: now() + 60,
        ...claims,
      },
      key.privateKey,
    )

  const userKey = await keyOf('users/dev-issuer.jwk')
  const GROUPS: Record<string, readonly string[]> = {
    alice: ['support', 'finance'],
    bob: ['engineering'],
    carol: ['support'],
  }
  const userToken = (user: string, claims: object = {}, header: object = {}): string =>
    signJws(
      { typ: 'JWT', kid: userKey.kid, ...header },
      {
        iss: DEV_ISSUER,
        sub: user,
        aud: ISSUER,
        iat: now(),
        exp: now() + 300,
        groups: GROUPS[user] ?? [],
        department: 'customer-care',
        ...claims,
      },
      userKey.privateKey,
    )

  const details = (more: object = {}): string =>
    JSON.stringify({
      purpose: 'answer a question about an order',
      environment: 'staging',
      data_classification: 'internal',
      deadline_seconds: 900,
      ...more,
    })

  const agent = async (clientId: string) => {
    const key = await keyOf(`agents/${clientId}.jwk`)
    const proofKey = newKeyPair()

    /** `POST /token` with whatever the test wants to change. */
    const post = async (
      form: Readonly<Record<string, string | readonly string[] | undefined>>,
      { headers = {}, proofKey: other, proof: proofOptions = {}, path = '/token' }: ExchangeOptions = {},
    ): Promise<Answer> => {
      const body = new URLSearchParams()
      const all = {
        client_assertion_type: ASSERTION_TYPE.jwtBearer,
        client_assertion: assertionOf(clientId, key),
        ...form,
      }
      for (const [name, value] of Object.entries(all)) {
        if (value === undefined) continue
        for (const each of typeof value === 'string' ? [value] : value) body.append(name, each)
      }
      const using = other === undefined ? proofKey : other
      const answer = await fetch('POST', path, {
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(using === null ? {} : { dpop: proof(clientId, path, { key: using, ...proofOptions }) }),
          ...headers,
        },
        body: body.toString(),
      })
      const nonce = answer.headers.get('dpop-nonce')
      if (nonce) nonces.set(clientId, nonce)
      return answer
    }

    return {
      clientId,
      key,
      proofKey,
      assertion: (claims?: object, header?: object) => assertionOf(clientId, key, claims, header),
      post,
      /** An exchange of a user's token, opening a task unless `form` names one. */
      exchange: (options: ExchangeOptions = {}) => {
        const { form = {}, user = 'alice' } = options
        return post(
          {
            grant_type: GRANT.exchange,
            subject_token: userToken(user),
            subject_token_type: TOKEN_TYPE.idToken,
            ...(form['task_id'] === undefined ? { request_details: details() } : {}),
            ...form,
          },
          options,
        )
      },
      /** With a token of its own as subject: narrow, renew, or hand over. */
      from: (token: string, form: ExchangeOptions['form'] = {}, options: ExchangeOptions = {}) =>
        post(
          {
            grant_type: GRANT.exchange,
            subject_token: token,
            subject_token_type: TOKEN_TYPE.accessToken,
            ...form,
          },
          options,
        ),
      handOver: (token: string, to: string, form: ExchangeOptions['form'] = {}, options: ExchangeOptions = {}) =>
        post(
          {
            grant_type: GRANT.exchange,
            subject_token: token,
            subject_token_type: TOKEN_TYPE.accessToken,
            requested_token_type: TOKEN_TYPE.handOver,
            delegate_to: to,
            ...form,
          },
          options,
        ),
      accept: (handOver: string, form: ExchangeOptions['form'] = {}, options: ExchangeOptions = {}) =>
        post(
          {
            grant_type: GRANT.exchange,
            subject_token: handOver,
            subject_token_type: TOKEN_TYPE.handOver,
            ...form,
          },
          options,
        ),
      /** A JSON endpoint, authenticated by a fresh assertion. */
      call: (method: string, path: string, json?: unknown) =>
        fetch(method, path, {
          headers: {
            authorization: `ClientAssertion ${assertionOf(clientId, key)}`,
            ...(json === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        }),
    }
  }

  /** A tool's verifier: `tool` is its name in the configuration. */
  const tool = async (name: string) => {
    const key = await keyOf(`tools/${name}.jwk`)
    const clientId = [...service.snapshot().tools.all]
      .map((each) => [each.name, `tool:${each.name}`] as const)
      .find(([each]) => each === name)![1]
    return {
      clientId,
      key,
      form: (path: string, form: Record<string, string>, headers: Record<string, string> = {}) =>
        fetch('POST', path, {
          headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
          body: new URLSearchParams({
            client_assertion_type: ASSERTION_TYPE.jwtBearer,
            client_assertion: assertionOf(clientId, key),
            ...form,
          }).toString(),
        }),
      call: (method: string, path: string, json?: unknown) =>
        fetch(method, path, {
          headers: {
            authorization: `ClientAssertion ${assertionOf(clientId, key)}`,
            ...(json === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        }),
    }
  }

  const adminKey = await keyOf('admin.jwk')
  const administrator =
    (clientId: string, key: KeyPair) =>
    async (method: string, path: string, json?: unknown, more: Record<string, string> = {}): Promise<Answer> => {
      const answer = await fetch(method, path, {
        headers: {
          authorization: `ClientAssertion ${assertionOf(clientId, key)}`,
          dpop: proof(clientId, path.split('?')[0]!, { key, method }),
          ...(json === undefined ? {} : { 'content-type': 'application/json' }),
          ...more,
        },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      })
      const nonce = answer.headers.get('dpop-nonce')
      if (nonce) nonces.set(clientId, nonce)
      return answer
    }
  const admin = administrator('admin', adminKey)

  return {
    service,
    folder,
    lines,
    now,
    /** Moves every clock of the service. */
    advance: (seconds: number) => {
      clock.ms += seconds * 1000
      clock.monotonicMs += seconds * 1000
    },
    /** Sets the wall clock, ahead or back; no time passes. */
    setClock: (bySeconds: number) => {
      clock.ms += bySeconds * 1000
    },
    /** Time passes, and the wall clock stands still. */
    freeze: (seconds: number) => {
      clock.monotonicMs += seconds * 1000
    },
    fetch,
    agent,
    tool,
    admin,
    administrator,
    adminKey,
    userKey,
    userToken,
    details,
    keyOf,
    assertionOf,
    proof,
    learnNonce,
    nonces,
    thumbprint: (key: KeyPair) => jwkThumbprint(key.publicJwk as never),
    records: (query: AuditSearch = {}): Promise<readonly AuditRecord[]> =>
      service.log.search({ limit: 1000, ...query }),
    config: (name: string) => join(configDir, name),
    /** Closes and leaves the folder, for a house on the same folder. */
    stop: () => service.close(),
    close: async () => {
      await service.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
