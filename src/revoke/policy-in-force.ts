/**
 * Brings a loaded configuration into force: it is written down, and tokens that another policy set decided die (D23).
 * Tried until it is done: a reload while a store or the log is away must not leave anything of the old set alive.
 */
import type { AuditEvent, Json } from '../audit/log.ts'
import type { Revoke } from './revoke.ts'
import type { Revocation } from './revocation-log.ts'

export interface LoadedConfig {
  readonly digest: string
  readonly policyDigest: string
  readonly settings: { readonly policy: { readonly onChange: 'cut' | 'keep' } }
}

export interface PolicyInForceDeps<C extends LoadedConfig> {
  readonly now: () => number
  readonly bans: (now: number) => Promise<readonly Revocation[]>
  readonly revoke: Pick<Revoke, 'byMatch' | 'readmit'>
  readonly audit: { append(event: AuditEvent): Promise<unknown> }
  /** `config.loaded` records, newest first: the last one, and all since that many Unix seconds. */
  readonly recorded: (since: number) => Promise<readonly RecordedConfig[]>
  readonly maxTokenLifetimeSeconds: number
  /** So that what decided can be read when another set has long been in force. */
  readonly keep: (loaded: C) => Promise<void>
  /** What else a restart must know of a configuration that was loaded. */
  readonly toRecord?: () => { readonly [name: string]: Json }
}

export interface RecordedConfig {
  readonly digest?: string
  readonly policy?: string
}

export interface PolicyInForce<C extends LoadedConfig> {
  /** `next` decides from now on, and `previous` may have decided until now. */
  loaded(next: C, previous?: C): void
  /** Does what is left to do; rejects where it could not, and is then called again. */
  settle(): Promise<void>
}

export function createPolicyInForce<C extends LoadedConfig>(deps: PolicyInForceDeps<C>): PolicyInForce<C> {
  const { now, revoke } = deps
  let pending: C | undefined
  let recorded: string | undefined
  let started = false
  /** Policy sets whose tokens may be alive, though another one is in force. */
  const superseded = new Set<string>()
  let settling: Promise<void> = Promise.resolve()

  const record = async (next: C): Promise<undefined> => {
    await deps.keep(next)
    const { digest, policyDigest } = next
    if (recorded === digest) return
    const details = { digest, policy: policyDigest, ...deps.toRecord?.() }
    await deps.audit.append({ type: 'config.loaded', by: 'system', details })
    recorded = digest
  }

  /** What decided before this process did: the log names every set before its first token. */
  async function begin(): Promise<void> {
    const before = await deps.recorded(now() - 2 * deps.maxTokenLifetimeSeconds)
    for (const { policy } of before) if (policy !== undefined) superseded.add(policy)
    recorded ??= before[0]?.digest
    started = true
  }

  async function enforce(next: C): Promise<void> {
    if (!started) await begin()
    // Before the first token that it decides, where that can be; killing the old ones does not wait for a disk.
    const unrecorded = await record(next).catch((error: unknown) => ({ error }))
    superseded.delete(next.policyDigest)
    if (next.settings.policy.onChange === 'keep') superseded.clear()
    for (const policy of [...superseded]) {
      await revoke.byMatch({
        match: { policy },
        mode: 'ban',
        reason: 'another policy set is in force',
        by: 'system',
        banUntil: now() + 2 * deps.maxTokenLifetimeSeconds,
      })
      superseded.delete(policy)
    }
    if (unrecorded) throw unrecorded.error
    for (const ban of await deps.bans(now())) {
      const [only, ...more] = Object.keys(ban.match)
      if (only !== 'policy' || more.length > 0 || ban.match.policy !== next.policyDigest || ban.by !== 'system')
        continue
      await revoke.readmit(ban.id, 'system', 'this policy set is in force again')
    }
  }

  return {
    loaded(next, previous) {
      pending = next
      if (previous) superseded.add(previous.policyDigest)
    },
    settle() {
      const turn = settling.then(async () => {
        const next = pending
        if (!next) return
        await enforce(next)
        if (pending === next) pending = undefined
      })
      settling = turn.catch(() => undefined)
      return turn
    },
  }
}
