/** Policies that speak of what an agent is made of, and of how old its evidence is. */
import { describe, expect, it } from 'vitest'
import type { Manifest } from '../../src/attest/release-manifest.ts'
import { promptDigest } from '../../src/attest/release-manifest.ts'
import { type Cedar, createCedar } from '../../src/policy/cedar.ts'
import type { DecisionFacts } from '../../src/policy/decision.ts'
import { idOf, manifestOf, SIGNED_AT } from '../releases.ts'
import { agent, decideBy, everything, facts, MONDAY_TEN, PERMIT_ALL, problemsOf, setOf, tickets } from './policies.ts'

const first = manifestOf({ skills: [{ name: 'refunds', version: '1.2', digest: manifestOf().image! }] })
const running = (manifest: Manifest, more: Partial<DecisionFacts['attestation']> = {}) => {
  const id = idOf(manifest)
  const release = { id, manifest, signer: 'ci-1', signedAt: SIGNED_AT, file: 'f' }
  return facts({
    agent: { ...agent(), release: { required: false, registered: new Map([[id, release]]) } },
    attestation: { kind: 'jwt_svid', tier: 'measured', release: id, issuedAt: MONDAY_TEN - 30, ...more },
  })
}
const allowed = (policies: string, about: DecisionFacts): boolean =>
  decideBy(policies)({
    facts: about,
    tools: [tickets],
    operands: { ceiling: everything },
    requested: [{ tool: 'tickets', operation: 'read' }],
  }).allowed
const permit = (condition: string) => `@id("p") permit (principal, action, resource) when { ${condition} };`
const forbid = (condition: string) =>
  `${PERMIT_ALL} @id("f") forbid (principal, action, resource) when { ${condition} };`

describe('a policy about releases', () => {
  it('reads each part', () => {
    for (const condition of [
      `context.release.id == "${idOf(first)}"`,
      'context.release.version == "1.0.0"',
      `context.release has image && context.release.image == "${first.image}"`,
      'context.release has model && context.release.model like "anthropic/*"',
      `context.release.prompt == "${promptDigest(first)}"`,
      'context.release.tools.contains("read_ticket")',
      'context.release.skills.contains("refunds@1.2")',
      'context.release.components.contains("pkg:pypi/litellm@1.82.8")',
      'context.release.components.containsAny(["pkg:npm/hono@4.11.4", "pkg:npm/hono@4.11.5"])',
    ]) {
      const whole = permit(`context has release && ${condition}`)
      expect([condition, allowed(whole, running(first))]).toEqual([condition, true])
      expect([condition, allowed(whole, facts())]).toEqual([condition, false])
    }
  })

  it('forbids a component that turned bad, and no release without it', () => {
    const policies = forbid('context has release && context.release.components.contains("pkg:pypi/litellm@1.82.8")')
    expect(allowed(policies, running(first))).toBe(false)
    expect(allowed(policies, running(manifestOf({ components: ['pkg:pypi/litellm@1.82.9'] })))).toBe(true)
  })

  it('is refused at load where it reads a part that does not exist, or reads without looking whether it is there', () => {
    expect(problemsOf(permit('context has release && context.release.modell == "x"'))).toHaveLength(1)
    expect(problemsOf(permit('context.release.model == "x"'))).toHaveLength(1)
    expect(problemsOf(permit('context has release && context.release.components == "x"'))).toHaveLength(1)
  })

  it('is the only one that pays for the parts', () => {
    const cedar = createCedar()
    const seen: unknown[] = []
    const watching: Cedar = {
      ...cedar,
      evaluate: (slice, request) => {
        seen.push(request.context['release'])
        return cedar.evaluate(slice, request)
      },
    }
    const question = { agent: 'research', tool: 'tickets', operation: 'read', effect: 'read', now: MONDAY_TEN }
    const context = {}
    const release = running(first).agent.release!.registered.get(idOf(first))!
    setOf(PERMIT_ALL, watching).evaluate({ ...question, context, release })
    setOf(permit('context has release'), watching).evaluate({ ...question, context, release })
    expect(seen.map((each) => each !== undefined)).toEqual([false, true])
  })
})

describe('a policy about the age of evidence', () => {
  const policies = permit('context has evidence_age_seconds && context.evidence_age_seconds <= 30')
  it('F6 sees it in whole seconds at the time of the decision, and nothing where the evidence does not say', () => {
    expect(allowed(policies, running(first))).toBe(true)
    expect(allowed(policies, { ...running(first), now: MONDAY_TEN + 1 })).toBe(false)
    expect(allowed(policies, running(first, { issuedAt: MONDAY_TEN + 20 }))).toBe(true)
    expect(allowed(policies, facts())).toBe(false)
  })

  it('F6 sees the tier that is left', () => {
    const measured = permit('context.tier == "measured"')
    expect(allowed(measured, running(first))).toBe(true)
    expect(allowed(measured, running(first, { tier: 'platform' }))).toBe(false)
  })
})
