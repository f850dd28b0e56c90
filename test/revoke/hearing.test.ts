import { describe, expect, it } from 'vitest'
import { createAcks } from '../../src/revoke/acks.ts'
import { openHearing } from '../../src/revoke/hearing.ts'
import type { OtherReplica, Replicas } from '../../src/revoke/replicas.ts'
import { createHeldKeys } from '../../src/rotate/held-keys.ts'

const at = (sequence: number) => ({ generation: 1, sequence })
const isPrepared = (kid: string) => kid === 'new'

/** Replicas that tell one another at once, all of it each time. */
function site() {
  const clock = { now: 1_000 }
  const log = { sequence: 0 }
  const told = new Map<string, OtherReplica>()
  const replicasOf = (id: string): Replicas => {
    const all = new Map<string, string>()
    return {
      ask: async () => new Map(),
      answer: async () => undefined,
      exchange: async ({ words, over, gone = [], ...mine }) => {
        for (const each of gone) told.delete(each)
        for (const about of over) all.delete(about)
        for (const [about, word] of words) all.set(about, word)
        told.set(id, { ...mine, id, beat: (told.get(id)?.beat ?? 0) + 1, words: new Map(all) })
        return [...told.values()].filter((each) => each.id !== id)
      },
    }
  }
  const start = async (id: string, { run = id, isFirst = true, behindSeconds = 0 } = {}) => {
    const acks = createAcks()
    const heldKeys = createHeldKeys({ isPrepared })
    const now = () => clock.now - behindSeconds
    const hearing = await openHearing({
      acks,
      heldKeys,
      isPrepared,
      onHeard: () => undefined,
      replicas: replicasOf(id),
      epoch: async () => at(log.sequence),
      run,
      isFirst,
      now,
      monotonic: () => clock.now * 1000,
    })
    const said = (instance: string, sequence: number, kids: readonly string[] = []) =>
      hearing.said('tool:crm', { epoch: at(sequence), instance, kids })
    /** As containment asks. */
    const applied = (sequence: number) => hearing.covers(at(sequence)) && acks.applied('tool:crm', at(sequence))
    return { acks, heldKeys, hearing, said, applied, now, tick: hearing.tick }
  }
  return { clock, log, start, told }
}

describe('what verifiers say to several replicas', () => {
  it('is known of all their processes at each, whichever of them they talk to', async () => {
    const { log, start } = site()
    const [one, other] = [await start('one'), await start('other')]
    log.sequence = 7
    one.said('a', 7)
    other.said('b', 5)
    for (const { tick } of [one, other, one]) await tick()
    expect(one.acks.all()).toMatchObject([{ verifier: 'tool:crm', epoch: at(5), instances: 2 }])
    expect(one.applied(7)).toBeUndefined()
    // The next word of that process reaches the other one.
    one.said('b', 7)
    expect(one.applied(7)).toMatchObject({ epoch: '1.7', processes: 2 })
    expect(other.applied(7)).toBeUndefined()
    for (const { tick } of [one, other]) await tick()
    expect(other.applied(7)).toMatchObject({ processes: 2 })
    other.hearing.left('tool:crm', 'b')
    for (const { tick } of [other, one]) await tick()
    expect(one.acks.all()).toMatchObject([{ instances: 1 }])
  })

  it('L7 nobody is taken for all there are before each replica has told what it heard since', async () => {
    const { log, start } = site()
    const [one, other] = [await start('one'), await start('other')]
    await one.tick()
    other.hearing.begun('tool:crm', 'b') // it knows what stood in the log until now
    log.sequence = 7
    one.said('a', 7)
    expect(one.applied(7)).toBe(false)
    await one.tick()
    expect(one.applied(7)).toBe(false)
    await other.tick()
    await one.tick()
    expect(one.applied(7)).toBeUndefined()
    other.said('b', 7)
    for (const { tick } of [other, one]) await tick()
    expect(one.applied(7)).toMatchObject({ processes: 2 })
  })

  it('one that restarts is heard since then, by the clock of whoever asks; one that stopped holds nothing up for long', async () => {
    const { clock, log, start, told } = site()
    const [one, other] = [await start('one', { behindSeconds: 20 }), await start('other')]
    expect([one.hearing.since(), other.hearing.since()]).toEqual([0, 0])
    clock.now += 100
    const again = await start('other', { run: 'again', isFirst: false })
    await one.tick()
    expect(one.hearing.since()).toBe(1_080)
    expect(again.hearing.since()).toBe(1_100)
    log.sequence = 7
    one.said('a', 7)
    clock.now += 179
    await one.tick()
    expect(one.applied(7)).toBe(false)
    clock.now += 1
    one.said('a', 7)
    await one.tick()
    expect(one.applied(7)).toMatchObject({ processes: 1 })
    expect(one.hearing.since()).toBe(0)
    expect(told.has('other')).toBe(true)
    clock.now += 221
    await one.tick()
    expect(told.has('other')).toBe(false)
  })

  it('O3 a key is held by all when each process has told it to some replica', async () => {
    const { clock, start } = site()
    const [one, other] = [await start('one'), await start('other')]
    const held = ({ heldKeys, now }: typeof one) => heldKeys.byAll(['tool:crm'], 'new', now())
    one.said('a', 0, ['old', 'new'])
    other.said('b', 0, ['old'])
    for (const { tick } of [one, other, one]) await tick()
    expect([held(one), held(other)]).toEqual([false, false])
    other.said('b', 0, ['old', 'new'])
    await other.tick()
    await one.tick()
    expect([held(one), held(other)]).toEqual([true, true])
    expect(one.hearing.fresh()).toBe(true)
    clock.now += 5
    expect(one.hearing.fresh()).toBe(false)
  })

  it('tells no more of a process that has been silent for long, and nothing of keys that sign already', async () => {
    const { clock, start, told } = site()
    const one = await start('one')
    one.said('gone', 0, ['old', 'new'])
    await one.tick()
    expect([...told.get('one')!.words]).toEqual([['tool:crm gone', '{"epoch":"1.0","kids":["new"]}']])
    clock.now += 181
    await one.tick()
    expect(told.get('one')!.words.size).toBe(0)
    const regression = { before: 'a', after: 'b' }
    for (const instance of ['x', 'y']) one.hearing.said('tool:crm', { epoch: at(0), instance, kids: [], regression })
    await one.tick()
    expect([...told.get('one')!.words.values()].filter((word) => word.includes('regression'))).toHaveLength(1)
    // A tool that says new names without end fills no store of others.
    for (let n = 0; n < 16_390; n++) one.said(`p${n}`, 0)
    await one.tick()
    expect(told.get('one')!.words.size).toBe(16_384)
    expect(told.get('one')!.words.has('tool:crm p5')).toBe(false)
    one.said('p5', 0)
    await one.tick()
    expect(told.get('one')!.words.has('tool:crm p5')).toBe(true)
  })
})
