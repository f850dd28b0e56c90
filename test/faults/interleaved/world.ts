/** One schedule's world: its clocks, who comes next, and what was seen in it, for the invariants to judge. */
import { copyFileSync, linkSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type fc from 'fast-check'
import type { AuditEvent } from '../../../src/audit/log.ts'
import { Unavailable } from '../../../src/oauth/refusal.ts'
import type { Revocation } from '../../../src/revoke/revocation-log.ts'
import type { Task } from '../../../src/tasks/task.ts'
import { type Acknowledged, createHistory, type SeenToken, type Verdict } from '../../invariants.ts'
import { START, type Template } from './template.ts'

export class Crashed extends Error {}

/** What a client knows of a request to a process that died, or could not go on: nothing. Whatever else is a bug. */
export function fate(error: unknown): 'unknown' {
  if (error instanceof Unavailable || error instanceof Crashed) return 'unknown'
  throw error
}

export type World = ReturnType<typeof createWorld>

export function createWorld(template: Template, number: number, scheduler: fc.Scheduler) {
  const dataDir = join(template.folder, `run-${number}`)
  mkdirSync(dataDir)
  copyFileSync(join(template.dataDir, 'errand.db'), join(dataDir, 'errand.db'))
  linkSync(join(template.dataDir, 'errand.reserve'), join(dataDir, 'errand.reserve'))
  let ticks = 0
  const tick = () => ++ticks
  const clock = { now: START, monotonic: 0 }
  const picking = { on: false }
  return {
    template,
    dataDir,
    clock,
    now: () => clock.now,
    /** The order of things, finer than the clock. */
    tick,
    /** Whether the scheduler picks who comes next. */
    picking,
    /** Where anybody else may come first. */
    async turn(label: string): Promise<void> {
      if (picking.on) await scheduler.schedule(Promise.resolve(), label)
    },
    /** The configuration as its files say it now. */
    files: { now: template.snapshots[0] },
    history: createHistory(tick),
    records: [] as AuditEvent[],
    entries: new Map<string, Revocation>(),
    acknowledged: [] as Acknowledged[],
    bans: [] as { readonly entry: Revocation; readonly at: number }[],
    readmitted: new Map<string, number>(),
    signed: [] as { readonly jti: string; readonly recordsThen: number }[],
    tokens: new Map<string, SeenToken>(),
    texts: new Map<string, string>(),
    verdicts: [] as Verdict[],
    endedTasks: [] as string[],
    /** What tasks might do when they were opened. */
    authorities: new Map<string, Task['authority']>(),
  }
}
