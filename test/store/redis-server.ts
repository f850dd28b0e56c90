/** A private Redis on a free port: started, stopped, killed and resumed by the tests that need it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

export interface TestRedis {
  readonly url: string
  readonly port: number
  /** Where its append-only file is while nothing has made it rewrite it. */
  readonly file: string
  readonly pid: number | undefined
  signal(name: 'SIGSTOP' | 'SIGCONT'): void
  /** SIGKILL; the data stays for `start`. */
  kill(): Promise<void>
  start(): Promise<void>
  /** Kills it and removes its data. */
  remove(): Promise<void>
}

/** Whether there is a `redis-server` to run; says so once where there is none. */
export function redisIsHere(): boolean {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    console.log('redis-server is not on the PATH: the tests against a real Redis are skipped')
    return false
  }
}

export async function startRedis(options: { [name: string]: string } = {}): Promise<TestRedis> {
  const dir = mkdtempSync(join(tmpdir(), 'errand-redis-'))
  const port = await freePort()
  const settings: { [name: string]: string } = {
    port: String(port),
    bind: '127.0.0.1',
    dir,
    save: '',
    appendonly: 'yes',
    appendfsync: 'always',
    'maxmemory-policy': 'noeviction',
    ...options,
  }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
  let child: ChildProcess | undefined

  async function start(): Promise<void> {
    child = spawn('redis-server', args, { stdio: 'ignore' })
    for (let tries = 0; tries < 200; tries++) {
      if (await answers(port)) return
      await wait(25)
    }
    throw new Error('redis-server does not answer')
  }
  async function kill(): Promise<void> {
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const gone = once(running, 'exit')
    running.kill('SIGKILL')
    await gone
  }
  await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    file: join(dir, 'appendonlydir', 'appendonly.aof.1.incr.aof'),
    get pid() {
      return child?.pid
    },
    signal: (name) => {
      child?.kill(name)
    },
    kill,
    start,
    remove: async () => {
      await kill()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** PONG, not only a connection: it may still be loading its file. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'))
    socket.setTimeout(500, () => socket.destroy())
    socket.on('data', (data) => {
      resolve(data.toString().startsWith('+PONG'))
      socket.destroy()
    })
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
  })
}
