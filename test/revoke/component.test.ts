import { beforeEach, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { createComponents } from '../../src/revoke/component.ts'
import { componentOf, matchInLog, shownMatch } from '../../src/revoke/component-match.ts'
import type { KnownRelease } from '../../src/revoke/known-releases.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'
import type { Revoke } from '../../src/revoke/revoke.ts'

const release = (id: string, ...components: readonly string[]): KnownRelease => ({
  id,
  agent: 'research',
  components: components.map((each) => `pkg:npm/${each}`),
})
const BAD = release('bad', 'left@1.0.0')
const LATE = release('late', 'left@2.0.0')
const GOOD = release('good', 'right@1.0.0')
const LEFT = { match: matchInLog({ component: 'left' }), mode: 'ban', reason: 'bad part', by: 'ann' } as const

/** A log and a store of releases that any number of replicas share. */
function shared() {
  const entries = new Map<string, Revocation>()
  const noted = new Map<string, KnownRelease>()
  const listeners: ((entry: Revocation) => void)[] = []
  const fails = new Set<string>()
  /** Awaited between what is read and what is done by it. */
  let pause: (() => Promise<unknown>) | undefined
  const lift = (id: string, by: string, reason: string) => {
    const entry = entries.get(id)
    if (!entry || entry.readmitted) return false
    entries.set(id, { ...entry, readmitted: { at: 1, by, reason } })
    return true
  }
  const replica = () => {
    const errors: unknown[] = []
    const expanded: unknown[] = []
    const components = createComponents({
      now: () => 1,
      log: {
        get: async (id) => entries.get(id),
        bans: async () => [...entries.values()].filter(({ mode, readmitted }) => mode === 'ban' && !readmitted),
        onAdded: (listener) => {
          listeners.push(listener)
          return () => listeners.splice(listeners.indexOf(listener), 1)
        },
      },
      releases: {
        note: async (all) => {
          for (const each of all) noted.set(each.id, each)
        },
        async *all() {
          const all = [...noted.values()]
          await pause?.()
          yield* all
        },
      },
      revoke: {
        byMatch: async ({ id = `rev_${entries.size}`, match, mode, reason, by, partOf }) => {
          if (match.release !== undefined && fails.has(match.release))
            throw new Unavailable('store_unavailable', 'away')
          const known = entries.get(id)
          const place = { epoch: { generation: 1, sequence: entries.size + 1 }, at: 1, expiresAt: 400 }
          const entry: Revocation = known ?? { id, match, mode, reason, by, ...(partOf ? { partOf } : {}), ...place }
          entries.set(id, entry)
          if (!known) for (const listener of listeners) listener(entry)
          return { entry, added: !known, tasks: [`task of ${match.release}`] }
        },
        readmit: async (id, by, reason) => lift(id, by, reason),
        finish: async () => undefined,
      } as Pick<Revoke, 'byMatch' | 'readmit' | 'finish'> as Revoke,
      audit: { append: async (event) => void expanded.push(event) as never },
      onError: (error) => void errors.push(error),
    })
    return { ...components, errors, expanded }
  }
  const banned = () =>
    [...entries.values()]
      .filter(({ match, readmitted }) => componentOf(match) === undefined && !readmitted)
      .map(({ match }) => match.release)
      .sort()
  const between = (step: typeof pause) => {
    pause = step
  }
  return { replica, entries, banned, fails, between }
}

describe('a component', () => {
  let world: ReturnType<typeof shared>
  beforeEach(() => {
    world = shared()
  })

  it('stands in the log as a release that cannot be', () => {
    const match = { component: 'litellm@1.82.8', sub: 'dev|alice' }
    expect(matchInLog(match)).toEqual({ release: 'component:litellm@1.82.8', sub: 'dev|alice' })
    expect(shownMatch(matchInLog(match))).toEqual(match)
    for (const plain of [{}, { release: 'LzlSROKt2j9LESu-fPVgo8' }, { task: 'task_1' }]) {
      expect(matchInLog(plain)).toEqual(plain)
      expect(shownMatch(plain)).toEqual(plain)
    }
  })

  it('L15 that is revoked while a release is registered bans it, whichever comes first', async () => {
    const one = world.replica()
    await one.registered([BAD, GOOD])
    // Registered after the releases were read, and before anything was done by it.
    world.between(async () => {
      world.between(undefined)
      await one.registered([LATE])
    })
    const done = await one.revoke.byMatch(LEFT)
    expect(done.tasks).toContain('task of bad')
    expect(world.banned()).toEqual(['bad', 'late'])
  })

  it('bans at once what only another replica has registered, and later what is registered there', async () => {
    const [one, other] = [world.replica(), world.replica()]
    await one.registered([GOOD])
    await other.registered([BAD])
    expect((await one.revoke.byMatch(LEFT)).releases).toEqual(['bad'])
    expect(world.banned()).toEqual(['bad'])
    await other.registered([LATE])
    expect(world.banned()).toEqual(['bad', 'late'])
    await expect.poll(() => [one.errors, other.errors]).toEqual([[], []])
    // Heard of by both, made once.
    expect([...world.entries.values()].filter(({ match }) => match.release === 'bad')).toHaveLength(1)
  })

  it('that failed midway is an error, and is carried out later; a release that cannot be banned is not used', async () => {
    const one = world.replica()
    await one.registered([BAD, LATE])
    world.fails.add('late')
    await expect(one.revoke.byMatch({ ...LEFT, id: 'rev_whole' })).rejects.toMatchObject({
      reason: 'store_unavailable',
    })
    await expect(one.settle()).rejects.toBeInstanceOf(Unavailable)
    const newer = release('newer', 'left@3.0.0')
    world.fails.add('newer')
    await expect(one.registered([newer])).rejects.toBeInstanceOf(Unavailable)
    world.fails.clear()
    await one.settle()
    expect(world.banned()).toEqual(['bad', 'late', 'newer'])
    await one.settle()
    // What a stop came in between of is done at the next start.
    for (const [id, { match }] of world.entries) if (match.release === 'late') world.entries.delete(id)
    await world.replica().revoke.finish()
    expect(world.banned()).toEqual(['bad', 'late', 'newer'])
  })

  it('that is lifted meanwhile keeps nothing out', async () => {
    const one = world.replica()
    await one.registered([BAD])
    world.between(async () => {
      world.between(undefined)
      expect(await one.revoke.readmit('rev_whole', 'ben', 'a mistake')).toBe(true)
    })
    await one.revoke.byMatch({ ...LEFT, id: 'rev_whole' })
    expect(world.banned()).toEqual([])
    await one.registered([LATE])
    expect(world.banned()).toEqual([])
  })

  it('is lifted as a whole, also where a stop came in between', async () => {
    const one = world.replica()
    await one.registered([BAD, LATE])
    await one.revoke.byMatch({ ...LEFT, id: 'rev_whole' })
    const part = [...world.entries.values()].find(({ partOf }) => partOf === 'rev_whole')!
    expect(await one.revoke.readmit(part.id, 'ben', 'it is fine')).toBe(false)
    world.entries.set('rev_whole', {
      ...world.entries.get('rev_whole')!,
      readmitted: { at: 1, by: 'ben', reason: 'over' },
    })
    expect(world.banned()).toEqual(['bad', 'late'])
    expect(await one.revoke.readmit('rev_whole', 'ben', 'over')).toBe(false)
    expect(world.banned()).toEqual([])
  })

  it('is one of an agent where that is named', async () => {
    const one = world.replica()
    await one.registered([BAD, { ...LATE, agent: 'payments' }])
    const match = matchInLog({ component: 'left', client_id: 'payments' })
    expect((await one.revoke.byMatch({ ...LEFT, match })).releases).toEqual(['late'])
    expect(world.banned()).toEqual(['late'])
  })
})
