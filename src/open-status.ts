/** The status lists of one issuer: for verifiers that do not follow the feed. */
import { randomInt } from 'node:crypto'
import { every } from './every.ts'
import { STATUS_LISTS } from './http/status-lists.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { createStatusDecoys } from './revoke/status-decoys.ts'
import { LIST_SIZE, openStatusIndexes } from './revoke/status-indexes.ts'
import { createStatusLists } from './revoke/status-lists.ts'
import type { RoomDeps } from './rooms.ts'
import { createRevocationIndex } from './store/embedded/revocation-index.ts'

interface StatusDeps extends RoomDeps {
  readonly ring: KeyRing
  readonly forgetBefore: () => number
  readonly onFault: (error: unknown, where: string) => void
}

export async function openStatus(deps: StatusDeps) {
  const { holder, stores, sealer, now, closing, ring, forgetBefore, onFault } = deps
  const { issuer } = holder.current().settings
  const aggregation = `${issuer.replace(/\/$/, '')}${STATUS_LISTS}`
  const uriOf = (list: string) => `${aggregation}/${list}`
  const decoys = createStatusDecoys({ key: sealer.derive('status-decoys', 32), size: LIST_SIZE })
  const statusIndexes = await openStatusIndexes({
    now,
    forgetBefore,
    registry: stores.statusRegistry,
    log: stores.revocations,
    // The code that decides for the embedded log itself; over Redis it is fed by that log, as a verifier is.
    verdicts: createRevocationIndex({ generation: 0, sequence: 0 }),
    decoys,
    random: (most) => randomInt(most),
    uriOf,
    inUse: () => holder.current().tools.all.some(({ statusList }) => statusList),
  })
  closing.push(() => statusIndexes.close())
  const statusLists = createStatusLists({
    now,
    issuer,
    aggregation,
    uriOf,
    indexes: statusIndexes,
    decoys,
    activeKid: () => ring.activeKid('status'),
    sign: (typ, payload) => ring.sign('status', { typ }, payload),
  })
  closing.push(every(1_000, statusLists.tick, (error) => onFault(error, 'status lists')))
  return { statusIndexes, statusLists }
}
