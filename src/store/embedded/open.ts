/** Opens every embedded adapter over one database file. */
import type { Stores } from '../open.ts'
import { openDatabase } from './database.ts'
import { createIdempotencyStore } from './idempotency.ts'
import { createKeyPins, createPrincipalBindings } from './key-pins.ts'
import { createKeyStore } from './key-store.ts'
import { createReplayGuard } from './replay-guard.ts'
import { createRevocationLog } from './revocation-log.ts'
import { createSubjectKeys } from './subject-keys.ts'
import { createTaskStore } from './task-store.ts'

/** The folder must be locked already. What ended before `forgetBefore()` may be forgotten. */
export function openEmbedded(deps: { dataDir: string; now: () => number; forgetBefore: () => number }): Stores {
  const db = openDatabase(deps.dataDir)
  const { now, forgetBefore } = deps
  return {
    replayGuard: createReplayGuard({ db, forgetBefore }),
    keyPins: createKeyPins({ db, forgetBefore }),
    principalBindings: createPrincipalBindings({ db }),
    keyStore: createKeyStore({ db }),
    subjectKeys: createSubjectKeys({ db }),
    tasks: createTaskStore({ db }),
    revocations: createRevocationLog({ db, now, forgetBefore }),
    idempotency: createIdempotencyStore({ db }),
    healthy: db.healthy,
    close: db.close,
  }
}
