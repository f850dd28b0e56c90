import { describe, expect, it } from 'vitest'
import { createHeldKeys } from '../../src/rotate/held-keys.ts'

const VERIFIERS = ['tool:crm', 'tool:tickets']
const held = () => createHeldKeys({ isPrepared: (kid) => kid === 'new' || kid === 'newer' })

describe('keys that verifiers hold', () => {
  it('O3 are held by all when every process of every verifier has said so, and was heard of lately', () => {
    const keys = held()
    const all = (now = 100) => keys.byAll(VERIFIERS, 'new', now)
    keys.note('tool:crm', 'a', ['old', 'new'], 100)
    expect(all()).toBe(false)
    keys.note('tool:tickets', 'a', ['old'], 100)
    expect(all()).toBe(false)
    keys.note('tool:tickets', 'a', ['old', 'new'], 101)
    expect(all()).toBe(true)
    keys.note('tool:tickets', 'b', [], 102)
    expect(all()).toBe(false)
    keys.leave('tool:tickets', 'b')
    expect(all()).toBe(true)
    expect([all(280), all(281)]).toEqual([true, false])
    expect(keys.byAll(VERIFIERS, 'newer', 100)).toBe(false)
    expect(keys.byAll([...VERIFIERS, 'tool:new'], 'new', 100)).toBe(false)
  })

  it('with no verifier that could say anything, are held by nobody', () => {
    expect(held().byAll([], 'new', 0)).toBe(false)
  })

  it('a process that fell silent holds nothing up where another of its tool speaks, and only what is prepared is kept', () => {
    const keys = held()
    keys.note('tool:crm', 'gone', [], 0)
    keys.note('tool:crm', 'here', ['new', 'x'], 200)
    expect(keys.byAll(['tool:crm'], 'new', 200)).toBe(true)
    expect(keys.byAll(['tool:crm'], 'x', 200)).toBe(false)
  })
})
