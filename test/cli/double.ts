/** A small stand-in for the service that proves every caller as the real one does, and a command line to run at it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readDpopProof } from '@errand/verifier/dpop.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey, jwkThumbprint } from '@errand/verifier/signature.ts'
import { type Context, Hono } from 'hono'
import pc from 'picocolors'
import type { Cli } from '../../src/cli/cli.ts'
import { run } from '../../src/cli/main.ts'
import { openKeyRing, type KeyRing } from '../../src/keys/key-ring.ts'
import { prepareMaterial } from '../../src/keys/material.ts'
import { readPrivateJwkFile } from '../../src/keys/private-jwk.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { memoryKeyStore } from '../keys/memory-key-store.ts'

export const NOW = 1_800_000_000
export const URL_OF_SERVICE = 'http://127.0.0.1:4460'
/** Where the sample configuration is: users and issuer come from there. */
const SAMPLE_CONFIG = new URL('../../config', import.meta.url).pathname

export interface Received {
  readonly method: string
  readonly path: string
  readonly query: { readonly [name: string]: string }
  readonly body: unknown
  readonly clientId: string
  /** Thumbprint of the key the proof was made with. */
  readonly jkt: string
}

export interface Double {
  readonly keysDir: string
  readonly ring: KeyRing
  /** Authenticated requests, in order. */
  readonly received: Received[]
  /** How often a nonce was asked for. */
  nonceRetries(): number
  /** Answers of authenticated endpoints, by `METHOD /path`. */
  readonly answers: Map<string, unknown>
  readonly cli: (
    ...argv: readonly string[]
  ) => Promise<{ readonly exit: number; readonly out: string; readonly err: string }>
  /** What Ctrl-C does. */
  interrupt(): void
  /** Changes what the next command sees. */
  readonly world: {
    env: { [name: string]: string }
    stdin: string
    reachable: boolean
    colors: boolean
    now: number
    command: string
    wait: Cli['wait']
  }
  close(): Promise<void>
}

export async function serviceDouble(): Promise<Double> {
  const root = await mkdtemp(join(tmpdir(), 'errand-cli-'))
  const keysDir = join(root, 'keys')
  await prepareMaterial({
    keysDir,
    mode: 'development',
    agents: ['research', 'triage'],
    tools: ['tickets'],
    userIssuer: true,
  })
  const publicKeys = new Map<string, unknown>()
  for (const [clientId, file] of [
    ['admin', 'admin.jwk'],
    ['research', 'agents/research.jwk'],
    ['triage', 'agents/triage.jwk'],
  ] as const)
    publicKeys.set(clientId, (await readPrivateJwkFile(join(keysDir, file))).publicJwk)
  const ring = await openKeyRing({
    store: memoryKeyStore(),
    sealer: createSealer(new Uint8Array(32)),
    now: () => NOW,
    monotonic: () => 0,
    purposes: ['token', 'feed'],
    announce: async () => {},
  })

  const received: Received[] = []
  const answers = new Map<string, unknown>()
  const spent = new Set<string>()
  let asked = 0
  const app = new Hono()
  app.get('/.well-known/oauth-authorization-server', (c) => c.json({ issuer: URL_OF_SERVICE }))
  app.get('/.well-known/jwks.json', (c) => c.body(ring.jwks().text, 200, { 'content-type': 'application/json' }))
  app.all('*', async (c) => {
    const text = await c.req.text()
    const form =
      c.req.header('content-type') === 'application/x-www-form-urlencoded' ? new URLSearchParams(text) : undefined
    const assertion = form?.get('client_assertion') ?? c.req.header('authorization')?.replace(/^ClientAssertion /, '')
    const problem = (error: string, status: 400 | 401) => c.json({ error }, status, { 'DPoP-Nonce': 'n-1' })
    const parsed = parseJws(assertion)
    if (!parsed.ok) return problem('invalid_client', 401)
    const { iss, sub, aud, jti, exp, iat } = parsed.value.payload
    const key = importVerifyKey(publicKeys.get(String(iss)), { algs: ['ES256'] })
    if (!key.ok || !checkSignature(parsed.value, key.value).ok || iss !== sub || aud !== URL_OF_SERVICE)
      return problem('invalid_client', 401)
    if (Number(exp) - Number(iat) > 300 || Number(exp) <= world.now) return problem('invalid_client', 401)
    const proof = readDpopProof(c.req.header('dpop') ?? '', {
      method: c.req.method,
      url: URL_OF_SERVICE + c.req.path,
      now: world.now,
      maxAgeSeconds: 60,
    })
    if (!proof.ok) return problem('invalid_dpop_proof', 400)
    if (proof.value.nonce !== 'n-1') {
      asked++
      return problem('use_dpop_nonce', form ? 400 : 401)
    }
    for (const id of [String(jti), proof.value.jti]) {
      if (spent.has(id)) return problem('invalid_client', 401)
      spent.add(id)
    }
    if (iss === 'admin' && proof.value.jkt !== jwkThumbprint(key.value.jwk)) return problem('invalid_dpop_proof', 401)
    received.push({
      method: c.req.method,
      path: c.req.path,
      query: c.req.query(),
      body: form ? Object.fromEntries(form) : text === '' ? undefined : JSON.parse(text),
      clientId: String(iss),
      jkt: proof.value.jkt,
    })
    return answerOf(c, answers.get(`${c.req.method} ${c.req.path}`), received.at(-1)!)
  })

  const world: Double['world'] = {
    env: { ERRAND_KEYS: keysDir, ERRAND_CONFIG: SAMPLE_CONFIG, ERRAND_DATA: join(root, 'data') },
    stdin: '',
    reachable: true,
    colors: false,
    now: NOW,
    command: 'errand',
    wait: async () => {},
  }
  const stop = new AbortController()
  return {
    keysDir,
    ring,
    received,
    answers,
    nonceRetries: () => asked,
    interrupt: () => stop.abort(),
    world,
    async cli(...argv) {
      const out: string[] = []
      const err: string[] = []
      const exit = await run(argv, {
        out: (line) => void out.push(`${line}\n`),
        err: (line) => void err.push(`${line}\n`),
        stdin: async () => world.stdin,
        env: world.env,
        fetch: async (url, init) => {
          if (!world.reachable) throw new TypeError('fetch failed')
          return app.fetch(new Request(url, init))
        },
        now: () => world.now,
        wait: world.wait,
        signal: stop.signal,
        colors: pc.createColors(world.colors),
        command: world.command,
        nodeVersion: '24.11.0',
      })
      return { exit, out: out.join(''), err: err.join('') }
    },
    close: () => rm(root, { recursive: true, force: true }),
  }
}

/** A function makes the answer of the request; an `error` member is a refusal with status 400, or its `status`. */
function answerOf(c: Context, answer: unknown, request: Received): Response {
  const value = (typeof answer === 'function' ? answer(request) : answer) as
    | { error?: string; status?: 400 }
    | undefined
  if (value === undefined) return c.json({ error: 'not_found', reason: 'not_found' }, 404)
  return value.error === undefined ? c.json(value) : c.json(value, value.status ?? 400)
}

/** Of a token of two operations: one permitted, one lost at the agent's stage. */
export const VERDICTS = [
  { tool: 'payments', operation: 'read_payment', effect: 'read', permitted: true, policies: ['base.reads'] },
  {
    tool: 'payments',
    operation: 'refund',
    effect: 'irreversible_write',
    permitted: false,
    lost_at: 'stage',
    reasons: ['stage reversible_write stops short of irreversible_write'],
    least_change: 'raise the stage of research to irreversible_write',
  },
]
