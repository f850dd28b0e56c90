import { beforeEach, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import type { HeldRevocation, PendingRevocations } from '../../src/revoke/pending-revocations.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'
import { createTwoPeople, digestOf } from '../../src/revoke/two-people.ts'

const ID = 'rev_AAAAAAAAAAAAAAAAAAAAAA'
const ASKED = { id: ID, match: { domain: 'company.example' }, mode: 'ban', reason: 'a breach', by: 'ann' } as const

describe('what two people revoke, where something fails', () => {
  const held = new Map<string, HeldRevocation & { readonly done?: boolean }>()
  const made: { readonly by: string; readonly confirmedBy?: string }[] = []
  let away = false
  let another = false
  const faults: unknown[] = []
  let logged: Revocation | undefined
  const store: PendingRevocations = {
    ask: async (pending) => {
      if (!held.has(pending.id)) held.set(pending.id, { pending })
      return held.get(pending.id)!
    },
    find: async (id) => held.get(id),
    confirm: async (id, by) => {
      const one = held.get(id)!
      if (one.confirmedBy !== undefined && (one.done || one.confirmedBy !== by))
        return { outcome: 'used', by: one.confirmedBy }
      held.set(id, { ...one, confirmedBy: by })
      return { outcome: 'confirmed', pending: one.pending }
    },
    done: async (id) => void held.set(id, { ...held.get(id)!, done: true }),
    open: async () => [],
    unfinished: async () =>
      [...held.values()].flatMap(({ pending, confirmedBy, done }) =>
        confirmedBy === undefined || done ? [] : [{ pending, confirmedBy }],
      ),
  }
  const unrecorded: string[] = []
  const people = createTwoPeople({
    now: () => 1_000,
    held: store,
    log: { get: async () => logged },
    broad: () => ['domain'],
    isAdmin: () => true,
    revoke: {
      byMatch: async (request) => {
        if (away) throw new Unavailable('store_unavailable', 'away')
        made.push(request)
        const entry = {
          ...request,
          epoch: { generation: 1, sequence: 1 },
          at: 1,
          expiresAt: 2,
        } as unknown as Revocation
        return { entry, added: true, tasks: [], ...(another ? { another } : {}) }
      },
    },
    bulk: {
      confirmed: async () => {
        throw new Error('there is no preview here')
      },
    },
    audit: {
      append: async () => {
        throw new Unavailable('audit_unavailable', 'the disk is full')
      },
    },
    onUnrecorded: (type) => unrecorded.push(type),
    onFault: (error) => faults.push(error),
  })
  beforeEach(() => {
    held.clear()
    made.length = 0
    faults.length = 0
    away = false
    another = false
    logged = undefined
  })
  const asked = async () => {
    const answer = await people.ask(ASKED, 'req_1')
    if (!answer.ok) throw new Error(answer.refusal.reason)
    return digestOf(answer.value.pending)
  }

  it('is asked for also where nothing can be recorded', async () => {
    await asked()
    expect(unrecorded).toEqual(['revocation.asked'])
    expect((await people.find(ID))?.expiresAt).toBe(1_900)
  })

  it('is gone on with by whoever confirmed it, and by nobody else', async () => {
    const digest = await asked()
    away = true
    await expect(people.confirm(ID, 'ben', digest, 'req_2')).rejects.toBeInstanceOf(Unavailable)
    expect(await people.find(ID)).toBeUndefined()
    away = false
    expect(await people.confirm(ID, 'eve', digest, 'req_3')).toMatchObject({ refusal: { reason: 'confirmation_used' } })
    expect(await people.confirm(ID, 'ben', digest, 'req_4')).toMatchObject({ ok: true, value: { mode: 'ban' } })
    expect(made).toMatchObject([{ id: ID, by: 'ann', confirmedBy: 'ben' }])
    expect(await people.confirm(ID, 'ben', digest, 'req_5')).toMatchObject({ refusal: { reason: 'confirmation_used' } })
  })

  it('is carried out by itself where nobody goes on with it, once', async () => {
    const digest = await asked()
    away = true
    await expect(people.confirm(ID, 'ben', digest, 'req_2')).rejects.toBeInstanceOf(Unavailable)
    await people.finish()
    await people.finish()
    expect(faults).toEqual([expect.any(Unavailable)])
    away = false
    await people.finish()
    await people.finish()
    expect(made).toHaveLength(1)
  })

  it('keeps nothing else up where one cannot be carried out', async () => {
    const [at, expiresAt] = [1_000, 1_900]
    const id = 'rev_CCCCCCCCCCCCCCCCCCCCCC'
    const pin = { ...ASKED, mark: { generation: 1, sequence: 1 }, tasks: [], expiresAt, revocation: id }
    held.set(id, { pending: { ...ASKED, id, at, expiresAt, pin }, confirmedBy: 'ben' })
    const other = { ...ASKED, id: 'rev_BBBBBBBBBBBBBBBBBBBBBB', at, expiresAt }
    held.set(other.id, { pending: other, confirmedBy: 'ben' })
    await people.finish()
    expect(faults).toEqual([expect.objectContaining({ message: 'there is no preview here' })])
    expect(made).toMatchObject([{ id: other.id }])
  })

  it('is not taken for made where its id is of another revocation', async () => {
    const digest = await asked()
    another = true
    const changed = { refusal: { reason: 'confirmation_changed' } }
    expect(await people.confirm(ID, 'ben', digest, 'req_2')).toMatchObject(changed)
    expect(await store.unfinished()).toHaveLength(1)
    await people.finish()
    expect(faults).toEqual([expect.objectContaining({ message: expect.stringContaining(ID) })])
  })

  it('is not confirmed where another revocation took its id first', async () => {
    const digest = await asked()
    logged = {} as Revocation
    const changed = { refusal: { reason: 'confirmation_changed' } }
    expect(await people.confirm(ID, 'ben', digest, 'req_2')).toMatchObject(changed)
    expect(await store.unfinished()).toEqual([])
  })

  it('has its id for itself until it is made', async () => {
    expect(await people.holds(ID)).toBe(false)
    await asked()
    expect(await people.holds(ID)).toBe(true)
    logged = {} as Revocation
    expect(await people.holds(ID)).toBe(false)
  })

  it('does not take the name of a revocation that one person made', async () => {
    logged = {} as Revocation
    expect(await people.ask(ASKED, 'req_1')).toMatchObject({ refusal: { reason: 'idempotency_conflict' } })
    expect(held.size).toBe(0)
  })

  it('has another digest for everything that could be another', async () => {
    await asked()
    const { pending } = held.get(ID)!
    const others = [
      { match: {} },
      { mode: 'cut' as const },
      { reason: 'another' },
      { by: 'eve' },
      { expiresAt: 1_901 },
      { before: { generation: 1, sequence: 2 } },
      { taken: { tools: ['crm'], operations: [] } },
      { id: 'rev_BBBBBBBBBBBBBBBBBBBBBB' },
    ].map((other) => digestOf({ ...pending, ...other }))
    expect(new Set([digestOf(pending), ...others]).size).toBe(others.length + 1)
  })
})
