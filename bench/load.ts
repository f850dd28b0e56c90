/**
 * The load of the benchmarks: whole exchanges, prepared and signed beforehand, sent over kept-alive connections by a
 * process that is not the server's. Each DPoP proof is new; in `steady` the agent's evidence and its user's token
 * are the same ones again, in `cold` every token and the proof's key are new as well.
 *
 *     const site = await openSite()
 *     const load = await prepare(site, 'steady', 10_000)
 *     const result = await run(load, { connections: 64, pid: site.pid })
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { AGENT, CONFIG, RESOURCE, RIGHTS, SCOPE, SPIFFE_ID } from './site-config.ts'
import { type Folder, makeFolder, type Running, start, type StartOptions } from './service.ts'

export type Mode = 'steady' | 'cold'

export interface Site {
  readonly folder: Folder
  readonly service: Running
  readonly pid: number
  readonly keys: SiteKeys
  close(): Promise<void>
}

interface SiteKeys {
  /** Of the trust domain that attests the agent. */
  readonly workload: KeyObject
  readonly user: { readonly key: KeyObject; readonly kid: string }
  readonly agent: { readonly key: KeyObject; readonly kid: string }
}

export interface SiteOptions extends StartOptions {
  /** Files of config/ added or changed. */
  readonly files?: Readonly<Record<string, string>>
  /** Where state is kept; embedded by default. */
  readonly redisUrl?: string
  /** Fills the data folder, after a first start has made it. */
  readonly fill?: (dataDir: string) => Promise<void>
  /** Changes the copy of the build that is started. */
  readonly dist?: (folder: string) => Promise<void>
}

const base64url = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

function jws(header: object, payload: object, key: KeyObject): string {
  const input = `${base64url(header)}.${base64url(payload)}`
  return `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

/** The sample company with one more agent, attested by a platform, and a tool of eight operations; started. */
export async function openSite({ files = {}, redisUrl, fill, dist, ...options }: SiteOptions = {}): Promise<Site> {
  const folder = await makeFolder({ ...CONFIG, ...files })
  await dist?.(join(folder.path, 'dist'))
  const rights = join(folder.path, 'config/issuers/dev.yaml')
  await writeFile(rights, (await readFile(rights, 'utf8')).replace('  support:\n', `  support:\n${RIGHTS}`))
  if (redisUrl !== undefined) {
    const settings = join(folder.path, 'config/errand.yaml')
    const text = await readFile(settings, 'utf8')
    await writeFile(settings, text.replace('kind: embedded', `kind: redis\n  url: ${redisUrl}`))
  }
  const { privateKey: workload, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await mkdir(join(folder.path, 'keys'), { mode: 0o700 })
  await writeFile(
    join(folder.path, 'keys/bench-bundle.json'),
    JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), use: 'jwt-svid', kid: 'workload' }] }),
  )
  if (fill) {
    await (await start(folder)).stop()
    await fill(join(folder.path, 'data'))
  }
  const service = await start(folder, options)
  const read = async (file: string) => {
    const jwk = JSON.parse(await readFile(join(folder.path, 'keys', file), 'utf8')) as { readonly kid: string }
    return { key: createPrivateKey({ key: jwk as never, format: 'jwk' }), kid: jwk.kid }
  }
  return {
    folder,
    service,
    pid: service.process.pid!,
    keys: { workload, user: await read('users/dev-issuer.jwk'), agent: await read(`agents/${AGENT}.jwk`) },
    close: async () => {
      await service.stop()
      await folder.remove()
    },
  }
}

export interface PrepareOptions {
  /** What the agent shows: standing evidence of its platform (default), or an assertion by its own key, good once. */
  readonly evidence?: 'jwt_svid' | 'private_key_jwt'
  /** Into so many tasks, in turn; 1 by default. */
  readonly tasks?: number
  /** Members of the form left out or put in place of what is there; `undefined` leaves out. */
  readonly form?: Readonly<Record<string, string | undefined>>
  /** Without a proof: with `private_key_jwt` only. */
  readonly withoutProof?: boolean
}

export interface Load {
  readonly port: number
  readonly requests: readonly Buffer[]
}

const fresh = () => randomBytes(16).toString('base64url')
const seconds = () => Math.floor(Date.now() / 1000)

interface ProofKey {
  readonly key: KeyObject
  readonly jwk: object
}
function newProofKey(): ProofKey {
  // Not through `export({ format: 'jwk' })`: see src/keys/fresh-key.ts.
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  })
  const half = (from: number, to?: number) => publicKey.subarray(from, to).toString('base64url')
  return {
    key: createPrivateKey({ key: privateKey, type: 'pkcs8', format: 'der' }),
    jwk: { kty: 'EC', crv: 'P-256', x: half(-64, -32), y: half(-32) },
  }
}

/** Makes `count` requests; to be sent soon, for proofs and nonces are good for a minute. Opens the tasks they are for. */
export async function prepare(site: Site, mode: Mode, count: number, options: PrepareOptions = {}): Promise<Load> {
  const next = await preparation(site, mode, options)
  return { port: Number(new URL(site.folder.issuer).port), requests: Array.from({ length: count }, next) }
}

/** Opens the tasks, and makes one request after the other. */
export async function preparation(site: Site, mode: Mode, options: PrepareOptions = {}): Promise<() => Buffer> {
  const { issuer } = site.folder
  const { keys } = site
  const port = Number(new URL(issuer).port)
  const byKey = options.evidence === 'private_key_jwt'
  const url = `${issuer}/token`

  const svid = () =>
    jws(
      { alg: 'ES256', kid: 'workload', typ: 'JWT' },
      { sub: SPIFFE_ID, aud: [issuer], iat: seconds(), exp: seconds() + 300, jti: fresh() },
      keys.workload,
    )
  const assertion = () =>
    jws(
      { alg: 'ES256', kid: keys.agent.kid },
      { iss: AGENT, sub: AGENT, aud: issuer, iat: seconds(), exp: seconds() + 120, jti: fresh() },
      keys.agent.key,
    )
  const evidence = byKey ? assertion : svid
  const userToken = () =>
    jws(
      { alg: 'ES256', typ: 'JWT', kid: keys.user.kid },
      {
        iss: `${issuer}/dev-issuer`,
        sub: 'alice',
        aud: issuer,
        iat: seconds(),
        exp: seconds() + 300,
        jti: fresh(),
        groups: ['support', 'finance'],
        department: 'customer-care',
      },
      keys.user.key,
    )
  const proof = ({ key, jwk }: ProofKey, nonce: string | undefined) =>
    jws(
      { alg: 'ES256', typ: 'dpop+jwt', jwk },
      { jti: fresh(), htm: 'POST', htu: url, iat: seconds(), ...(nonce === undefined ? {} : { nonce }) },
      key,
    )
  const form = (client: string, user: string, task: Readonly<Record<string, string>>): string => {
    const members: Record<string, string | undefined> = {
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: user,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      client_assertion: client,
      client_assertion_type: `urn:ietf:params:oauth:client-assertion-type:${byKey ? 'jwt-bearer' : 'jwt-spiffe'}`,
      resource: RESOURCE,
      scope: SCOPE,
      ...task,
      ...options.form,
    }
    const given = Object.entries(members).filter((entry): entry is [string, string] => entry[1] !== undefined)
    return new URLSearchParams(given).toString()
  }

  const standing = { client: evidence(), user: userToken(), proofKey: newProofKey() }
  let nonce: string | undefined
  const ask = async (task: Readonly<Record<string, string>>) => {
    let challenges = 0
    for (let attempt = 0; ; attempt++) {
      const client = byKey ? evidence() : standing.client
      const answer = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(options.withoutProof ? {} : { dpop: proof(standing.proofKey, nonce) }),
        },
        body: form(client, standing.user, task),
      })
      nonce = answer.headers.get('dpop-nonce') ?? nonce
      const body = (await answer.json()) as { task_id?: string; error?: string }
      if (body.task_id !== undefined) return body.task_id
      // An overloaded service is asked again, and may then want another nonce.
      if (answer.status === 503 && attempt < 1000) await new Promise((resolve) => setTimeout(resolve, 10))
      else if (body.error !== 'use_dpop_nonce' || ++challenges > 2)
        throw new Error(`no task was opened: ${JSON.stringify(body)}`)
    }
  }
  const request_details = JSON.stringify({
    purpose: 'answer a question about an order',
    environment: 'staging',
    data_classification: 'internal',
    deadline_seconds: 1800,
    budget: { max_exchanges: 100_000 },
  })
  const tasks: string[] = []
  while (tasks.length < (options.tasks ?? 1)) tasks.push(await ask({ request_details }))

  const cold = mode === 'cold'
  let made = 0
  return () => {
    const body = form(cold || byKey ? evidence() : standing.client, cold ? userToken() : standing.user, {
      task_id: tasks[made++ % tasks.length]!,
    })
    const proofLine = options.withoutProof ? '' : `DPoP: ${proof(cold ? newProofKey() : standing.proofKey, nonce)}\r\n`
    return Buffer.from(
      `POST /token HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/x-www-form-urlencoded\r\n${proofLine}Content-Length: ${body.length}\r\n\r\n${body}`,
      'latin1',
    )
  }
}

export interface RunOptions {
  readonly connections?: number
  /** Requests a second, sent when they are due whatever is still unanswered; without it as fast as answers come. */
  readonly rate?: number
  /** Whose CPU time is read (Linux). */
  readonly pid?: number
}

export interface Result {
  readonly answers: number
  /** Answers that were not 200. */
  readonly failed: number
  readonly firstFailure?: string
  readonly seconds: number
  readonly perSecond: number
  /** Milliseconds; from when a request was due. */
  readonly p50: number
  readonly p99: number
  /** Of the server, user and system, all threads, microseconds a request. */
  readonly cpuMicros?: number
}

/** CPU time of a process so far, microseconds; in steps of 10 ms. */
export function cpuOf(pid: number): number {
  const [utime, stime] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ').slice(11, 13)
  return (Number(utime) + Number(stime)) * 10_000
}

/** Sends each request once, over kept-alive connections, one at a time on each. */
export async function run({ port, requests }: Load, options: RunOptions = {}): Promise<Result> {
  const { connections = 64, rate, pid } = options
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(port)))
  const times = new Float64Array(requests.length)
  let sent = 0
  let answered = 0
  let failed = 0
  let firstFailure: string | undefined
  let finish: () => void = () => undefined
  let broke: (error: Error) => void = () => undefined
  const done = new Promise<void>((resolve, reject) => {
    finish = resolve
    broke = reject
  })
  const idle: Socket[] = []
  const cpuBefore = pid === undefined ? 0 : cpuOf(pid)
  const began = performance.now()
  const dueAt = (at: number): number => (rate === undefined ? performance.now() : began + (at * 1000) / rate)

  const begun = new Map<Socket, { readonly at: number; readonly due: number }>()
  const send = (socket: Socket): void => {
    if (sent >= requests.length) return
    const at = sent
    const due = dueAt(at)
    if (due > performance.now()) {
      idle.push(socket)
      return
    }
    sent += 1
    begun.set(socket, { at, due })
    socket.write(requests[at]!)
  }
  for (const socket of sockets) {
    let rest: Buffer = Buffer.alloc(0)
    socket.on('error', broke)
    // After the last answer nobody listens any more.
    socket.on('close', () =>
      broke(new Error(`a connection was closed after ${answered} of ${requests.length} answers`)),
    )
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const head = rest.indexOf('\r\n\r\n')
      if (head < 0) return
      const text = rest.toString('latin1', 0, head)
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? Number.NaN)
      if (Number.isNaN(length)) return broke(new Error(`an answer without a length: ${text}`))
      if (rest.length < head + 4 + length) return
      const { at, due } = begun.get(socket)!
      times[at] = performance.now() - due
      answered += 1
      if (!text.startsWith('HTTP/1.1 200 ')) {
        failed += 1
        firstFailure ??= rest.toString('latin1', 0, head + 4 + length)
      }
      rest = rest.subarray(head + 4 + length)
      if (answered === requests.length) finish()
      else send(socket)
    })
  }
  for (const socket of sockets) send(socket)
  const timer =
    rate === undefined
      ? undefined
      : setInterval(() => {
          for (const socket of idle.splice(0)) send(socket)
        }, 1)
  await done.finally(() => clearInterval(timer))
  const elapsed = (performance.now() - began) / 1000
  const cpu = pid === undefined ? undefined : (cpuOf(pid) - cpuBefore) / requests.length
  for (const socket of sockets) socket.destroy()
  times.sort()
  return {
    answers: answered,
    failed,
    ...(firstFailure === undefined ? {} : { firstFailure }),
    seconds: elapsed,
    perSecond: answered / elapsed,
    p50: times[Math.floor(times.length * 0.5)]!,
    p99: times[Math.floor(times.length * 0.99)]!,
    ...(cpu === undefined ? {} : { cpuMicros: cpu }),
  }
}

const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.once('error', reject)
    socket.once('connect', () => resolve(socket))
  })
