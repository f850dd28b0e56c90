import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

const PROJECT = fileURLToPath(new URL('../../', import.meta.url))
const PATIENCE_MS = 120_000
const run = promisify(execFile)

/** The demo as its own process group, so that whatever it leaves behind can be seen, and ended. */
function startDemo(folder: string, args: readonly string[] = []) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/company/demo.ts', '--patient', ...args], {
    cwd: PROJECT,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let text = ''
  const waiting = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      text += chunk
      for (const look of waiting) look()
    })
  }
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  const group = -child.pid!
  return {
    child,
    ended,
    text: () => text,
    until: (part: string) =>
      new Promise<void>((resolve, reject) => {
        const look = (): void => {
          if (!text.includes(part)) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
        void ended.then(() => reject(new Error(`the demo ended before "${part}":\n${text}`)))
      }),
    /** What tsx started for itself ends a moment after the process it served. */
    isGone: () => expect.poll(() => aliveIn(child.pid!), { timeout: 5000 }).toEqual([]),
    kill: () => {
      try {
        process.kill(group, 'SIGKILL')
      } catch {
        // All gone, as it should be.
      }
    },
  }
}

/** tsx keeps its cache of compiled sources beside it. */
const leftIn = (folder: string): string[] => readdirSync(folder).filter((name) => name.startsWith('errand-demo-'))

/** Processes of a group, those left out that have ended and wait for somebody to ask how. */
function aliveIn(group: number): string[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc').filter((pid) => {
    if (!/^[0-9]+$/.test(pid)) return false
    try {
      // The name may hold anything, so it is read from behind: state, parent, group.
      const [state, , itsGroup] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
      return Number(itsGroup) === group && state !== 'Z'
    } catch {
      return false
    }
  })
}

/** The process of the demo that runs `script`. */
function processOf(parent: number, script: string): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ').map(Number)
  const found = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(script))
  if (found === undefined) throw new Error(`no process runs ${script}`)
  return found
}

describe('npm run demo', () => {
  let folder: string
  let demo: ReturnType<typeof startDemo> | undefined
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'demo-test-'))
  })
  afterEach(() => demo?.kill())
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it(
    'tells the whole story, shows no token, and leaves nothing behind',
    async () => {
      demo = startDemo(folder)
      const code = await demo.ended
      const text = demo.text()
      expect(code, text).toBe(0)
      for (const part of [
        'the id token is Alice’s',
        'a task is open',
        'the ticket desk serves the ticket',
        'payments:refund is refused',
        'the token’s chain is Alice → research → payments',
        'a payment that was not handed over is refused',
        'proof_replayed',
        'cnf_mismatch',
        'wrong_audience',
        'errand explain dec_',
        'the research agent’s token at the ticket desk: refused',
        'the payments agent’s token at the payments API: refused',
        'there is no new one',
        'errand revoke --release … --dry-run',
        'errand revoke --release … --wait --receipt receipt.json',
        'the payments agent’s, made from it, at the payments API: refused',
        'errand receipt verify receipt.json --jwks keys.json',
        'good: signed by the issuer, and in its log',
        'errand audit verify, over a copy of the log in which one bit of that reason is another',
        'bad_crc at index',
        'Every step happened',
      ]) {
        expect(text).toContain(part)
      }
      expect(text).not.toMatch(/eyJ[\w-]{10}/)
      // Colour is for terminals.
      expect(text.includes('\u001b')).toBe(false)
      await demo.isGone()
      expect(leftIn(folder)).toEqual([])
    },
    PATIENCE_MS,
  )

  it(
    'stays with --keep, and cleans up on Ctrl-C',
    async () => {
      demo = startDemo(folder, ['--keep'])
      await demo.until('Left running')
      await demo.until('/call')
      const errand = /errand {5,}(http:\S+)/.exec(demo.text())?.[1]
      expect((await fetch(`${errand}/health`)).status).toBe(200)

      const commands = demo
        .text()
        .split('Look around:')[1]!
        .match(/^ {3}(?=\S).*$/gm)!
      const ran: [string, string][] = []
      for (const command of commands) {
        // As printed, but for the one that would stay.
        const { stdout } = await run('sh', ['-c', command.replace('tail -f', 'tail')], {
          cwd: PROJECT,
          timeout: 60_000,
        })
        expect(stdout, command).not.toMatch(/"(refused|error)":/)
        ran.push([
          command
            .trim()
            .replace(/^(ERRAND_\w+=\S+ )+/, '')
            .replace(/^curl .*\//, 'curl /'),
          stdout,
        ])
      }
      const told = new Map(ran)
      expect([...told.keys()].map((name) => name.replace(/^tail .*\//, 'tail '))).toEqual([
        'npx errand audit tail',
        'npx errand task list',
        'npx errand agent list',
        'npx errand --help',
        'curl /oauth-authorization-server',
        'tail errand.log',
        'npx errand token get --agent triage --tool tickets',
        'curl /open',
        'curl /call',
      ])
      expect(told.get('npx errand task list')).toContain('completed')
      expect(told.get('npx errand token get --agent triage --tool tickets')).toMatch(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/)
      expect(JSON.parse(told.get('curl /open')!)).toMatchObject({ task_id: expect.stringMatching(/^task_/) })
      expect(JSON.parse(told.get('curl /call')!)).toMatchObject({ status: 200, body: { ticket_id: '4711' } })
      process.kill(demo.child.pid!, 'SIGINT')
      expect(await demo.ended, demo.text()).toBe(0)
      await demo.isGone()
      expect(leftIn(folder)).toEqual([])
    },
    PATIENCE_MS,
  )

  it('answers --help, and what it does not know, with how it is used', async () => {
    const before = leftIn(folder)
    demo = startDemo(folder, ['--help'])
    expect(await demo.ended).toBe(0)
    expect(demo.text()).toMatch(/^Usage: npm run demo/)
    for (const wrong of ['--kep', '--keep=1', 'keep']) {
      demo = startDemo(folder, [wrong])
      expect(await demo.ended, wrong).toBe(2)
      expect(demo.text()).toContain(wrong.slice(0, 5))
      expect(demo.text()).toContain('Usage: npm run demo')
    }
    expect(leftIn(folder)).toEqual(before)
  })

  it(
    'cleans up where it is interrupted in the middle',
    async () => {
      demo = startDemo(folder)
      await demo.until('each a process of its own')
      process.kill(demo.child.pid!, 'SIGTERM')
      expect(await demo.ended, demo.text()).toBe(130)
      await demo.isGone()
      expect(leftIn(folder)).toEqual([])
    },
    PATIENCE_MS,
  )

  it.runIf(process.platform === 'linux')(
    'ends with 1 where a step does not happen, and says what it expected',
    async () => {
      demo = startDemo(folder)
      await demo.until('All six listen')
      process.kill(processOf(demo.child.pid!, 'tickets-api.ts'), 'SIGKILL')
      expect(await demo.ended).toBe(1)
      expect(demo.text()).toMatch(/expected: /)
      expect(demo.text()).toMatch(/got: /)
      expect(demo.text()).toContain('log:')
      await demo.isGone()
      expect(leftIn(folder)).toEqual([])
    },
    PATIENCE_MS,
  )
})
