/** What the endpoints are given. */
import type { Attest, AuthenticateMachine } from '../attest/attest.ts'
import type { Dpop } from '../attest/dpop.ts'
import type { KeyPins } from '../attest/key-pins.ts'
import type { PlatformAgents } from '../attest/platform-agents.ts'
import type { ReplayGuard } from '../attest/replay-guard.ts'
import type { Windowed } from '../attest/windowed.ts'
import type { Checkpoints, LogTree } from '../audit/checkpoints.ts'
import type { GatherEvidence } from '../audit/gather-evidence.ts'
import type { AuditLog, AuditReader } from '../audit/log.ts'
import type { MirrorState } from '../audit/mirror.ts'
import type { BundleState } from '../config/bundle-endpoints.ts'
import type { ReloadFailure } from '../config/holder.ts'
import type { Snapshot } from '../config/snapshot.ts'
import type { Quota } from '../config/tenants.ts'
import type { ProveAgent } from '../exchange/authenticate.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Join } from '../exchange/join.ts'
import type { OpenTask } from '../exchange/open-task.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import type { Unavailable } from '../oauth/refusal.ts'
import type { Acks } from '../revoke/acks.ts'
import type { Audiences } from '../revoke/audiences.ts'
import type { Bulk } from '../revoke/bulk.ts'
import type { PartContainments } from '../revoke/component-containments.ts'
import type { DrillTimer } from '../revoke/drill-timer.ts'
import type { Drills } from '../revoke/drills.ts'
import type { Feed } from '../revoke/feed.ts'
import type { Marks } from '../revoke/marks.ts'
import type { PreviewOf } from '../revoke/preview.ts'
import type { Hearing } from '../revoke/hearing.ts'
import type { Receipts } from '../revoke/receipts.ts'
import type { RevocationLog } from '../revoke/revocation-log.ts'
import type { Revoke } from '../revoke/revoke.ts'
import type { Sealing } from '../revoke/seals.ts'
import type { StoreSealing } from '../revoke/store-seal.ts'
import type { SignOut } from '../revoke/sign-out.ts'
import type { Receive } from '../revoke/signals/receive.ts'
import type { StatusLists } from '../revoke/status-lists.ts'
import type { SignalStreams } from '../revoke/signals/streams.ts'
import type { Transmitter } from '../revoke/signals/transmit.ts'
import type { TwoPeople } from '../revoke/two-people.ts'
import type { Rotation } from '../rotate/rotate.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { Introspected } from '../tokens/introspect.ts'
import type { Limits } from './limits.ts'
import type { Metrics } from './metrics.ts'
import type { Tracing } from './tracing.ts'

/** One tenant, as the service's own administrator sees it. */
export interface TenantStatus {
  readonly name: string
  readonly state: 'serving' | 'refused'
  readonly issuer?: string
  /** Why it could not be opened. */
  readonly problems?: string
  readonly dataMib?: number
  readonly quota: Quota
}

export interface HttpDeps {
  readonly snapshot: () => Snapshot
  /** Why the last reload did not take, for `/ready`. */
  readonly configFailure: () => ReloadFailure | undefined
  /** Trust domains whose bundles are fetched. */
  readonly bundles: () => readonly BundleState[]
  readonly now: () => number
  readonly nowMs: () => number
  readonly attest: Attest
  readonly authenticateMachine: AuthenticateMachine
  readonly dpop: Dpop
  /** What proofs of client attestations carry. */
  readonly challenges: Windowed
  readonly replayGuard: ReplayGuard
  readonly keyPins: KeyPins
  readonly proveAgent: ProveAgent
  readonly exchange: Exchange
  readonly openTask: OpenTask
  readonly join: Join
  readonly platformAgents: PlatformAgents
  readonly tasks: TaskStore
  readonly revoke: Revoke
  readonly bulk: Bulk
  readonly twoPeople: TwoPeople
  readonly preview: PreviewOf
  readonly marks: Pick<Marks, 'markFor'>
  readonly signOut: SignOut
  readonly receive: Receive
  readonly transmitter: Transmitter
  readonly signalStreams: SignalStreams
  /** What a receiver wants to be sent with its events rests sealed. */
  readonly sealForStream: (stream: string, text: string) => string
  readonly revocations: RevocationLog
  readonly introspect: (token: string) => Promise<Introspected>
  readonly feed: Feed
  readonly statusLists: StatusLists
  readonly feedKey: Uint8Array
  readonly acks: Acks
  readonly audiences: Audiences
  readonly hearing: Pick<Hearing, 'begun' | 'said' | 'left'>
  readonly containments: PartContainments
  readonly receipts: Receipts
  readonly drills: Drills
  readonly drillTimer: Pick<DrillTimer, 'failing'>
  readonly keys: KeyRing
  readonly rotation: Rotation
  readonly audit: AuditLog
  readonly reader: AuditReader
  readonly tree: LogTree
  readonly checkpoints: Checkpoints
  readonly evidence: GatherEvidence
  /** Where the log is copied to as it grows. */
  readonly mirrors: () => readonly MirrorState[]
  readonly storeHealthy: () => Promise<boolean> | boolean
  readonly sealing: StoreSealing
  readonly seals: Sealing
  readonly limits: Limits
  readonly metrics: Metrics
  /** `https://host:port` of the mTLS listener, where there is one (RFC 8705 §5). */
  readonly mtlsBase?: string
  /** Of the process, for `errand top`. */
  readonly resources: () => { readonly rssBytes: number; readonly cpuSeconds: number; readonly uptimeSeconds: number }
  /** Absent where nobody collects spans. */
  readonly tracing?: Tracing
  /** Those of the service, where this is its own issuer. */
  readonly tenants?: () => readonly TenantStatus[]
  readonly stopping: () => boolean
  /** A dependency is away: what and why, for the service log. */
  readonly onUnavailable: (error: Unavailable, correlation: string) => void
  /** A bug: written to the service log without the request's words. */
  readonly onBug: (error: unknown, correlation: string) => void
}
