/** Opens the stores that the settings name. Before the audit log: an audit log without a state is a damaged folder. */
import type { Joining } from '../attest/joining.ts'
import type { KeyPins, PrincipalBindings } from '../attest/key-pins.ts'
import type { PlatformAgents } from '../attest/platform-agents.ts'
import type { ReplayGuard } from '../attest/replay-guard.ts'
import type { SubjectKeys } from '../audit/subject-keys.ts'
import type { ServiceSettings } from '../config/settings.ts'
import type { IdempotencyStore } from '../exchange/idempotency.ts'
import type { KeyStore } from '../keys/key-store.ts'
import type { BulkPins } from '../revoke/bulk-pins.ts'
import type { KnownReleases } from '../revoke/known-releases.ts'
import type { PendingRevocations } from '../revoke/pending-revocations.ts'
import type { Replicas } from '../revoke/replicas.ts'
import type { RevocationLog } from '../revoke/revocation-log.ts'
import type { LiveTasks } from '../tasks/live-tasks.ts'
import type { Seals } from '../revoke/seals.ts'
import type { SealEvent, StoreSealing } from '../revoke/store-seal.ts'
import type { SignalStreams } from '../revoke/signals/streams.ts'
import type { StatusRegistry } from '../revoke/status-registry.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { SignOuts } from '../tokens/sign-outs.ts'
import { lockDataDir } from './embedded/lock.ts'
import { openEmbedded } from './embedded/open.ts'
import { openReserve, type Reserve } from './files/reserve.ts'
import { hasHistory } from './history.ts'
import { openLedger } from './ledger.ts'
import { createPatientClock } from './patient-clock.ts'

export interface Stores {
  readonly replayGuard: ReplayGuard
  readonly keyPins: KeyPins
  readonly principalBindings: PrincipalBindings
  readonly joining: Joining
  readonly platformAgents: PlatformAgents
  readonly keyStore: KeyStore
  readonly subjectKeys: SubjectKeys
  readonly tasks: TaskStore
  readonly liveTasks: LiveTasks
  readonly revocations: RevocationLog
  readonly bulkPins: BulkPins
  /** `id`: of this one, the same after a restart. Absent where the state is of one process alone. */
  readonly replicas?: (id: string) => Replicas
  readonly knownReleases: KnownReleases
  readonly pendingRevocations: PendingRevocations
  readonly signOuts: SignOuts
  readonly signalStreams: SignalStreams
  readonly statusRegistry: StatusRegistry
  readonly idempotency: IdempotencyStore
  /**
   * Called once the audit log is open and before anything is recorded. Where the state is local it belongs to that log
   * from now on; a shared one has as many logs as services.
   */
  rememberAuditLog(logId: string): Promise<void>
  readonly seals: Seals
  readonly sealing: StoreSealing
  /** Whether a write is durable at this moment, for `/ready`. */
  healthy(): Promise<boolean>
  close(): Promise<void>
}

export interface OpenedStores extends Stores {
  /** Of the data folder, which the audit log shares. */
  readonly reserve: Reserve
}

export interface OpenStoresDeps {
  readonly store: ServiceSettings['store']
  /** Locked for this process in either case: the audit log is local also where the state is not. */
  readonly dataDir: string
  /** Unix seconds. */
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
}

/** Throws a `StoreFault` that says what to do. */
export async function openStores({ store, dataDir, now, monotonic }: OpenStoresDeps): Promise<OpenedStores> {
  const lock = lockDataDir(dataDir)
  const { forgetBefore } = createPatientClock({ now, monotonic })
  try {
    const reserve = openReserve(dataDir)
    const stores =
      store.kind === 'redis'
        ? // Its driver is loaded where there is a Redis: a start without one does not wait for it.
          await openOverRedis({ ...store, dataDir, now, forgetBefore, monotonic })
        : await openEmbedded({ dataDir, now, forgetBefore, reserve })
    return {
      ...stores,
      reserve,
      close: async () => {
        await stores.close()
        lock.release()
      },
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

async function openOverRedis(deps: {
  readonly url: string
  readonly prefix: string
  readonly sentinels?: readonly string[]
  readonly dataDir: string
  readonly now: () => number
  readonly forgetBefore: () => number
  readonly monotonic: () => number
}): Promise<Stores> {
  const ledger = openLedger(deps.dataDir)
  const missed: SealEvent[] = []
  let told = (event: SealEvent): void => void missed.push(event)
  const { openRedis } = await import('./redis/open.ts')
  const { seal, ...stores } = await openRedis({
    ...deps,
    ledger,
    mayBegin: !hasHistory(deps.dataDir),
    told: (event) => told(event),
  })
  return {
    ...stores,
    sealing: {
      current: seal,
      listen: (listener) => {
        told = listener
        for (const event of missed.splice(0)) listener(event)
      },
    },
    close: async () => {
      await stores.close()
      await ledger.close()
    },
  }
}
