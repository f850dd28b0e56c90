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

/** The folder must be locked already. */
export function openEmbedded(deps: { dataDir: string; now: () => number }): Stores {
  const db = openDatabase(deps.dataDir)
  const { now } = deps
  return {
    replayGuard: createReplayGuard({ db, now }),
    keyPins: createKeyPins({ db, now }),
    principalBindings: createPrincipalBindings({ db }),
    keyStore: createKeyStore({ db }),
    subjectKeys: createSubjectKeys({ db }),
    tasks: createTaskStore({ db }),
    revocations: createRevocationLog({ db, now }),
    idempotency: createIdempotencyStore({ db }),
    healthy: db.healthy,
    close: db.close,
  }
}
