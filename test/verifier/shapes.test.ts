import { describe, expect, test } from 'vitest'
import { type AccessTokenClaims, type Actor, MAX_ACTORS } from '@errand/verifier/claims.ts'
import { actorFacts, hopsOf } from '@errand/verifier/shapes.ts'
import { sampleClaims } from './sample-token.ts'

const RESEARCH = 'spiffe://company.example/agents/research'
const TRIAGE = 'spiffe://company.example/agents/triage'
const PLANNER = 'spiffe://partner.example/planner'
const INTAKE = 'spiffe://other.example/intake'

/** The newest first. */
const chain = ([first, ...rest]: readonly string[]): Actor =>
  rest.length === 0 ? { sub: first! } : { sub: first!, act: chain(rest) }
const inherited = { sub: 'corp|alice', root: sampleClaims.task.root }
const rev = { generation: 0, sequence: 7 }
const parent = { jti: 'parent', task: 'task_AAAAAAAAAAAAAAAAAAAAAA', client_id: 'triage', rev: '0.5' }
const agentsOf = (claims: AccessTokenClaims) => hopsOf(claims, 'k1')?.map(({ facts }) => facts.agent)

describe('the hops of a token', () => {
  test('L3 actors that a user issuer vouched for are hops too, checked when the token was', () => {
    const hops = hopsOf({ ...sampleClaims, act: chain([RESEARCH, PLANNER, INTAKE]) }, 'k1')!
    expect(hops[0]).toMatchObject({ rev, facts: { agent: RESEARCH, domain: 'company.example', jti: sampleClaims.jti } })
    expect(hops.slice(1)).toEqual([
      { rev, facts: { ...inherited, agent: PLANNER, domain: 'partner.example' } },
      { rev, facts: { ...inherited, agent: INTAKE, domain: 'other.example' } },
    ])
  })

  test('L3 behind the hops of ancestors, each of which keeps its own epoch', () => {
    const hops = hopsOf({ ...sampleClaims, act: chain([RESEARCH, TRIAGE, PLANNER]), hops: [parent] }, 'k1')!
    expect(hops.map(({ facts }) => facts.agent)).toEqual([RESEARCH, TRIAGE, PLANNER])
    expect(hops[1]).toMatchObject({
      rev: { generation: 0, sequence: 5 },
      facts: { jti: 'parent', client_id: 'triage' },
    })
    expect(hops[2]).toEqual({ rev, facts: { ...inherited, agent: PLANNER, domain: 'partner.example' } })
  })

  test('every actor of a chain is in one of them, and nobody twice', () => {
    const actors = Array.from({ length: MAX_ACTORS }, (_, index) => `spiffe://company.example/agents/a${index}`)
    for (let length = 1; length <= MAX_ACTORS; length++)
      for (let ancestors = 0; ancestors < length; ancestors++) {
        const hops = Array.from({ length: ancestors }, (_, index) => ({ ...parent, jti: `p${index}` }))
        const claims = { ...sampleClaims, act: chain(actors.slice(0, length)), hops }
        expect(agentsOf(claims)).toEqual(actors.slice(0, length))
      }
  })

  test('the subject of an autonomous chain is its first actor, once', () => {
    const { act: _, ...root } = { ...sampleClaims, sub: TRIAGE }
    expect(agentsOf(root)).toEqual([TRIAGE])
    expect(agentsOf({ ...root, act: chain([RESEARCH]), hops: [parent] })).toEqual([RESEARCH, TRIAGE])
    expect(agentsOf({ ...root, act: chain([RESEARCH]), hops: [parent, parent] })).toBeUndefined()
  })

  test('who is named otherwise than by a SPIFFE id has no trust domain', () => {
    expect(actorFacts(PLANNER)).toEqual({ agent: PLANNER, domain: 'partner.example' })
    for (const agent of ['corp|alice', 'https://partner.example/planner', 'spiffe:/x', ''])
      expect(actorFacts(agent)).toEqual({ agent })
  })
})
