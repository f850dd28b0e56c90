/** Opens every Redis adapter over one connection (and one that listens). */
import type { Stores } from '../open.ts'
import { createBulkPins } from './bulk-pins.ts'
import { openRedisClient, script } from './client.ts'
import { createIdempotencyStore } from './idempotency.ts'
import { createJoining } from './joining.ts'
import { createKeyPins, createPrincipalBindings } from './key-pins.ts'
import { createKeyStore } from './key-store.ts'
import { createKnownReleases } from './known-releases.ts'
import { createLiveTasks } from './live-tasks.ts'
import { createPlatformAgents } from './platform-agents.ts'
import { createReplayGuard } from './replay-guard.ts'
import { createRevocationLog } from './revocation-log.ts'
import { createSignOuts } from './sign-outs.ts'
import { createSignalStreams } from './signal-streams.ts'
import { createSubjectKeys } from './subject-keys.ts'
import { createTaskStore } from './task-store.ts'

const BEAT = script("redis.call('INCR', K .. 'beats') return {'done'}")

export async function openRedis(deps: {
  url: string
  prefix: string
  mayBegin: boolean
  now: () => number
  /** What ended before it may be forgotten. */
  forgetBefore: () => number
  monotonic: () => number
}): Promise<Stores> {
  const { now, forgetBefore } = deps
  const redis = await openRedisClient(deps)
  try {
    return {
      replayGuard: createReplayGuard({ redis, forgetBefore }),
      keyPins: createKeyPins({ redis, forgetBefore }),
      principalBindings: createPrincipalBindings({ redis }),
      joining: createJoining({ redis, forgetBefore }),
      platformAgents: createPlatformAgents({ redis }),
      keyStore: createKeyStore({ redis }),
      subjectKeys: createSubjectKeys({ redis }),
      tasks: createTaskStore({ redis }),
      liveTasks: createLiveTasks({ redis }),
      revocations: await createRevocationLog({ redis, now, forgetBefore }),
      knownReleases: createKnownReleases({ redis }),
      bulkPins: createBulkPins({ redis, forgetBefore }),
      signOuts: createSignOuts({ redis }),
      signalStreams: createSignalStreams({ redis }),
      idempotency: createIdempotencyStore({ redis }),
      rememberAuditLog: async () => {},
      healthy: async () => {
        try {
          return (await redis.run(BEAT, []))[0] === 'done'
        } catch {
          return false
        }
      },
      close: async () => redis.close(),
    }
  } catch (error) {
    redis.close()
    throw error
  }
}
