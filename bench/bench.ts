/** What every section is given: how long it may take, where its server runs, and where its figures go. */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import type { Report } from './report.ts'

export interface Bench extends Report {
  readonly quick: boolean
  readonly long: boolean
  /** The core of whatever is measured; undefined where processes cannot be pinned. */
  readonly core?: number
  /** Of measured processes: where profiles are taken, that says so. */
  readonly nodeFlags: readonly string[]
}

const SERVER_CORE = 0
const LOAD_CORE = 1

/** Keeps this process, which makes the load, to one core. Answers the core of the servers, or why there is none. */
export function pin(): { readonly core: number } | { readonly unpinned: string } {
  if (availableParallelism() < 2) return { unpinned: 'there is one core only: server and load share it' }
  const done = spawnSync('taskset', ['-a', '-c', '-p', String(LOAD_CORE), String(process.pid)])
  if (done.error || done.status !== 0) return { unpinned: 'taskset is not there: server and load are not pinned' }
  return { core: SERVER_CORE }
}
