/** What the embedded store revokes stands in the ledger beside it too: put back from a backup, the database lacks it. */
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { RevocationLog } from '../../revoke/revocation-log.ts'
import type { Sealed, Seals } from '../../revoke/seals.ts'
import { Unavailable } from '../../oauth/refusal.ts'
import { StoreFault } from '../fault.ts'
import type { Ledger } from '../ledger.ts'

/** On disk twice when it is acknowledged; the kill switch works where one of the two cannot be written. */
export function keepingLog(log: RevocationLog, ledger: Ledger): RevocationLog {
  const quietly = (step: Promise<void>): Promise<void> => step.catch(() => undefined)
  return {
    ...log,
    add: async (entry) => {
      const [added] = await Promise.all([log.add(entry), quietly(ledger.keep(entry))])
      void quietly(ledger.held(entry.id, added.entry.epoch))
      return added
    },
    mark: async () => {
      const place = await log.mark()
      void quietly(ledger.reached(place))
      return place
    },
    readmit: async (id, by, reason, at) => {
      const done = await log.readmit(id, by, reason, at)
      if (done) await quietly(ledger.lifted({ id, by, reason, at }))
      return done
    },
    prune: async (at) => {
      await log.prune(at)
      await quietly(ledger.prune(at))
    },
  }
}

/**
 * The database is sealed first and unsealed last: whatever crash came in between, a seal that only the ledger has is one that the
 * database had and lost.
 */
export function keepingSeals(seals: Seals, ledger: Ledger): Seals {
  return {
    ...seals,
    seal: async (sealed) => {
      const first = await seals.seal(sealed)
      await ledger.sealed(await seals.current()).catch(() => undefined)
      return first
    },
    unseal: async () => {
      const before = await seals.current()
      try {
        await ledger.sealed(undefined)
        return await seals.unseal()
      } catch (error) {
        // Nothing is unsealed, and the next try writes it again.
        await ledger.sealed(before).catch(() => undefined)
        if (error instanceof Unavailable) throw error
        throw new Unavailable('store_unavailable', 'that it is unsealed could not be written', { cause: error })
      }
    },
  }
}

const REMEDY =
  'Put back the newer one; or run errand restore, which adds what it lacks, seals it again where it was sealed, and opens a new generation'

/** Throws where the database is of an earlier day than the ledger. */
export async function refuseBehind(log: RevocationLog, ledger: Ledger, sealed: Sealed | undefined): Promise<void> {
  const reached = ledger.epoch()
  const epoch = await log.epoch()
  if (reached && compareEpochs(epoch, reached) < 0) {
    throw new StoreFault(
      'store_behind',
      `errand.db is at ${epoch.generation}.${epoch.sequence} of the revocation log and had reached ${reached.generation}.${reached.sequence}: it was put back from a backup. ${REMEDY}`,
    )
  }
  const lost = sealed ? undefined : ledger.seal()
  if (lost) {
    throw new StoreFault(
      'store_behind',
      `errand.db is not sealed, and ${lost.by} had sealed it at ${lost.at}: it was put back from a backup. ${REMEDY}`,
    )
  }
}

/** What was there before there was a ledger, or was written while its disk was full. */
export async function keepAll(
  log: RevocationLog,
  ledger: Ledger,
  now: number,
  sealed: Sealed | undefined,
): Promise<void> {
  const stored = [...(await log.after()), ...(await log.bans(now))]
  const steps = stored.map(async ({ epoch, readmitted, ...entry }) => {
    await ledger.keep(entry)
    await ledger.held(entry.id, epoch)
    if (readmitted) await ledger.lifted({ id: entry.id, ...readmitted })
  })
  await Promise.all([...steps, ledger.sealed(sealed), log.epoch().then((place) => ledger.reached(place))]).catch(
    () => undefined,
  )
}
