/** Token keys rotated again and again while agents call a tool: every tool of the sample follows, one of them is called. */
import { createAgent, type Task, privateKeyJwt } from '@errand/agent'
import { createVerifier, type Verifier } from '@errand/verifier'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decode } from './house.ts'
import { openRunning } from './running.ts'

const TOOLS = {
  tickets: 'https://tickets.example.com/',
  crm: 'https://crm.example.com/',
  github: 'https://github-gateway.example.com/',
  payments: 'https://payments.example.com/',
  warehouse: 'https://warehouse.example.com/',
} as const

export interface RotationLoad {
  readonly seconds: number
  /** Between two wishes for a new key. */
  readonly everyMs: number
  readonly workers: number
  /** Of the pauses between calls. */
  readonly seed: number
  /** Tools that do not follow, so that nobody can say what they hold. */
  readonly silent?: readonly (keyof typeof TOOLS)[]
}

export interface RotationResult {
  readonly calls: number
  readonly exchanges: number
  /** What was refused, in words; nothing here was ever revoked. */
  readonly refused: readonly string[]
  /** Keys whose tokens were accepted, in the order in which they were first seen. */
  readonly seen: readonly string[]
  /** Those of `seen` that were not in the key set before. */
  readonly unpublished: readonly string[]
  readonly states: Readonly<Record<string, number>>
}

export async function rotateUnderLoad(load: RotationLoad): Promise<RotationResult> {
  const running = await openRunning((file, text) =>
    file === 'errand.yaml' ? `${text}\nbounds: { requests_per_second_per_client: 100000 }\n` : text,
  )
  const verifiers: Verifier[] = []
  const server = createServer((request, response) => void answer(request.headers).then((text) => response.end(text)))
  const random = randomFrom(load.seed)
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
  const refused: string[] = []
  const seen: string[] = []
  const published = new Set<string>()
  const unpublished: string[] = []
  let calls = 0
  let exchanges = 0
  let over = false

  async function answer(headers: Readonly<Record<string, unknown>>): Promise<string> {
    calls += 1
    const kid = String(decode(String(headers['authorization']).split(' ')[1] ?? '').header['kid'])
    const request = { method: 'GET', url: `${url}/tickets/7`, headers } as Parameters<Verifier['verify']>[0]
    try {
      await verifiers[0]!.verify(request, { operation: 'read_ticket', arguments: { ticket_id: '7' } })
    } catch (error) {
      refused.push(`${(error as { code?: string }).code ?? String(error)} (key ${kid})`)
      return 'refused'
    }
    if (!seen.includes(kid)) {
      seen.push(kid)
      if (!published.has(kid)) unpublished.push(kid)
    }
    return 'ok'
  }
  const look = async () => {
    const { keys } = (await (await fetch(`${running.issuer}/.well-known/jwks.json`)).json()) as {
      keys: { kid: string }[]
    }
    for (const { kid } of keys) published.add(kid)
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    for (const [tool, audience] of Object.entries(TOOLS)) {
      if (load.silent?.includes(tool as keyof typeof TOOLS)) continue
      const key = { ...(await running.jwk(`tools/${tool}.jwk`)) }
      verifiers.push(createVerifier({ issuer: running.issuer, audience, tool, key, acceptDevelopmentTokens: true }))
    }
    await Promise.all(verifiers.map((verifier) => verifier.ready()))
    const agent = createAgent({
      issuer: running.issuer,
      evidence: privateKeyJwt({ clientId: 'research', key: JSON.stringify(await running.jwk('agents/research.jwk')) }),
    })
    const subjectToken = await running.userToken('alice', ['support', 'finance'])
    const newTask = (): Promise<Task> =>
      agent.task({
        subjectToken,
        purpose: 'Find out why order 4711 was refunded twice',
        environment: 'staging',
        dataClassification: 'internal',
        deadlineSeconds: 600,
      })
    const worker = async () => {
      // A new task each few calls: each asks for a token, by whatever key signs then. The first keeps its own.
      const first = await newTask()
      await first.fetch('tickets', `${url}/tickets/7`)
      while (!over) {
        const task = await newTask()
        exchanges += 1
        for (const each of [task, first, task]) await each.fetch('tickets', `${url}/tickets/7`)
        await pause(random() * 20)
      }
    }
    await look()
    const work = Promise.all(Array.from({ length: load.workers }, worker))
    const until = performance.now() + load.seconds * 1000
    for (let next = performance.now(); next < until; next += load.everyMs) {
      await pause(next - performance.now())
      await running.admin('/keys/rotate', {})
      await look()
    }
    await pause(3_000)
    over = true
    await work
    const keys = (await running.admin('/keys'))['keys'] as readonly { purpose: string; state: string }[]
    const states: Record<string, number> = {}
    for (const { purpose, state } of keys) if (purpose === 'token') states[state] = (states[state] ?? 0) + 1
    return { calls, exchanges, refused, seen, unpublished, states }
  } finally {
    over = true
    for (const verifier of verifiers) verifier.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await running.close()
  }
}

/** Mulberry32: the same pauses for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
