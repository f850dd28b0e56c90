import { describe, expect, it } from 'vitest'
import { createAudiences } from '../../src/revoke/audiences.ts'
import type { Bounded } from '../../src/revoke/containment.ts'

const tool = (name: string, by: Bounded['by'], boundSeconds: number): Bounded => ({
  tool: name,
  audience: `https://${name}.example.com/`,
  by,
  boundSeconds,
})
const CRM = tool('crm', 'feed', 5)
const TICKETS = tool('tickets', 'feed', 30)
/** The longest life of a token, and the leeway of clocks. */
const LONGEST_MS = 330_000

function opened(recorded?: Parameters<typeof createAudiences>[0]['recorded'], current: readonly Bounded[] = [CRM]) {
  const world = { monotonic: 1_000, current }
  const audiences = createAudiences({ monotonic: () => world.monotonic, current: () => world.current, recorded })
  return { world, audiences }
}

describe('audiences that a living token may be for', () => {
  it('one that was removed stays among them while a token of its may live, and no longer', () => {
    const { world, audiences } = opened(undefined, [CRM])
    audiences.left([CRM, TICKETS])
    expect(audiences.all()).toEqual([CRM, TICKETS])
    world.monotonic += LONGEST_MS - 1
    expect(audiences.all()).toEqual([CRM, TICKETS])
    world.monotonic += 1
    expect(audiences.all()).toEqual([CRM])
  })

  it.each([
    ['a shorter bound', tool('crm', 'feed', 30), 'feed', 30],
    ['a longer bound', tool('crm', 'feed', 2), 'feed', 5],
    ['the feed, where it did not follow it', tool('crm', 'token_life', 90), 'token_life', 90],
  ] as const)('one that was given %s is bound by whatever takes longer', (_, before, by, boundSeconds) => {
    const { audiences } = opened()
    audiences.left([before])
    expect(audiences.all()).toEqual([{ ...CRM, by, boundSeconds }])
  })

  it('a restart with another configuration forgets none, and what was over before it does not come back', () => {
    const { world, audiences } = opened(undefined, [CRM])
    audiences.left([TICKETS])
    const details = audiences.toRecord()
    const again = opened({ details, age: 100_000 }, [])
    expect(again.audiences.all()).toEqual([CRM, TICKETS])
    again.world.monotonic += LONGEST_MS - 100_000
    expect(again.audiences.all()).toEqual([CRM])
    expect(opened({ details, age: LONGEST_MS }, []).audiences.all()).toEqual([CRM])
    world.monotonic += LONGEST_MS
    expect(Object.keys(audiences.toRecord())).toEqual(['audiences'])
    expect(opened({ details: { digest: 'of an older version' }, age: 0 }).audiences.all()).toEqual([CRM])
  })
})
