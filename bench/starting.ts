/** Starting, resident memory, the longest chain, the demo: the figures of one process and our own SDK. */
import { spawn } from 'node:child_process'
import { createPrivateKey, sign } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type * as agentSdk from '@errand/agent'
import type { Bench } from './bench.ts'
import { type Folder, makeFolder, start } from './service.ts'

// dist/ alone is measured: the SDK too is the built one.
const built: string = new URL('../sdk/agent/dist/index.js', import.meta.url).href

const agentFile = (name: string, to: readonly string[]) => `client_id: ${name}
spiffe_id: spiffe://company.example/agents/${name}
display_name: ${name}
evidence: [private_key_jwt]
keys_file: agents/${name}.pub.jwk
stage: reversible_write
ceiling: [tickets:read_ticket, tickets:search_tickets, tickets:add_comment]
delegates_to: [${to.join(', ')}]
`

const CHAIN = ['research-lead', 'research-east', 'research-west', 'research-desk']

const jwk = async (folder: Folder, file: string) =>
  JSON.parse(await readFile(join(folder.path, 'keys', file), 'utf8')) as { kid: string }

async function userToken(folder: Folder, user: string): Promise<string> {
  const key = await jwk(folder, 'users/dev-issuer.jwk')
  const now = Math.floor(Date.now() / 1000)
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${part({ alg: 'ES256', typ: 'JWT', kid: key.kid })}.${part({
    iss: `${folder.issuer}/dev-issuer`,
    sub: user,
    aud: folder.issuer,
    iat: now,
    exp: now + 300,
    groups: ['support', 'finance'],
  })}`
  const privateKey = createPrivateKey({ key: key as never, format: 'jwk' })
  return `${input}.${sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

async function agentOf(folder: Folder, clientId: string) {
  const { createAgent, privateKeyJwt } = (await import(built)) as typeof agentSdk
  return createAgent({
    issuer: folder.issuer,
    evidence: privateKeyJwt({ clientId, key: (await jwk(folder, `agents/${clientId}.jwk`)) as never }),
  })
}

const details = {
  purpose: 'answer a question about an order',
  environment: 'staging',
  dataClassification: 'internal',
  deadlineSeconds: 900,
} as const

/** Bytes of a token whose chain has four actors. */
async function chainOfFour(folder: Folder): Promise<number> {
  const scope = 'tickets:read_ticket tickets:search_tickets tickets:add_comment'
  const lead = await agentOf(folder, CHAIN[0]!)
  let task = await lead.task({ subjectToken: await userToken(folder, 'alice'), ...details })
  let token = await task.token({ tool: 'tickets', scope })
  for (const name of CHAIN.slice(1)) {
    const handOver = await task.handOver({ to: name, tool: 'tickets', scope })
    const next = await agentOf(folder, name)
    task = await next.accept(handOver, { tool: 'tickets', scope })
    token = await task.token({ tool: 'tickets', scope })
  }
  return Buffer.byteLength(token.accessToken)
}

/** Exchanges with everything on, from this process: says what one loop of our own SDK sees, not what the service can. */
async function exchanges(
  folder: Folder,
  count: number,
  atOnce: number,
): Promise<{ perSecond: number; p50: number; p99: number }> {
  const agent = await agentOf(folder, CHAIN[0]!)
  const subjectToken = await userToken(folder, 'alice')
  const task = await agent.task({ subjectToken, ...details })
  const times: number[] = []
  let left = count
  const began = performance.now()
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) {
        const from = performance.now()
        // Each is a request of its own: a dry run is never cached, so ask for the real thing by a fresh task handle.
        const handle = await agent.task({ id: task.id, subjectToken })
        await handle.token({ tool: 'tickets', scope: 'tickets:read_ticket tickets:search_tickets tickets:add_comment' })
        times.push(performance.now() - from)
      }
    }),
  )
  const seconds = (performance.now() - began) / 1000
  times.sort((a, b) => a - b)
  return {
    perSecond: count / seconds,
    p50: times[Math.floor(times.length / 2)]!,
    p99: times[Math.floor(times.length * 0.99)]!,
  }
}

async function demoSeconds(): Promise<number> {
  const began = performance.now()
  const child = spawn('npm', ['run', '--silent', 'demo'], { stdio: ['ignore', 'ignore', 'inherit'] })
  const code = await new Promise((resolve) => child.once('exit', resolve))
  if (code !== 0) throw new Error(`the demo ended with ${code}`)
  return (performance.now() - began) / 1000
}

export async function startingSection({ note, say, quick }: Bench): Promise<void> {
  const agents = Object.fromEntries(
    CHAIN.map((name, index) => [`agents/${name}.yaml`, agentFile(name, CHAIN.slice(index + 1, index + 2))]),
  )
  const rounds = quick ? 3 : 7
  const firsts: number[] = []
  const starts: number[] = []
  for (let round = 0; round < rounds; round++) {
    const folder = await makeFolder(agents)
    try {
      for (const times of [firsts, starts]) {
        const service = await start(folder)
        times.push(service.startMs)
        await service.stop()
      }
    } finally {
      await folder.remove()
    }
  }
  note('first start, keys made', firsts, 'ms', { atMost: 1000 })
  note('start on an empty store', starts, 'ms', { atMost: 1000 })

  const folder = await makeFolder(agents)
  try {
    await (await start(folder)).stop()

    const service = await start(folder)
    note('resident after start', await service.residentMiB(), 'MiB', { atMost: 200 })
    note('token with a chain of four', await chainOfFour(folder), 'bytes', { atMost: 2048 })
    await exchanges(folder, 500, 16)
    const count = quick ? 1000 : 4000
    const load = await exchanges(folder, count, 16)
    note('exchanges, one client process with the SDK', load.perSecond, '/s')
    note('exchange, median of 16 at once', load.p50, 'ms')
    note('exchange, 99 % of 16 at once', load.p99, 'ms')
    note(`resident after ${count + 500} exchanges`, await service.residentMiB(), 'MiB', { atMost: 200 })
    await service.stop()
    say('  the demo')
    note('demo, from start to end', await demoSeconds(), 's', { atMost: 60 })
  } finally {
    await folder.remove()
  }
}
