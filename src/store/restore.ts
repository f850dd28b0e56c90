/** `errand restore`: a store that was put back from a backup is given what the data folder's ledger holds. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { newId } from '../tasks/ids.ts'
import { openDatabase } from './embedded/database.ts'
import { createKeyStore } from './embedded/key-store.ts'
import { lockDataDir } from './embedded/lock.ts'
import { createRevocationLog } from './embedded/revocation-log.ts'
import { createSeals } from './embedded/seals.ts'
import { StoreFault } from './fault.ts'
import { openReserve } from './files/reserve.ts'
import { openLedger } from './ledger.ts'

/** As revoke.ts keeps an entry past the longest token. */
const MARGIN_SECONDS = 120

export interface Restored {
  /** The first place of the new generation. */
  readonly epoch: string
  readonly added: number
  readonly lifted: number
  readonly keys: number
  /** The entry that ends every token, where one was asked for. */
  readonly everything?: string
}

export interface RestoreOptions {
  readonly dataDir: string
  /** Unix seconds. */
  readonly now: number
  /** Ends every token: the ledger too is of an earlier day. */
  readonly everything: boolean
}

/** The service must not run. Again, it does no more than open another generation. */
export async function restoreEmbedded({ dataDir, now, everything }: RestoreOptions): Promise<Restored> {
  if (!existsSync(join(dataDir, 'errand.db'))) {
    throw new StoreFault('data_damaged', `there is no errand.db in ${dataDir}: put it back from a backup first`)
  }
  const lock = lockDataDir(dataDir)
  const ledger = openLedger(dataDir)
  const db = openDatabase(dataDir, openReserve(dataDir))
  try {
    const generation = db.prepare("SELECT value FROM meta WHERE name = 'generation'")
    const number = Math.max(Number(generation.one([])?.['value']), ledger.epoch()?.generation ?? 0) + 1
    const set = db.prepare('INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value')
    await db.write(() => {
      // Proofs from before may have been used: they are not taken any more.
      set.run(['opened_at', now])
      set.run(['generation', number])
    })

    const { seals, sealed } = createSeals({ db })
    const log = createRevocationLog({ db, now: () => now, forgetBefore: () => 0, sealed })
    let added = 0
    let lifted = 0
    for (const { entry } of ledger.entries()) {
      // What closes a containment is added once the tasks were narrowed again, at the start.
      if (entry.closes === undefined && (await log.add(entry)).added) added += 1
    }
    for (const lift of ledger.lifts()) if (await log.readmit(lift.id, lift.by, lift.reason, lift.at)) lifted += 1
    const id = newId('rev')
    if (everything) {
      await log.add({
        id,
        match: {},
        mode: 'cut',
        reason: 'restored from a backup',
        by: 'system',
        at: now,
        expiresAt: now + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS,
      })
    }
    const seal = ledger.seal()
    if (seal) await seals.seal(seal)
    const keys = await restoreKeys(createKeyStore({ db }), ledger.keys(), now)
    const epoch: Epoch = await log.mark()
    await ledger.reached(epoch)
    return { epoch: formatEpoch(epoch), added, lifted, keys, ...(everything ? { everything: id } : {}) }
  } finally {
    await db.close()
    await ledger.close()
    lock.release()
  }
}

/** What they signed verifies; those that sign stay those of the backup. */
async function restoreKeys(
  store: ReturnType<typeof createKeyStore>,
  kept: ReturnType<ReturnType<typeof openLedger>['keys']>,
  now: number,
): Promise<number> {
  const known = await store.list()
  let added = 0
  for (const key of kept) {
    if (known.some(({ kid }) => kid === key.kid)) continue
    const signs = known.some(({ purpose, state }) => purpose === key.purpose && state === 'active')
    const restored = key.state === 'active' && signs ? { ...key, state: 'retiring' as const, retiringAt: now } : key
    if (await store.insert(restored)) added += 1
  }
  return added
}
