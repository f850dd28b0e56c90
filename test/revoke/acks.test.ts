import { describe, expect, test } from 'vitest'
import { createAcks, verifiersBehind } from '../../src/revoke/acks.ts'

const at = (sequence: number, generation = 1) => ({ generation, sequence })

describe('acknowledgements', () => {
  test('a verifier of several processes has applied what the last of them has', () => {
    const acks = createAcks()
    acks.note('tool:tickets', { epoch: at(7), instance: 'one' }, 100)
    acks.note('tool:tickets', { epoch: at(5), instance: 'two' }, 101)
    expect(acks.all()).toEqual([{ verifier: 'tool:tickets', epoch: at(5), at: 101, instances: 2 }])
    expect(acks.reached(at(6))).toEqual([])
    acks.note('tool:tickets', { epoch: at(7), instance: 'two' }, 102)
    expect(acks.reached(at(6))).toEqual([{ verifier: 'tool:tickets', epoch: '1.7', at: 102 }])
    expect(verifiersBehind(at(9), acks.all())).toEqual([{ verifier: 'tool:tickets', entries: 2 }])
  })

  test('no process goes back, and one that is gone holds nothing up once another has said more for long', () => {
    const acks = createAcks()
    acks.note('tool:tickets', { epoch: at(5), instance: 'gone' }, 100)
    acks.note('tool:tickets', { epoch: at(7), instance: 'here' }, 200)
    acks.note('tool:tickets', { epoch: at(6), instance: 'here' }, 201)
    expect(acks.all()[0]).toMatchObject({ epoch: at(5), instances: 2 })
    acks.note('tool:tickets', { epoch: at(7), instance: 'here' }, 281)
    expect(acks.all()[0]).toMatchObject({ epoch: at(7), instances: 1 })
  })

  test('a process that says it ends holds nothing up', () => {
    const acks = createAcks()
    acks.note('tool:tickets', { epoch: at(5), instance: 'one' }, 100)
    acks.note('tool:tickets', { epoch: at(7), instance: 'two' }, 100)
    acks.leave('tool:tickets', 'one')
    expect(acks.reached(at(6))).toHaveLength(1)
    acks.leave('tool:tickets', 'two')
    acks.leave('tool:crm', 'never came')
    expect(acks.all()).toEqual([])
  })

  test('Q3 a contradiction that one process has seen stays with its verifier', () => {
    const acks = createAcks()
    const regression = { before: 'a', after: 'b' }
    acks.note('tool:crm', { epoch: at(1), instance: 'one', regression }, 100)
    acks.note('tool:crm', { epoch: at(2), instance: 'one' }, 101)
    acks.note('tool:crm', { epoch: at(2), instance: 'two' }, 102)
    expect(acks.all()[0]).toMatchObject({ regression, instances: 2 })
    // One is kept, and goes with the process that said it: the others say theirs again.
    const other = { before: 'c', after: 'd' }
    acks.note('tool:crm', { epoch: at(2), instance: 'two', regression: other }, 103)
    expect(acks.all()[0]).toMatchObject({ regression })
    acks.leave('tool:crm', 'one')
    expect(acks.all()[0]).not.toHaveProperty('regression')
    acks.note('tool:crm', { epoch: at(2), instance: 'two', regression: other }, 104)
    expect(acks.all()[0]).toMatchObject({ regression: other })
    acks.note('tool:crm', { epoch: at(2), instance: 'three' }, 400)
    expect(acks.all()[0]).not.toHaveProperty('regression')
  })

  test('a process that began and has said nothing holds its verifier up until it speaks, leaves or is long gone', () => {
    const acks = createAcks()
    const applied = () => [acks.applied('tool:crm', at(7)) !== undefined, acks.reached(at(7)).length === 1]
    acks.note('tool:crm', { epoch: at(7), instance: 'one' }, 100)
    acks.begun('tool:crm', 'one', 101) // it lost its key, and is known
    expect(applied()).toEqual([true, true])
    acks.begun('tool:crm', 'two', 101)
    acks.note('tool:crm', { epoch: at(7), instance: 'one' }, 110)
    expect(applied()).toEqual([false, false])
    acks.note('tool:crm', { epoch: at(7), instance: 'two' }, 110)
    expect(applied()).toEqual([true, true])
    acks.begun('tool:crm', 'three', 111)
    acks.leave('tool:crm', 'three')
    expect(applied()).toEqual([true, true])
    acks.begun('tool:crm', 'gone', 111)
    acks.note('tool:crm', { epoch: at(7), instance: 'one' }, 291)
    expect(applied()).toEqual([false, false])
    acks.note('tool:crm', { epoch: at(7), instance: 'one' }, 292)
    expect(applied()).toEqual([true, true])
  })
})
