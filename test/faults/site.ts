/** The service as one or several real processes that share keys and, through Redis, state; and those who use it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createVerifier, VerificationError, type Verifier, type VerifierOptions } from '@errand/verifier'
import type { JWK } from 'jose'
import { aliceAsks, type Client, clientOf, type Reached } from '../flow/real-process.ts'
import { type KeyPair, signJws } from '../house.ts'
import { freePort } from '../running.ts'

const BIN = fileURLToPath(new URL('../../bin/errand.js', import.meta.url))

export interface Replica {
  readonly base: string
  readonly pid: number
  readonly dataDir: string
  readonly configDir: string
  /** What it has printed to stderr: its log. */
  log(): string
  /** Exit code or signal, once it has ended. */
  readonly ended: Promise<number | string>
  hasEnded(): boolean
  signal(name: NodeJS.Signals): void
  descriptors(): number
}

export interface StartOptions {
  /** Each replica has a folder of its own by its name; the same name again is a restart. */
  readonly name?: string
  readonly env?: Readonly<Record<string, string>>
  readonly nodeArgs?: readonly string[]
}

export interface SiteOptions {
  readonly redisUrl?: string
  /** Further lines of errand.yaml. */
  readonly settings?: string
  readonly change?: (file: string, text: string) => string
  readonly seconds?: () => number
}

/** Loads are tried, not rations. */
const UNRATIONED = 'bounds: { strangers_per_second_per_source: 100000, requests_per_second_per_client: 100000 }\n'

export type Site = Awaited<ReturnType<typeof openSite>>

export async function openSite(options: SiteOptions = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'errand-site-'))
  const issuerPort = await freePort()
  const issuer = `http://127.0.0.1:${issuerPort}`
  const ports = new Map<string, number>()
  const children = new Set<ChildProcess>()
  const verifiers: Verifier[] = []

  async function prepare(name: string): Promise<{ readonly configDir: string; readonly port: number }> {
    const configDir = join(folder, name, 'config')
    const known = ports.get(name)
    if (known !== undefined) return { configDir, port: known }
    const port = ports.size === 0 ? issuerPort : await freePort()
    ports.set(name, port)
    await cp('config', configDir, { recursive: true })
    for (const file of ['errand.yaml', 'issuers/dev.yaml', 'tools/tickets.yaml']) {
      const path = join(configDir, file)
      let text = (await readFile(path, 'utf8')).replaceAll('http://127.0.0.1:4460', issuer)
      if (file === 'errand.yaml') {
        text = `${text.replace('port: 4460', `port: ${port}`)}${UNRATIONED}${options.settings ?? ''}`
        if (options.redisUrl !== undefined)
          text = text.replace('kind: embedded', `kind: redis\n  url: ${options.redisUrl}\n  prefix: errand`)
      }
      await writeFile(path, options.change?.(file, text) ?? text)
    }
    return { configDir, port }
  }

  async function start({ name = 'one', env = {}, nodeArgs = [] }: StartOptions = {}): Promise<Replica> {
    const { configDir, port } = await prepare(name)
    const dataDir = join(folder, name, 'data')
    const places = ['--config', configDir, '--data', dataDir, '--keys', join(folder, 'keys')]
    const child = spawn(process.execPath, [...nodeArgs, BIN, 'serve', ...places], {
      env: { PATH: process.env['PATH'] ?? '', ...env },
    })
    children.add(child)
    let out = ''
    let log = ''
    child.stderr!.on('data', (chunk) => {
      log = (log + String(chunk)).slice(-100_000)
    })
    const ended = new Promise<number | string>((resolve) => {
      child.on('close', (code, signal) => {
        children.delete(child)
        resolve(signal ?? code ?? -1)
      })
    })
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on('data', (chunk) => {
        out += String(chunk)
        if (out.includes('Errand is listening')) resolve()
      })
      child.once('error', reject)
      void ended.then((code) => reject(new Error(`ended with ${code}: ${out}${log}`)))
    })
    return {
      base: `http://127.0.0.1:${port}`,
      pid: child.pid!,
      dataDir,
      configDir,
      log: () => log,
      ended,
      hasEnded: () => !children.has(child),
      signal: (signal) => void child.kill(signal),
      descriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    }
  }

  const reached = (base: string): Reached => ({
    folder,
    issuer,
    base,
    ...(options.seconds === undefined ? {} : { seconds: options.seconds }),
  })
  const jwk = async (file: string) => JSON.parse(await readFile(join(folder, 'keys', file), 'utf8')) as JWK

  return {
    folder,
    issuer,
    start,
    jwk,
    client: (base: string, file: string, clientId: string): Promise<Client> => clientOf(reached(base), file, clientId),
    agent: (base: string, id: string): Promise<Client> => clientOf(reached(base), `agents/${id}.jwk`, id),
    admin: (base: string): Promise<Client> => clientOf(reached(base), 'admin.jwk', 'admin'),
    tickets: (base: string): Promise<Client> => clientOf(reached(base), 'tools/tickets.jwk', 'tool:tickets'),
    alice: () => aliceAsks(reached(issuer)),
    /** A verifier of the ticket desk that follows the service at `serviceUrl`. */
    async verifier(serviceUrl: string, more: Partial<VerifierOptions> = {}): Promise<Verifier> {
      const verifier = createVerifier({
        issuer,
        serviceUrl,
        audience: 'https://tickets.example.com/',
        tool: 'tickets',
        key: { ...(await jwk('tools/tickets.jwk')) },
        acceptDevelopmentTokens: true,
        ...more,
      })
      verifiers.push(verifier)
      await verifier.ready()
      return verifier
    },
    close: async () => {
      for (const verifier of verifiers) verifier.close()
      for (const child of children) child.kill('SIGCONT')
      for (const child of children) child.kill('SIGKILL')
      while (children.size > 0) await new Promise((resolve) => setTimeout(resolve, 10))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Headers of a call with this token, proven anew. */
export function presented(token: string, proofKey: KeyPair, url: string, seconds = Date.now() / 1000) {
  const proof = signJws(
    { typ: 'dpop+jwt', jwk: proofKey.publicJwk },
    {
      jti: randomBytes(12).toString('base64url'),
      htm: 'GET',
      htu: url,
      iat: Math.floor(seconds),
      ath: createHash('sha256').update(token).digest('base64url'),
    },
    proofKey.privateKey,
  )
  return { authorization: `DPoP ${token}`, dpop: proof }
}

const TICKET = 'https://tickets.example.com/tickets/7'

/** `accepted`, or the code of the refusal. */
export async function verdictOf(verifier: Verifier, token: string, proofKey: KeyPair): Promise<string> {
  try {
    const headers = presented(token, proofKey, TICKET)
    await verifier.verify({ method: 'GET', url: TICKET, headers }, { operation: 'read_ticket' })
    return 'accepted'
  } catch (error) {
    if (error instanceof VerificationError) return error.code
    throw error
  }
}
