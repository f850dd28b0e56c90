/** An administrator's seal in Redis; `CHECK` of the revocation log looks at it in the same step. */
import type { Sealed, Seals } from '../../revoke/seals.ts'
import type { Ledger } from '../ledger.ts'
import { type RedisClient, type Run, script, unexpected } from './client.ts'

const SEAL = script("return {redis.call('SETNX', K .. 'sealed', arg(1)) == 1 and 'done' or 'no'}", { critical: true })
const UNSEAL = script("return {redis.call('DEL', K .. 'sealed') == 1 and 'done' or 'no'}", { critical: true })
const CURRENT = script("return {'sealed', redis.call('GET', K .. 'sealed') or ''}", { critical: true })

export const sealAgain = async (run: Run, sealed: Sealed): Promise<void> => {
  await run(SEAL, [JSON.stringify(sealed)])
}

export function createSeals({ redis, ledger }: { redis: RedisClient; ledger: Ledger }): Seals {
  return {
    seal: async (sealed) => {
      await ledger.sealed(sealed).catch(() => undefined)
      return (await redis.run(SEAL, [JSON.stringify(sealed)]))[0] === 'done'
    },
    current: async () => {
      const reply = await redis.run(CURRENT, [])
      if (reply[0] !== 'sealed' || reply[1] === undefined) throw unexpected(reply)
      const sealed = reply[1] === '' ? undefined : (JSON.parse(reply[1]) as Sealed)
      // Another process may have sealed it, or lifted it.
      await ledger.sealed(sealed).catch(() => undefined)
      return sealed
    },
    unseal: async () => {
      const done = (await redis.run(UNSEAL, []))[0] === 'done'
      await ledger.sealed(undefined).catch(() => undefined)
      return done
    },
  }
}
