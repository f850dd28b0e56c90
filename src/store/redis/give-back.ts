/** What a process gives back to a Redis that may have lost it, and what it keeps on its own disk for that day. */
import { hostname } from 'node:os'
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import type { NewRevocation } from '../../revoke/revocation-log.ts'
import { newId } from '../../tasks/ids.ts'
import { endOf, INTENT_SECONDS, type Kept, type Ledger } from '../ledger.ts'
import type { GivingBack, RedisClient, Run } from './client.ts'
import { script } from './client.ts'
import { discardBroken } from './intact.ts'
import { insertKey } from './key-store.ts'
import { learnLifts, liftAgain } from './lifts.ts'
import { addEntry } from './revocation-log.ts'
import { sealAgain } from './seals.ts'

const AT_ONCE = 64
/** As revoke.ts keeps an entry past the longest token. */
const MARGIN_SECONDS = 120

export function createGivingBack(deps: {
  ledger: Ledger
  now: () => number
  forgetBefore: () => number
  told: GivingBack['told']
}): GivingBack {
  const { ledger, now, forgetBefore } = deps
  const isDue = ({ entry, held }: Kept) =>
    // What closes a containment is added once the tasks were narrowed, and that may be what is missing.
    entry.closes === undefined && (held || now() < entry.at + INTENT_SECONDS)

  return {
    told: deps.told,
    roster: () => ({ id: ledger.id, name: hostname().slice(0, 64), known: ledger.roster() }),
    leastGeneration: () => ledger.epoch()?.generation ?? 0,
    async giveBack(run, generation) {
      const sealed = ledger.seal()
      if (sealed) await sealAgain(run, sealed)
      for (const key of ledger.keys()) await insertKey(run, key)
      // Those that only others lifted are given back as lifted, and those that are over are not.
      await learnLifts(run, ledger)
      const due = ledger.entries().filter((kept) => isDue(kept) && endOf(kept) > forgetBefore())
      for (let at = 0; at < due.length; at += AT_ONCE)
        await Promise.all(due.slice(at, at + AT_ONCE).map((kept) => giveBackOne(run, kept, now())))
      const lifts = ledger.lifts()
      for (let at = 0; at < lifts.length; at += AT_ONCE)
        await Promise.all(lifts.slice(at, at + AT_ONCE).map((lift) => liftAgain(run, lift)))
      await ledger.reached({ generation, sequence: 0 }).catch(() => undefined)
    },
    async endEverything(run, _, lost) {
      const at = now()
      const entry: NewRevocation = {
        id: newId('rev'),
        match: {},
        mode: 'cut',
        reason: `declared lost: ${lost.join(', ')}`,
        by: 'system',
        at,
        expiresAt: at + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS,
      }
      await ledger.keep(entry).catch(() => undefined)
      await addEntry(run, entry)
    },
  }
}

async function giveBackOne(run: Run, { entry }: Kept, now: number): Promise<void> {
  await discardBroken(run, entry, now)
  await addEntry(run, entry)
}

const JOIN = script(
  `
redis.call('HSET', K .. 'roster', arg(1), arg(2))
return {'roster', unpack(redis.call('HKEYS', K .. 'roster'))}
`,
  { critical: true },
)
const LEAVE = script("redis.call('HDEL', K .. 'roster', arg(1)) return {'left'}", { critical: true })

/** On the roster while it runs: whoever ends in order has nothing that Redis lacks. */
export async function joinRoster({
  redis,
  ledger,
  everyMs,
  also,
}: {
  redis: RedisClient
  ledger: Ledger
  everyMs: number
  /** Asked as often. */
  also: () => Promise<unknown>
}) {
  const join = async () => {
    const [word, ...ids] = await redis.run(JOIN, [ledger.id, hostname().slice(0, 64)])
    if (word === 'roster') await ledger.keepRoster(ids.sort())
    await also()
  }
  await join()
  const timer = setInterval(() => void join().catch(() => undefined), everyMs)
  timer.unref()
  return {
    async leave() {
      clearInterval(timer)
      await redis.run(LEAVE, [ledger.id]).catch(() => undefined)
    },
  }
}
