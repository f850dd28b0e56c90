/** Opens every Redis adapter over one connection (and one that listens). */
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { SealEvent, StoreSeal } from '../../revoke/store-seal.ts'
import { keepingKeys, type Ledger } from '../ledger.ts'
import type { Stores } from '../open.ts'
import { createBulkPins } from './bulk-pins.ts'
import { openRedisClient, script } from './client.ts'
import type { RedisPlace } from './connect.ts'
import { createGivingBack, joinRoster } from './give-back.ts'
import { isIntact } from './intact.ts'
import { createIdempotencyStore } from './idempotency.ts'
import { createJoining } from './joining.ts'
import { createKeyPins, createPrincipalBindings } from './key-pins.ts'
import { createKeyStore } from './key-store.ts'
import { createKnownReleases } from './known-releases.ts'
import { createLiveTasks } from './live-tasks.ts'
import { createPendingRevocations } from './pending-revocations.ts'
import { createPlatformAgents } from './platform-agents.ts'
import { createReplayGuard } from './replay-guard.ts'
import { createReplicas } from './replicas.ts'
import { createRevocationLog } from './revocation-log.ts'
import { createSeals } from './seals.ts'
import { createSignOuts } from './sign-outs.ts'
import { createSignalStreams } from './signal-streams.ts'
import { createStatusRegistry } from './status-registry.ts'
import { createSubjectKeys } from './subject-keys.ts'
import { createTaskStore } from './task-store.ts'

const ROSTER_EVERY_MS = 30_000

const BEAT = script("redis.call('INCR', K .. 'beats') return {'done'}")

export async function openRedis(
  deps: RedisPlace & {
    mayBegin: boolean
    /** What this process holds for the day on which Redis loses some of it. */
    ledger: Ledger
    told: (event: SealEvent) => void
    now: () => number
    /** What ended before it may be forgotten. */
    forgetBefore: () => number
    monotonic: () => number
  },
): Promise<Omit<Stores, 'sealing'> & { seal(): StoreSeal | undefined }> {
  const { ledger, now, forgetBefore } = deps
  const redis = await openRedisClient({ ...deps, givingBack: createGivingBack(deps) })
  try {
    const revocations = await createRevocationLog({ redis, ledger, now, forgetBefore })
    const reached = ledger.epoch()
    if (reached && compareEpochs(await revocations.epoch(), reached) < 0) redis.distrust('went_back')
    await redis.whole()
    // In this very run of the server: somebody took something out, or changed it.
    const look = async () => {
      if (!(await isIntact({ redis, ledger, revocations, now }))) redis.distrust('tampered')
    }
    await look()
    await redis.whole()
    const seals = createSeals({ redis, ledger })
    const roster = await joinRoster({
      redis,
      ledger,
      everyMs: ROSTER_EVERY_MS,
      also: () => Promise.all([seals.current(), look()]),
    })
    return {
      replayGuard: createReplayGuard({ redis, forgetBefore }),
      keyPins: createKeyPins({ redis, forgetBefore }),
      principalBindings: createPrincipalBindings({ redis }),
      joining: createJoining({ redis, forgetBefore }),
      platformAgents: createPlatformAgents({ redis }),
      keyStore: keepingKeys(createKeyStore({ redis }), ledger),
      subjectKeys: createSubjectKeys({ redis }),
      tasks: createTaskStore({ redis }),
      liveTasks: createLiveTasks({ redis }),
      revocations,
      knownReleases: createKnownReleases({ redis }),
      bulkPins: createBulkPins({ redis, forgetBefore }),
      replicas: (id) => createReplicas({ redis }, id),
      pendingRevocations: createPendingRevocations({ redis, forgetBefore }),
      signOuts: createSignOuts({ redis }),
      signalStreams: createSignalStreams({ redis }),
      statusRegistry: createStatusRegistry({ redis }),
      idempotency: createIdempotencyStore({ redis }),
      rememberAuditLog: async () => {},
      healthy: async () => {
        try {
          return (await redis.run(BEAT, []))[0] === 'done'
        } catch {
          return false
        }
      },
      seals,
      seal: () => redis.seal(),
      close: async () => {
        await roster.leave()
        redis.close()
      },
    }
  } catch (error) {
    redis.close()
    throw error
  }
}
