/** Opens every embedded adapter over one database file. */
import { openReserve, type Reserve } from '../files/reserve.ts'
import { NEVER_SEALED } from '../../revoke/store-seal.ts'
import type { Stores } from '../open.ts'
import { checkAuditMarker, writeAuditMarker } from './audit-marker.ts'
import { createBulkPins } from './bulk-pins.ts'
import { type EmbeddedDatabase, openDatabase } from './database.ts'
import { createIdempotencyStore } from './idempotency.ts'
import { createJournal } from './journal.ts'
import { createJoining } from './joining.ts'
import { keepAll, keepingLog, keepingSeals, refuseBehind } from './keeping.ts'
import { keepingKeys, openLedger } from '../ledger.ts'
import { createKeyPins, createPrincipalBindings } from './key-pins.ts'
import { createKeyStore } from './key-store.ts'
import { createKnownReleases } from './known-releases.ts'
import { createLiveTasks } from './live-tasks.ts'
import { createPendingRevocations } from './pending-revocations.ts'
import { createPlatformAgents } from './platform-agents.ts'
import { createReplayGuard } from './replay-guard.ts'
import { createRevocationLog } from './revocation-log.ts'
import { createSeals } from './seals.ts'
import { createSignOuts } from './sign-outs.ts'
import { createSignalStreams } from './signal-streams.ts'
import { createStatusRegistry } from './status-registry.ts'
import { createSubjectKeys } from './subject-keys.ts'
import { createTaskStore } from './task-store.ts'

/** The folder must be locked already. What ended before `forgetBefore()` may be forgotten. */
export async function openEmbedded(deps: {
  dataDir: string
  now: () => number
  forgetBefore: () => number
  reserve?: Reserve
}): Promise<Stores> {
  const { dataDir, now, forgetBefore, reserve = openReserve(dataDir) } = deps
  const db = openTogether(dataDir, reserve)
  const journal = createJournal({ dataDir, db, reserve })
  const ledger = openLedger(dataDir)
  const openedAt = Number(db.prepare("SELECT value FROM meta WHERE name = 'opened_at'").one([])?.['value'] ?? 0)
  const { seals, sealed } = createSeals({ db })
  const revocations = createRevocationLog({ db, now, forgetBefore, sealed })
  const stores: Stores = {
    replayGuard: createReplayGuard({ db, journal, forgetBefore, openedAt }),
    keyPins: createKeyPins({ db, journal, forgetBefore, openedAt }),
    principalBindings: createPrincipalBindings({ db }),
    joining: createJoining({ db, forgetBefore }),
    platformAgents: createPlatformAgents({ db }),
    keyStore: keepingKeys(createKeyStore({ db }), ledger),
    subjectKeys: createSubjectKeys({ db }),
    tasks: createTaskStore({ db, journal }),
    liveTasks: createLiveTasks({ db }),
    revocations: keepingLog(revocations, ledger),
    knownReleases: createKnownReleases({ db }),
    bulkPins: createBulkPins({ db, forgetBefore }),
    pendingRevocations: createPendingRevocations({ db, forgetBefore }),
    signOuts: createSignOuts({ db }),
    signalStreams: createSignalStreams({ db }),
    statusRegistry: createStatusRegistry({ db }),
    idempotency: createIdempotencyStore({ db }),
    rememberAuditLog: (logId) => writeAuditMarker(db, logId),
    seals: keepingSeals(seals, ledger),
    sealing: NEVER_SEALED,
    healthy: db.healthy,
    close: async () => {
      await journal.close()
      await db.close()
      await ledger.close()
    },
  }
  try {
    await refuseBehind(revocations, ledger, sealed())
    await journal.recover()
    await keepAll(revocations, ledger, now(), sealed())
    return stores
  } catch (error) {
    await db.close()
    throw error
  }
}

function openTogether(dataDir: string, reserve: Reserve): EmbeddedDatabase {
  const db = openDatabase(dataDir, reserve)
  try {
    checkAuditMarker(db, dataDir)
    return db
  } catch (error) {
    void db.close()
    throw error
  }
}
