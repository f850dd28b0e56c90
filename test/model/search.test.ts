/** The model of revocation: nothing breaks it within its scopes, and whatever rule is left out, something does. */
import { describe, expect, it } from 'vitest'
import { LEFT_OUT, WEAKER } from '../../model/designs.ts'
import { verdict } from '../../model/following.ts'
import { INVARIANTS, type Invariant } from '../../model/invariants.ts'
import { SCOPES, WIDE } from '../../model/scopes.ts'
import { search } from '../../model/search.ts'
import { DESIGN } from '../../model/state.ts'

/** Other tests want the machine as well. */
const TIME_LIMIT_MS = 300_000

const shown = (steps: readonly string[]): string => steps.map((step, index) => `${index + 1} ${step}`).join('\n')

describe('the model of revocation', () => {
  it.each(Object.values(SCOPES).filter(({ name }) => !WIDE.includes(name)))(
    'every state within the scope $name keeps R1 to R8',
    (scope) => {
      const { states, depth, broken } = search(scope, DESIGN)
      console.log(`model: ${scope.name}: ${states} states, ${depth} steps deep`)
      expect(broken.map(({ invariant, because, steps }) => `${invariant}: ${because}\n${shown(steps)}`)).toEqual([])
      expect(states).toBeGreaterThan(1000)
    },
    TIME_LIMIT_MS,
  )

  it.each(WEAKER)(
    'refutes a design with $name',
    ({ name, lacks, scope, breaks }) => {
      const { broken } = search(SCOPES[scope], { ...DESIGN, ...lacks }, { until: breaks })
      for (const { invariant, because, steps } of broken)
        console.log(`model: ${name} breaks ${invariant}: ${because}\n${shown(steps)}`)
      expect(broken.map(({ invariant }) => invariant)).toEqual(expect.arrayContaining([...breaks]))
    },
    TIME_LIMIT_MS,
  )

  it.each(LEFT_OUT)(
    'needs every rule: $name',
    ({ lacks, scope, breaks }) => {
      const { broken } = search(SCOPES[scope], { ...DESIGN, ...lacks }, { until: breaks })
      expect(broken.map(({ invariant }) => invariant)).toEqual(expect.arrayContaining([...breaks]))
    },
    TIME_LIMIT_MS,
  )

  it('leaves out each rule once, and has no invariant that nothing can break', () => {
    const all = [...WEAKER, ...LEFT_OUT]
    expect(all.map(({ lacks }) => Object.keys(lacks)[0]).sort()).toEqual(Object.keys(DESIGN).sort())
    expect([...new Set(all.flatMap(({ breaks }) => breaks))].sort()).toEqual(Object.keys(INVARIANTS).sort())
  })

  it(
    'says each verdict somewhere, so that it keeps its promises not by refusing everything',
    () => {
      const never =
        (wanted: string): Invariant =>
        (state, within, design) =>
          state.verifiers.some((verifier) =>
            state.tokens.some((token) => verdict(verifier, token, state.now, within, design) === wanted),
          )
            ? 'it is said'
            : undefined
      const wanted = ['live', 'dead', 'behind', 'stale', 'expired']
      const invariants = Object.fromEntries(wanted.map((each) => [each, never(each)]))
      const { broken } = search(SCOPES.expiry, DESIGN, { invariants, until: wanted })
      expect(broken.map(({ invariant }) => invariant).sort()).toEqual([...wanted].sort())
    },
    TIME_LIMIT_MS,
  )
})
