/** Every promise of the stores, for one adapter. */
import { describeBulkPins } from './bulk-pins.ts'
import { describeIdempotency } from './idempotency.ts'
import { describeJoining } from './joining.ts'
import { describeKeyPins } from './key-pins.ts'
import { describeKeyStore } from './key-store.ts'
import { describeKnownReleases } from './known-releases.ts'
import { describeLiveTasks } from './live-tasks.ts'
import { describePendingRevocations } from './pending-revocations.ts'
import { describePlatformAgents } from './platform-agents.ts'
import { describeReplayGuard } from './replay-guard.ts'
import { describeReplicas } from './replicas.ts'
import { describeRevocationLog } from './revocation-log.ts'
import { describeSignalStreams } from './signal-streams.ts'
import { describeSeals } from './seals.ts'
import { describeSignOuts } from './sign-outs.ts'
import { describeStatusRegistry } from './status-registry.ts'
import { describeSubjectKeys } from './subject-keys.ts'
import { describeTaskStore } from './task-store.ts'
import type { OpenWorld } from './world.ts'

export function describeStores(name: string, open: OpenWorld): void {
  describeReplayGuard(name, open)
  describeKeyPins(name, open)
  describeJoining(name, open)
  describePlatformAgents(name, open)
  describeKeyStore(name, open)
  describeSubjectKeys(name, open)
  describeTaskStore(name, open)
  describeLiveTasks(name, open)
  describeRevocationLog(name, open)
  describeKnownReleases(name, open)
  describeBulkPins(name, open)
  describeReplicas(name, open)
  describePendingRevocations(name, open)
  describeSignOuts(name, open)
  describeSeals(name, open)
  describeSignalStreams(name, open)
  describeStatusRegistry(name, open)
  describeIdempotency(name, open)
}
