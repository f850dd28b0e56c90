/** Each example runs as its README says: against a real service, as programs of their own, with the output shown there. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { filesUnder, ROOT } from '../../tools/files.ts'
import { unseen } from '../docs/clone.ts'
import { blocksOf, textOf } from '../docs/pages.ts'
import { freePort, openRunning, type Running } from '../running.ts'

let running: Running
const children: ChildProcess[] = []
beforeAll(async () => {
  running = await openRunning()
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    const ended = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGTERM')
    await ended
  }
})
afterAll(() => running.close())

/** `npx tsx <program>`, without what npx adds in time. */
function start(program: string, env: { readonly [name: string]: string }) {
  const child = spawn(process.execPath, ['--import', 'tsx', program], {
    cwd: ROOT,
    env: {
      PATH: process.env['PATH'] ?? '',
      ERRAND_URL: running.issuer,
      ERRAND_KEYS: join(running.folder, 'keys'),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let output = ''
  const waiting = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += String(chunk)
      for (const look of waiting) look()
    })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return {
    ended,
    output: () => output,
    listening: () =>
      new Promise<void>((resolve, reject) => {
        const look = () => {
          if (output.includes('listening')) resolve()
        }
        waiting.add(look)
        void ended.then(() => reject(new Error(`it ended before it listened:\n${output}`)))
      }),
  }
}

describe('examples', () => {
  it.each([
    ['hono', 'examples/hono/api.ts', ''],
    ['express', 'examples/express/api.ts', ''],
    ['mcp', 'examples/mcp/server.ts', '/mcp'],
    // Agents alone: their tool is the API of another example.
    ['langchain', 'examples/hono/api.ts', ''],
    ['vercel-ai', 'examples/hono/api.ts', ''],
  ])('%s runs, and prints what its README shows', { timeout: 60_000 }, async (name, server, path) => {
    const page = `examples/${name}/README.md`
    const blocks = blocksOf(page)
    const commands = blocks.filter(({ language }) => language === 'sh').map(({ text }) => text)
    expect(commands.join(''), page).toContain(`npx tsx ${server}\n`)
    expect(commands.join(''), page).toContain(`npx tsx examples/${name}/agent.ts\n`)

    const port = String(await freePort())
    const tool = start(server, { PORT: port })
    await tool.listening()
    const agent = start(`examples/${name}/agent.ts`, { TOOL_URL: `http://127.0.0.1:${port}${path}` })
    expect(await agent.ended, agent.output()).toBe(0)
    const [shown, ...more] = blocks.filter(({ marks }) => marks.includes('output'))
    expect(more, page).toEqual([])
    expect(unseen(shown!.text, agent.output()), agent.output()).toEqual([])
    // And nothing else: a warning would worry whoever tries it.
    expect(agent.output().trim().split('\n')).toHaveLength(shown!.text.trim().split('\n').length)
  })

  it('are all run here, and each says in a page of 25 lines at most what it shows', () => {
    const programs = filesUnder('examples', 'agent.ts').filter((path) => path.endsWith('/agent.ts'))
    const names = ['express', 'hono', 'langchain', 'mcp', 'vercel-ai']
    expect(programs).toEqual(names.map((name) => `examples/${name}/agent.ts`))
    for (const name of names)
      expect(textOf(`examples/${name}/README.md`).trimEnd().split('\n').length, name).toBeLessThanOrEqual(25)
  })
})
