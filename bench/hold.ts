/** Holds processes to a share of a core each: by control groups where they may be made, else by stopping and resuming. */
import { readFileSync } from 'node:fs'
import { mkdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Short beside the time-outs of a service and of its clients. */
const PERIOD_MICROS = 10_000
const ROOT = '/sys/fs/cgroup'

export interface Held {
  readonly by: string
  release(): Promise<void>
}

export async function hold(pids: readonly number[], share: number): Promise<Held> {
  const made: (() => Promise<void>)[] = []
  const release = async () => {
    for (const undo of made.splice(0).reverse()) await undo()
  }
  const quota = PERIOD_MICROS * share
  for (const [by, parent, settings] of [
    ['cpu.max', ROOT, { 'cpu.max': `${quota} ${PERIOD_MICROS}` }],
    ['cpu.cfs_quota_us', join(ROOT, 'cpu'), { 'cpu.cfs_period_us': PERIOD_MICROS, 'cpu.cfs_quota_us': quota }],
  ] as const) {
    try {
      for (const pid of pids) {
        const group = join(parent, `errand-bench-${pid}`)
        await mkdir(group)
        made.push(async () => {
          // A process that has ended has left by itself.
          await writeFile(join(parent, 'cgroup.procs'), String(pid)).catch(() => undefined)
          await rmdir(group)
        })
        for (const [name, value] of Object.entries(settings)) {
          // An ordinary file would take it as well, and hold nobody.
          readFileSync(join(group, name))
          await writeFile(join(group, name), String(value))
        }
        await writeFile(join(group, 'cgroup.procs'), String(pid))
      }
      return { by: `the control group's ${by}`, release }
    } catch {
      await release()
    }
  }
  return { by: 'SIGSTOP and SIGCONT', release: takeTurns(pids, share) }
}

/** Each runs for its share of a turn, one after the other. */
function takeTurns(pids: readonly number[], share: number): () => Promise<void> {
  const turnMs = (PERIOD_MICROS / 1000) * 2
  const began = performance.now()
  const stopped = new Set<number>()
  const timer = setInterval(() => {
    const at = ((performance.now() - began) % turnMs) / turnMs
    for (const [number, pid] of pids.entries()) {
      const runs = (at - number * share + 1) % 1 < share
      if (runs === !stopped.has(pid)) continue
      process.kill(pid, runs ? 'SIGCONT' : 'SIGSTOP')
      if (runs) stopped.delete(pid)
      else stopped.add(pid)
    }
  }, 1)
  return async () => {
    clearInterval(timer)
    for (const pid of stopped) process.kill(pid, 'SIGCONT')
  }
}
