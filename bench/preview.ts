/** The preview of a revocation over a million live tokens, and what counting them costs each exchange. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { createBulk } from '../src/revoke/bulk.ts'
import { createLiveTokens } from '../src/revoke/live-tokens.ts'
import { createPreview } from '../src/revoke/preview.ts'
import { openStores } from '../src/store/open.ts'
import { newId } from '../src/tasks/ids.ts'
import type { IssuedToken } from '../src/tokens/issued.ts'
import type { Bench } from './bench.ts'
import { tasksIn } from './fill.ts'
import { cpuOf, spreadOf } from './spread.ts'

const TOKENS = 1_000_000
const TASKS = 10_000
/** Of which none is like another: as many as are told apart. */
const UNLIKE = 100_000
const ROUNDS = 9
const ENTRIES = 1_000
const last = (sorted: readonly number[]): number => sorted[Math.floor(sorted.length * 0.99)]!
const TOOLS = ['tickets', 'crm', 'payments', 'warehouse', 'github'].map((name) => `https://${name}.example.com/`)
const REV = { generation: 1, sequence: 1 }

const now = () => Math.floor(Date.now() / 1000)

/** Token number `at`, of so many tasks in turn, as an exchange has it when it is issued. */
const tokenOf = (tasks: readonly string[], at: number, exp: number) => {
  const task = tasks[at % tasks.length]!
  const token: IssuedToken = {
    kid: 'key-1',
    audience: TOOLS[at % TOOLS.length]!,
    expiresAt: exp,
    clientId: 'research',
    policyDigest: 'policy-1',
    task: { id: task, root: task, depth: 1 },
    attestation: {},
    hops: [],
  }
  const facts: HopFacts = {
    task,
    root: task,
    sub: `dev|user-${(at % tasks.length) % 1000}`,
    client_id: 'research',
    agent: 'spiffe://company.example/agents/research',
    domain: 'company.example',
    aud: token.audience,
    kid: token.kid,
    policy: token.policyDigest,
  }
  return { token, facts }
}

export async function previewSection({ note, say, quick }: Bench): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'errand-preview-'))
  await tasksIn(TASKS)(dataDir)
  const stores = await openStores({ store: { kind: 'embedded' }, dataDir, now, monotonic: () => performance.now() })
  try {
    const ids = (await stores.liveTasks.matching({}, now(), TASKS)).map(({ id }) => id)
    const live = createLiveTokens({ now })
    const start = now()
    globalThis.gc?.()
    const before = process.memoryUsage().rss
    const costs: number[] = []
    for (let from = 0; from < TOKENS; from += 100_000) {
      const made = Array.from({ length: 100_000 }, (_, at) =>
        tokenOf(ids, from + at, start + 180 + Math.floor(((from + at) / TOKENS) * 120)),
      )
      costs.push(
        await cpuOf(made.length, () => {
          for (const { token, facts } of made) live.note(token, REV, () => [{ rev: REV, facts }])
        }),
      )
    }
    globalThis.gc?.()
    note('a token counted as it is issued', spreadOf(costs), 'µs CPU', {
      atMost: 2,
      note: `a million, of ${TASKS} tasks at five tools`,
    })
    say(`  resident memory grew by ${Math.round((process.memoryUsage().rss - before) / 1e6)} MB`)

    const bulk = createBulk({
      now,
      pins: stores.bulkPins,
      log: stores.revocations,
      tasks: stores.tasks,
      revoke: { byMatch: () => Promise.reject(), endTask: () => Promise.reject() },
      preview: createPreview({ now, tasks: stores.tasks, liveTasks: stores.liveTasks, live, widened: async (m) => m }),
      widened: async (match) => match,
      audit: {
        logId: '',
        append: async () => ({ logId: '', index: 0 }),
        countStranger() {},
        healthy: () => true,
        close: async () => {},
      },
      newSecret: () => randomBytes(24),
    })
    const matches: readonly (readonly [string, HopFacts, number])[] = [
      ['everything', {}, TOKENS],
      ['an agent', { client_id: 'research' }, TOKENS],
      ['a tool', { aud: TOOLS[0]! }, TOKENS / TOOLS.length],
      ['a subject at a tool', { sub: 'dev|user-0', aud: TOOLS[0]! }, TOKENS / 1000],
      ['a task', { task: ids[0]! }, TOKENS / TASKS],
    ]
    for (const [name, match, expected] of matches) {
      const times: number[] = []
      for (let round = 0; round < (quick ? 3 : ROUNDS); round++) {
        const began = performance.now()
        const { preview } = await bulk.preview(match, 'ban', 'admin')
        times.push(performance.now() - began)
        if (preview.live.count !== expected || !preview.live.exact)
          throw new Error(`counted ${preview.live.count} and not ${expected}`)
      }
      note(`preview of ${name}: ${expected} live tokens`, spreadOf(times), 'ms', {
        atMost: 1000,
        note: 'members, mark and pin in the embedded store; no HTTP',
      })
    }

    const unlisten = stores.revocations.onAdded(live.killed)
    const entries = quick ? 50 : ENTRIES
    const entered = async (match: (at: number) => HopFacts) => {
      const times: number[] = []
      for (let at = 0; at < entries; at++) {
        const began = performance.now()
        await stores.revocations.add({
          id: newId('rev'),
          match: match(at),
          mode: 'cut',
          reason: 'a measurement',
          by: 'admin',
          at: now(),
          expiresAt: now() + 3600,
        })
        times.push(performance.now() - began)
      }
      return times.sort((a, b) => a - b)
    }
    const none = await entered((at) => ({ aud: `https://nobody-${at}.example.com/` }))
    const all = await entered(() => ({ client_id: 'research' }))
    unlisten()
    note(`a revocation of ${TOKENS} live tokens, on disk and counted, 99 % of ${entries}`, last(all), 'ms', {
      atMost: 20,
    })
    note('the same where no token is live', last(none), 'ms')

    const unlike = createLiveTokens({ now })
    const names = Array.from({ length: UNLIKE }, (_, at) => `task_${String(at).padStart(22, '0')}`)
    for (let at = 0; at < UNLIKE; at++) {
      const { token, facts } = tokenOf(names, at, start + 300)
      unlike.note(token, REV, () => [{ rev: REV, facts }])
    }
    const times: number[] = []
    for (let round = 0; round < (quick ? 3 : ROUNDS); round++) {
      const began = performance.now()
      await unlike.matching({ client_id: 'research' }, { withTasks: true })
      times.push(performance.now() - began)
    }
    note(`${UNLIKE} live tokens of which none is like another, counted for a preview`, spreadOf(times), 'ms', {
      atMost: 1000,
    })
  } finally {
    await stores.close()
    await rm(dataDir, { recursive: true })
  }
}
