/** The built service as a process of its own, on a configuration in a temporary folder. */
import { type ChildProcess, spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

export interface Folder {
  readonly path: string
  readonly issuer: string
  /** Where this process listens: the issuer's own port, or that of a further replica. */
  readonly base: string
  /** Shared by the replicas of one service. */
  readonly keys: string
  remove(): Promise<void>
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The sample configuration on a free port, with `files` added or changed. */
export async function makeFolder(files: Readonly<Record<string, string>> = {}): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), 'errand-bench-'))
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  await cp('config', join(path, 'config'), { recursive: true })
  for (const name of ['errand.yaml', 'issuers/dev.yaml']) {
    const file = join(path, 'config', name)
    const text = await readFile(file, 'utf8')
    // One client is measured here: without its ration it would be the ration that is measured.
    const bounds =
      name === 'errand.yaml'
        ? '\nbounds:\n  requests_per_second_per_client: 100000\n  strangers_per_second_per_source: 100000\n  max_streams: 40000\n'
        : ''
    await writeFile(
      file,
      text.replaceAll('http://127.0.0.1:4460', issuer).replace('port: 4460', `port: ${port}`) + bounds,
    )
  }
  // bin/errand.js runs dist/ where it finds no src/ beside it.
  await cp('bin', join(path, 'bin'), { recursive: true })
  // A copy: a build meanwhile must not take files from under what is measured.
  await cp('dist', join(path, 'dist'), { recursive: true })
  await symlink(resolve('node_modules'), join(path, 'node_modules'))
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, 'config', name), text)
  const remove = () => rm(path, { recursive: true, force: true })
  return { path, issuer, base: issuer, keys: join(path, 'keys'), remove }
}

/** One more replica of the same service: a port, a configuration and a data folder of its own, the keys of the first. */
export async function makeReplica(of: Folder): Promise<Folder> {
  const path = join(of.path, 'replica')
  const base = `http://127.0.0.1:${await freePort()}`
  for (const part of ['config', 'bin', 'dist']) await cp(join(of.path, part), join(path, part), { recursive: true })
  await symlink(resolve('node_modules'), join(path, 'node_modules'))
  const file = join(path, 'config/errand.yaml')
  const port = (url: string) => `port: ${new URL(url).port}`
  await writeFile(file, (await readFile(file, 'utf8')).replace(port(of.base), port(base)))
  return { ...of, path, base }
}

export interface Running {
  readonly process: ChildProcess
  /** Milliseconds from spawning it to its first good answer. */
  readonly startMs: number
  /** Resident memory now, MiB. */
  residentMiB(): Promise<number>
  stop(): Promise<void>
}

export interface StartOptions {
  /** Flags of Node: `--cpu-prof`, for one. */
  readonly nodeFlags?: readonly string[]
  /** The one core it may run on; any by default. */
  readonly core?: number
}

export async function start(folder: Folder, { nodeFlags = [], core }: StartOptions = {}): Promise<Running> {
  const began = performance.now()
  const command = [process.execPath, ...nodeFlags, join(folder.path, 'bin/errand.js'), 'serve']
  if (core !== undefined) command.unshift('taskset', '-c', String(core))
  const child = spawn(command[0]!, command.slice(1), {
    env: {
      PATH: process.env['PATH'] ?? '',
      ERRAND_CONFIG: join(folder.path, 'config'),
      ERRAND_DATA: join(folder.path, 'data'),
      ERRAND_KEYS: folder.keys,
    },
    stdio: ['ignore', 'ignore', 'ignore'],
  })
  const ended = new Promise<never>((_, reject) => {
    child.once('exit', (code) => reject(new Error(`the service ended with ${code} before it answered`)))
  })
  ended.catch(() => undefined)
  for (;;) {
    const answer = await Promise.race([fetch(`${folder.base}/ready`).catch(() => undefined), ended])
    if (answer?.ok) break
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return {
    process: child,
    startMs: performance.now() - began,
    async residentMiB() {
      const status = await readFile(`/proc/${child.pid}/status`, 'utf8')
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1024
    },
    async stop() {
      const gone = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await gone
    },
  }
}
