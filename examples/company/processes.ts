/** The demo's processes: started side by side, waited for, their logs kept, and all of them gone at the end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'

export const PROJECT = fileURLToPath(new URL('../../', import.meta.url))

/** As many ports as asked for, each free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer().once('error', reject)
          server.listen(0, '127.0.0.1', () => resolve(server))
        }),
    ),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return ports
}

/** What every process gets of our environment; nothing else leaks into the demo. */
const inherited = (): Record<string, string> =>
  Object.fromEntries(
    ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'SystemRoot', 'LANG'].flatMap((name) => {
      const value = process.env[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )

export interface Running {
  readonly name: string
  readonly log: string
  readonly child: ChildProcess
}

export function createProcesses() {
  const running: Running[] = []

  /** Starts Node with `args`; what it prints goes to its log file. */
  function start(name: string, log: string, args: readonly string[], env: Record<string, string> = {}): Running {
    const file = openSync(log, 'a', 0o600)
    const child = spawn(process.execPath, args, {
      cwd: PROJECT,
      env: { ...inherited(), ...env },
      stdio: ['ignore', file, file],
    })
    closeSync(file)
    const started = { name, log, child }
    running.push(started)
    return started
  }

  const startScript = (name: string, log: string, script: string, settingsFile: string): Running =>
    start(name, log, ['--import', 'tsx', fileURLToPath(new URL(script, import.meta.url)), settingsFile])

  const hasEnded = ({ child }: Running): boolean => child.exitCode !== null || child.signalCode !== null

  /** Until `url` answers 200; throws where the process ends first or takes too long. */
  async function waitFor(it: Running, url: string, milliseconds = 45_000): Promise<void> {
    const until = Date.now() + milliseconds
    let last = 'no answer'
    while (Date.now() < until) {
      if (hasEnded(it)) throw new ProcessFailed(it, `it ended (${it.child.signalCode ?? it.child.exitCode})`)
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(1000) })
        last = `${response.status} ${(await response.text()).slice(0, 300)}`
        if (response.ok) return
      } catch {
        // Not yet there.
      }
      await new Promise((later) => setTimeout(later, 25))
    }
    throw new ProcessFailed(it, `${url} answered: ${last}`)
  }

  /** Asks all to end, and ends those that do not. */
  async function stop(): Promise<void> {
    const alive = running.filter((each) => !hasEnded(each))
    const ended = alive.map((each) => new Promise((exit) => each.child.once('exit', exit)))
    for (const { child } of alive) child.kill('SIGTERM')
    await Promise.race([Promise.all(ended), new Promise((later) => setTimeout(later, 3000).unref())])
    kill()
    await Promise.all(ended)
  }

  /** At once; for the last moment of our own process. */
  function kill(): void {
    for (const each of running) if (!hasEnded(each)) each.child.kill('SIGKILL')
  }

  return { running, start, startScript, waitFor, stop, kill }
}

export class ProcessFailed extends Error {
  readonly process: Running
  constructor(failed: Running, message: string) {
    super(message)
    this.name = 'ProcessFailed'
    this.process = failed
  }
}

export function tailOf(log: string, lines = 25): string {
  if (!existsSync(log)) return '(no log)'
  const text = readFileSync(log, 'utf8').trimEnd()
  return text === '' ? '(it printed nothing)' : text.split('\n').slice(-lines).join('\n')
}

/** Runs the CLI to its end; at most `milliseconds`. */
export function runErrand(
  args: readonly string[],
  env: Record<string, string>,
  milliseconds = 30_000,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['bin/errand.js', ...args], {
      cwd: PROJECT,
      env: { ...inherited(), NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: milliseconds,
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}
