/** Opens every embedded adapter over one database file. */
import type { Stores } from '../open.ts'
import { checkAuditMarker, writeAuditMarker } from './audit-marker.ts'
import { type EmbeddedDatabase, openDatabase } from './database.ts'
import { createIdempotencyStore } from './idempotency.ts'
import { createKeyPins, createPrincipalBindings } from './key-pins.ts'
import { createKeyStore } from './key-store.ts'
import { createReplayGuard } from './replay-guard.ts'
import { createRevocationLog } from './revocation-log.ts'
import { createSubjectKeys } from './subject-keys.ts'
import { createTaskStore } from './task-store.ts'

/** The folder must be locked already. What ended before `forgetBefore()` may be forgotten. */
export function openEmbedded(deps: { dataDir: string; now: () => number; forgetBefore: () => number }): Stores {
  const db = openTogether(deps.dataDir)
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
    rememberAuditLog: (logId) => writeAuditMarker(db, logId),
    healthy: db.healthy,
    close: db.close,
  }
}

function openTogether(dataDir: string): EmbeddedDatabase {
  const db = openDatabase(dataDir)
  try {
    checkAuditMarker(db, dataDir)
    return db
  } catch (error) {
    void db.close()
    throw error
  }
}
