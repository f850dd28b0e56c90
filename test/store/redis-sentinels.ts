/** A primary with two replicas, and three Sentinels that watch them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort } from '../running.ts'
import { startRedis, type TestRedis } from './redis-server.ts'

export interface TestSentinels {
  readonly urls: readonly string[]
  /** The first is the primary. */
  readonly servers: readonly [TestRedis, TestRedis, TestRedis]
  remove(): Promise<void>
}

export const commanding = async <T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> => {
  const redis = new Redis(url)
  try {
    return await use(redis)
  } finally {
    redis.disconnect()
  }
}

export async function startSentinels(name: string): Promise<TestSentinels> {
  const servers = [await startRedis(), await startRedis(), await startRedis()] as const
  const [primary, ...replicas] = servers
  for (const { url } of replicas) await commanding(url, (redis) => redis.replicaof('127.0.0.1', primary.port))
  const dir = mkdtempSync(join(tmpdir(), 'errand-sentinel-'))
  const children: ChildProcess[] = []
  const urls: string[] = []
  for (let n = 0; n < 3; n++) {
    const port = await freePort()
    const file = join(dir, `${n}.conf`)
    const lines = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor ${name} 127.0.0.1 ${primary.port} 2`,
      `sentinel down-after-milliseconds ${name} 1000`,
      `sentinel failover-timeout ${name} 5000`,
    ]
    writeFileSync(file, `${lines.join('\n')}\n`)
    children.push(spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' }))
    urls.push(`redis://127.0.0.1:${port}`)
  }
  const know = (url: string) =>
    commanding(url, async (sentinel) => {
      const [known] = (await sentinel.call('SENTINEL', 'MASTERS')) as string[][]
      const of = (field: string) => known?.[known.indexOf(field) + 1]
      return of('num-slaves') === '2' && of('num-other-sentinels') === '2'
    }).catch(() => false)
  for (const url of urls) while (!(await know(url))) await wait(100)
  return {
    urls,
    servers,
    remove: async () => {
      for (const child of children) {
        child.kill('SIGKILL')
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      }
      for (const server of servers) await server.remove()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
