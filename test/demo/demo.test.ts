import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const PROJECT = fileURLToPath(new URL('../../', import.meta.url))
const PATIENCE_MS = 90_000

/** The demo as its own process group, so that whatever it leaves behind can be seen, and ended. */
function startDemo(folder: string, args: readonly string[] = []) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/company/demo.ts', ...args], {
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
    isGone: () => {
      try {
        process.kill(group, 0)
        return false
      } catch {
        return true
      }
    },
    kill: () => {
      try {
        process.kill(group, 'SIGKILL')
      } catch {
        // All gone, as it should be.
      }
    },
  }
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
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'errand-demo-test-'))
  })
  afterEach(() => {
    demo?.kill()
    rmSync(folder, { recursive: true, force: true })
  })

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
        'Every step happened',
      ]) {
        expect(text).toContain(part)
      }
      expect(text).not.toMatch(/eyJ[\w-]{10}/)
      // Colour is for terminals.
      expect(text.includes('\u001b')).toBe(false)
      expect(demo.isGone()).toBe(true)
      expect(readdirSync(folder)).toEqual([])
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
      process.kill(demo.child.pid!, 'SIGINT')
      expect(await demo.ended, demo.text()).toBe(0)
      expect(demo.isGone()).toBe(true)
      expect(readdirSync(folder)).toEqual([])
    },
    PATIENCE_MS,
  )

  it(
    'cleans up where it is interrupted in the middle',
    async () => {
      demo = startDemo(folder)
      await demo.until('each a process of its own')
      process.kill(demo.child.pid!, 'SIGTERM')
      expect(await demo.ended, demo.text()).toBe(130)
      expect(demo.isGone()).toBe(true)
      expect(readdirSync(folder)).toEqual([])
    },
    PATIENCE_MS,
  )

  it.runIf(process.platform === 'linux')(
    'ends with 1 where a step does not happen, and says what it expected',
    async () => {
      demo = startDemo(folder)
      await demo.until('All seven listen')
      process.kill(processOf(demo.child.pid!, 'tickets-api.ts'), 'SIGKILL')
      expect(await demo.ended).toBe(1)
      expect(demo.text()).toMatch(/expected: /)
      expect(demo.text()).toMatch(/got: /)
      expect(demo.text()).toContain('log:')
      expect(demo.isGone()).toBe(true)
      expect(readdirSync(folder)).toEqual([])
    },
    PATIENCE_MS,
  )
})
