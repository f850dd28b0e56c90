import { describe, expect, it } from 'vitest'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop, HopFacts } from '@errand/verifier/shapes.ts'
import { createLiveTokens } from '../../src/revoke/live-tokens.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'

const NOW = 1_700_000_000
const epoch = (sequence: number) => parseEpoch(`1.${sequence}`)!

interface Like {
  readonly task?: string
  readonly root?: string
  readonly agent?: string
  readonly sub?: string
  readonly aud?: string
  readonly kid?: string
  readonly rev?: number
  readonly life?: number
  /** The token that the task was handed over from. */
  readonly parent?: CheckedHop
}

const factsOf = ({
  task = 't1',
  root = task,
  agent = 'research',
  sub = 'dev|alice',
  aud = 'tickets',
  kid = 'k1',
}: Like) =>
  ({
    task,
    root,
    client_id: agent,
    agent: `spiffe://company.example/agents/${agent}`,
    domain: 'company.example',
    sub,
    aud,
    kid,
    policy: 'p1',
  }) satisfies HopFacts

function counting(maxGroups?: number) {
  const clock = { now: NOW }
  const live = createLiveTokens({ now: () => clock.now, ...(maxGroups === undefined ? {} : { maxGroups }) })
  const issue = (like: Like = {}) => {
    const facts = factsOf(like)
    const rev = epoch(like.rev ?? 1)
    const above = like.parent ? [like.parent] : []
    live.note(
      {
        kid: facts.kid,
        audience: facts.aud,
        expiresAt: clock.now + (like.life ?? 300),
        clientId: facts.client_id,
        policyDigest: facts.policy,
        task: { id: facts.task, root: facts.root, depth: above.length + 1 },
        attestation: {},
        hops: above.map((hop) => ({ jti: hop.facts.jti! })),
      },
      rev,
      () => [{ rev, facts: { ...facts, jti: 'own' } }, ...above],
    )
  }
  const kill = (match: HopFacts, sequence: number, more: Partial<Revocation> = {}) =>
    live.killed({
      id: `rev_${sequence}`,
      match,
      mode: 'cut',
      reason: 'test',
      by: 'admin',
      at: clock.now,
      expiresAt: clock.now + 420,
      epoch: epoch(sequence),
      ...more,
    })
  const count = async (match: HopFacts) => {
    const { count, exact } = await live.matching(match, { withTasks: true })
    return [count, exact]
  }
  return { clock, live, issue, kill, count }
}

describe('counts of live tokens', () => {
  it('counts by each dimension, by conjunctions, and everything, to the second', async () => {
    const { clock, live, issue, count } = counting()
    for (let n = 0; n < 5; n++) issue()
    issue({ aud: 'crm' })
    issue({ task: 't2', agent: 'payments', sub: 'dev|bob' })
    clock.now += 10
    issue({ life: 60 })
    expect(await count({})).toEqual([8, true])
    expect(await count({ client_id: 'research' })).toEqual([7, true])
    expect(await count({ client_id: 'research', aud: 'crm' })).toEqual([1, true])
    expect(await count({ client_id: 'payments', sub: 'dev|alice' })).toEqual([0, true])
    expect(await count({ task: 't2' })).toEqual([1, true])
    expect(await count({ domain: 'company.example', kid: 'k1', policy: 'p1' })).toEqual([8, true])
    expect(await count({ release: 'none' })).toEqual([0, true])
    const found = await live.matching({ sub: 'dev|alice' }, { withTasks: true })
    expect(found.latestExpiry).toBe(NOW + 300)
    expect([...found.audiences].sort()).toEqual(['crm', 'tickets'])
    clock.now = NOW + 69
    expect(await count({ task: 't1', aud: 'tickets' })).toEqual([6, true])
    clock.now = NOW + 70
    expect(await count({ task: 't1', aud: 'tickets' })).toEqual([5, true])
    clock.now = NOW + 300
    live.sweep()
    expect(await count({})).toEqual([0, true])
  })

  it('counts a child token by every hop of its chain, once', async () => {
    const { issue, count } = counting()
    const parent: CheckedHop = { rev: epoch(1), facts: { ...factsOf({}), jti: 'parent' } }
    issue()
    issue({ task: 't2', root: 't1', agent: 'payments', aud: 'crm', parent })
    expect(await count({ task: 't1' })).toEqual([2, true])
    expect(await count({ root: 't1' })).toEqual([2, true])
    expect(await count({ client_id: 'research' })).toEqual([2, true])
    expect(await count({ aud: 'tickets' })).toEqual([2, true])
    // Within one hop: research never had a token for crm.
    expect(await count({ client_id: 'research', aud: 'crm' })).toEqual([0, true])
    // Its parent's id is known; of its own, no more than that it may be one of them.
    expect(await count({ jti: 'parent' })).toEqual([2, false])
  })

  it('counts out what a revocation killed, and counts what was checked after it', async () => {
    const { issue, kill, count } = counting()
    issue()
    issue({ task: 't2' })
    issue({ task: 't3', agent: 'payments' })
    kill({ task: 't1' }, 2)
    expect(await count({ client_id: 'research' })).toEqual([1, true])
    kill({ client_id: 'research' }, 3)
    issue({ task: 't2', rev: 3 })
    expect(await count({ client_id: 'research' })).toEqual([1, true])
    expect(await count({})).toEqual([2, true])
    // Under way when it was revoked: checked before, noted after.
    issue({ task: 't2', rev: 2 })
    issue({ task: 't1', rev: 1 })
    expect(await count({})).toEqual([2, true])
  })

  it('says that it is an upper bound where one group holds what was checked before a revocation and after it', async () => {
    const { issue, kill, count } = counting()
    issue()
    issue({ rev: 5 })
    kill({ client_id: 'research' }, 4)
    expect(await count({ client_id: 'research' })).toEqual([2, false])
    expect(await count({ client_id: 'payments' })).toEqual([0, true])
  })

  it('says that it is an upper bound beyond its memory, and while the log is read', async () => {
    const { live, clock, issue, count } = counting(2)
    issue({ task: 't1' })
    issue({ task: 't2' })
    issue({ task: 't3' })
    expect(await count({ task: 't1' })).toEqual([2, false])
    expect(await count({})).toEqual([3, false])
    clock.now += 300
    expect(await count({})).toEqual([0, true])
    live.uncounted(10, clock.now + 300)
    expect(await count({ task: 't1' })).toEqual([10, false])
    live.uncounted(0, clock.now + 300)
    expect(await count({ task: 't1' })).toEqual([0, true])
  })

  it('takes a key that nobody wrote down for any key', async () => {
    const { issue, count } = counting()
    issue({ kid: '' })
    expect(await count({ kid: 'k9' })).toEqual([1, false])
    expect(await count({ client_id: 'research' })).toEqual([1, true])
  })

  it('forgets a revocation when nothing that it killed can live, also behind one that is kept for a month', async () => {
    const { clock, live, issue, kill, count } = counting()
    kill({ kid: 'stolen' }, 5, { absolute: true, expiresAt: clock.now + 30 * 86_400 })
    kill({ jti: 'one' }, 6, { expiresAt: clock.now + 30 * 86_400 })
    kill({ aud: 'crm' }, 7)
    clock.now += 420
    live.sweep()
    issue({ aud: 'crm', rev: 6 })
    expect(await count({ aud: 'crm' })).toEqual([1, true])
  })

  it('holds what ended a task against what comes late, also after a window of issue that ended before it', async () => {
    const { issue, kill, count } = counting()
    kill({ task: 't1' }, 10)
    kill({ task: 't1' }, 11, { before: epoch(5) })
    issue({ rev: 7 })
    expect(await count({ task: 't1' })).toEqual([0, true])
    issue({ rev: 10 })
    expect(await count({ task: 't1' })).toEqual([1, true])
  })

  it('forgets thousands of kinds of token below one task in a moment', async () => {
    const { clock, live, issue, count } = counting()
    const parent: CheckedHop = { rev: epoch(1), facts: { ...factsOf({ task: 'root' }), jti: 'above' } }
    for (let n = 0; n < 20_000; n++) issue({ task: `child-${n}`, root: 'root', parent })
    expect(await count({ task: 'root' })).toEqual([20_000, true])
    clock.now += 301
    const began = performance.now()
    for (let n = 0; n < 6; n++) live.sweep()
    expect(await count({})).toEqual([0, true])
    expect(performance.now() - began).toBeLessThan(1_000)
  })
})
