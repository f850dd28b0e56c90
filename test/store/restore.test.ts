/** A data folder whose halves are of different days: refused at the start, and made whole by `errand restore`. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import { keepingSeals } from '../../src/store/embedded/keeping.ts'
import { LEDGER_FILE, LIFTS_KEPT_SECONDS, openLedger } from '../../src/store/ledger.ts'
import { openStores, type Stores } from '../../src/store/open.ts'
import { restoreEmbedded } from '../../src/store/restore.ts'
import { fresh, range, START } from '../contract/world.ts'

const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

const openAt = (dataDir: string) =>
  openStores({ store: { kind: 'embedded' }, dataDir, now: () => START, monotonic: () => START * 1000 })
const within = async <T>(dataDir: string, use: (stores: Stores) => Promise<T>): Promise<T> => {
  const stores = await openAt(dataDir)
  try {
    return await use(stores)
  } finally {
    await stores.close()
  }
}
const entry = (over: Partial<NewRevocation> = {}): NewRevocation => ({
  id: fresh('rev'),
  match: { jti: fresh('jti') },
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: START,
  expiresAt: START + 3600,
  ...over,
})
const key = (kid: string, state: 'active' | 'retiring') => ({
  kid,
  purpose: 'token' as const,
  alg: 'ES256' as const,
  state,
  publicJwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' },
  sealed: 'sealed text',
  preparedAt: START,
})

/** What `steps` do is gone from the database, and stands in the ledger. */
async function putBack(dataDir: string, steps: (stores: Stores) => Promise<unknown>): Promise<void> {
  await within(dataDir, async () => undefined)
  const copy = join(base, fresh('backup'))
  copyFileSync(join(dataDir, 'errand.db'), copy)
  await within(dataDir, steps)
  for (const name of readdirSync(dataDir))
    if (name.startsWith('errand.db') || name.startsWith('errand.journal')) rmSync(join(dataDir, name))
  copyFileSync(copy, join(dataDir, 'errand.db'))
}

describe('a database from a backup', () => {
  it('P L7 is refused where the ledger beside it knows better, and takes its revocations, bans, seal and keys in a new generation', async () => {
    const dataDir = join(base, fresh('data'))
    const [cut, ban, lifted] = [
      entry(),
      entry({ match: { sub: 'company|alice' }, mode: 'ban' }),
      entry({ match: { agent: 'research' }, mode: 'ban' }),
    ]
    await within(dataDir, ({ keyStore }) => keyStore.insert(key('first', 'active')))
    await putBack(dataDir, async ({ revocations, seals, keyStore }) => {
      for (const one of [cut, ban, lifted]) await revocations.add(one)
      await revocations.readmit(lifted.id, 'admin', 'looked into', START)
      await seals.seal({ by: 'admin', reason: 'odd', at: START })
      await keyStore.activate('first', undefined, START)
      await keyStore.insert(key('second', 'retiring'))
    })
    await expect(openAt(dataDir)).rejects.toMatchObject({
      code: 'store_behind',
      message: expect.stringContaining('run errand restore'),
    })
    // Refused, it has let go of the folder, and of nothing in it.
    expect(await restoreEmbedded({ dataDir, now: START, everything: false })).toEqual({
      epoch: '2.4',
      added: 3,
      lifted: 1,
      keys: 1,
    })
    await within(dataDir, async ({ revocations, seals, keyStore, replayGuard, keyPins }) => {
      await expect(replayGuard.spend('proof', START + 60, false, START - 1)).rejects.toMatchObject({ reason: 'sealed' })
      await expect(keyPins.pin('grant', 'owner', START + 60, START - 1)).rejects.toMatchObject({ reason: 'sealed' })
      expect(await replayGuard.spend('proof', START + 60, false, START)).toBe(true)
      const rev = { generation: 1, sequence: 999 }
      const dead = async ({ match }: NewRevocation) =>
        (await revocations.check({ hops: [{ facts: match, rev }] })).dead?.entry
      for (const one of [cut, ban, lifted]) expect(await dead(one)).toBe(one.id)
      expect((await revocations.bans(START)).map(({ id }) => id)).toEqual([ban.id])
      expect(await seals.current()).toEqual({ by: 'admin', reason: 'odd', at: START })
      expect((await keyStore.list()).map(({ kid, state }) => [kid, state])).toEqual([
        ['first', 'active'],
        ['second', 'retiring'],
      ])
      expect(await revocations.epoch()).toEqual({ generation: 2, sequence: 4 })
    })
  })

  it('P is behind also where nothing was revoked since: places that tokens were checked at are gone', async () => {
    const dataDir = join(base, fresh('data'))
    await putBack(dataDir, ({ revocations }) => revocations.mark())
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'store_behind' })
    const { everything } = await restoreEmbedded({ dataDir, now: START, everything: true })
    await within(dataDir, async ({ revocations }) => {
      const hops = [{ facts: { jti: 'any' }, rev: { generation: 1, sequence: 7 } }]
      expect((await revocations.check({ hops })).dead?.entry).toBe(everything)
    })
  })

  it('P L7 is refused where it has lost nothing but a seal of the service, and is sealed again', async () => {
    const dataDir = join(base, fresh('data'))
    const sealed = { by: 'admin', reason: 'odd', at: START }
    await putBack(dataDir, ({ seals }) => seals.seal(sealed))
    await expect(openAt(dataDir)).rejects.toMatchObject({
      code: 'store_behind',
      message: expect.stringContaining(`admin had sealed it at ${START}`),
    })
    await restoreEmbedded({ dataDir, now: START, everything: false })
    await within(dataDir, async ({ seals, revocations }) => {
      expect(await seals.current()).toEqual(sealed)
      await expect(revocations.check({ hops: [], issuing: {} })).rejects.toMatchObject({ reason: 'sealed' })
      expect(await seals.unseal()).toBe(true)
    })
    await within(dataDir, async ({ seals }) => expect(await seals.current()).toBeUndefined())
  })

  it('P1 is sealed or is not, and never behind, wherever a crash or a full disk cuts an unsealing short', async () => {
    const dataDir = join(base, fresh('data'))
    const sealed = { by: 'admin', reason: 'odd', at: START }
    await within(dataDir, async ({ seals }) => expect(await seals.seal(sealed)).toBe(true))
    // Died with the ledger written and the row still there; and before the ledger had anything of it.
    const ledger = openLedger(dataDir)
    await ledger.sealed(undefined)
    await ledger.close()
    await within(dataDir, async ({ seals }) => expect(await seals.current()).toEqual(sealed))
    const again = openLedger(dataDir)
    expect(again.seal()).toEqual(sealed)
    await again.close()

    let writable = false
    let row: typeof sealed | undefined = sealed
    const told: unknown[] = []
    const seals = keepingSeals(
      {
        seal: async () => false,
        current: async () => row,
        unseal: async () => {
          row = undefined
          return true
        },
      },
      {
        ...again,
        sealed: async (now) => {
          told.push(now)
          if (!writable) throw new Error('ENOSPC')
        },
      },
    )
    await expect(seals.unseal()).rejects.toMatchObject({ reason: 'store_unavailable' })
    expect([row, told]).toEqual([sealed, [undefined, sealed]])
    writable = true
    expect(await seals.unseal()).toBe(true)
    expect([row, told.at(-1)]).toEqual([undefined, undefined])
  })

  it('P1 is not taken for behind after a crash at any moment, and what an older version wrote is kept from then on', async () => {
    const dataDir = join(base, fresh('data'))
    await within(dataDir, async ({ revocations }) => {
      for (const _ of range(3)) await revocations.add(entry())
    })
    const whole = readFileSync(join(dataDir, LEDGER_FILE))
    for (const length of [0, 1, 20, whole.length - 3, whole.length - 150]) {
      writeFileSync(join(dataDir, LEDGER_FILE), whole.subarray(0, length))
      await within(dataDir, async ({ revocations }) => expect((await revocations.after()).length).toBe(3))
    }
    rmSync(join(dataDir, LEDGER_FILE))
    await within(dataDir, async () => undefined)
    const ledger = openLedger(dataDir)
    expect(ledger.entries().filter(({ held }) => held)).toHaveLength(3)
    expect(ledger.epoch()).toEqual({ generation: 1, sequence: 3 })
    await ledger.close()
  })

  it('says what to do where there is nothing to restore', async () => {
    const dataDir = join(base, fresh('data'))
    await expect(restoreEmbedded({ dataDir, now: START, everything: false })).rejects.toMatchObject({
      code: 'data_damaged',
    })
    expect(existsSync(join(dataDir, 'errand.db'))).toBe(false)
  })
})

describe('the ledger', () => {
  const folder = async () => {
    const dataDir = join(base, fresh('data'))
    await within(dataDir, async () => undefined)
    return dataDir
  }

  it('forgets what counts no more: entries with their tokens, bans when they are lifted or over', async () => {
    const dataDir = await folder()
    const ledger = openLedger(dataDir)
    const ban = entry({ mode: 'ban', match: { agent: 'a' }, expiresAt: START + 10 })
    const over = entry({ mode: 'ban', match: { task: 't' }, expiresAt: START + 10, banUntil: START + 20 })
    const cut = entry({ expiresAt: START + 10 })
    for (const one of [ban, over, cut]) {
      await ledger.keep(one)
      await ledger.held(one.id, { generation: 1, sequence: 1 })
    }
    await ledger.keep(entry({ expiresAt: START + 5000 })) // never confirmed
    await ledger.prune(START + 15)
    expect(ledger.entries().map(({ entry: { id } }) => id)).toEqual(expect.arrayContaining([ban.id, over.id]))
    expect(ledger.entries()).toHaveLength(3)
    await ledger.prune(START + 700)
    expect(ledger.entries().map(({ entry: { id } }) => id)).toEqual([ban.id])
    await ledger.lifted({ id: ban.id, by: 'admin', reason: 'test', at: START })
    await ledger.prune(START + 700)
    expect(ledger.entries()).toEqual([])
    await ledger.close()
    // Others may hold it as if it stood, for a long time.
    const again = openLedger(dataDir)
    expect(again.lifts()).toEqual([expect.objectContaining({ id: ban.id, by: 'admin', reason: 'test', at: START })])
    await again.prune(START + LIFTS_KEPT_SECONDS)
    expect(again.lifts()).toEqual([])
    await again.close()
  })

  it('stays as small as what counts, and is whole again after each rewrite', async () => {
    const dataDir = await folder()
    const ledger = openLedger(dataDir)
    for (const n of range(30)) {
      await Promise.all(range(100).map(() => ledger.keep(entry({ at: START + n, expiresAt: START + n }))))
      await ledger.prune(START + n + 700)
    }
    const last = entry({ expiresAt: START + 9000 })
    await ledger.keep(last)
    await ledger.close()
    expect(readFileSync(join(dataDir, LEDGER_FILE)).length).toBeLessThan(700_000)
    const again = openLedger(dataDir)
    expect(again.entries().some(({ entry: { id } }) => id === last.id)).toBe(true)
    expect(again.id).toBe(ledger.id)
    await again.close()
  })
})
