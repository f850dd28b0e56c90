/** Looks at every state that can be reached within a scope, nearest first, so that what it finds is shortest. */
import { INVARIANTS, type Invariant } from './invariants.ts'
import type { Design, Scope, State } from './state.ts'
import { initial, next } from './system.ts'

export interface Broken {
  readonly invariant: string
  readonly because: string
  readonly steps: readonly string[]
}

export interface Found {
  readonly states: number
  readonly depth: number
  /** The shortest way to break each invariant that can be broken. */
  readonly broken: readonly Broken[]
}

export interface Limits {
  /** What is asked of each state; R1–R8 and the rest where it is absent. */
  readonly invariants?: Readonly<Record<string, Invariant>>
  /** Stops when these are broken; all of them where it is absent. */
  readonly until?: readonly string[]
  readonly maxStates?: number
}

/** A state as a short text: its parts are shared by many states, and each is known by a number. */
function createKeys(): (state: State) => string {
  const numbers = new WeakMap<object, string>()
  const texts = new Map<string, string>()
  const numberOf = (part: object): string => {
    const known = numbers.get(part)
    if (known !== undefined) return known
    const text = JSON.stringify(part)
    let number = texts.get(text)
    if (number === undefined) {
      number = String.fromCharCode(texts.size & 0x7fff, texts.size >> 15)
      texts.set(text, number)
    }
    numbers.set(part, number)
    return number
  }
  return (state) => {
    let key = ''
    for (const part of Object.values(state))
      if (typeof part !== 'object') key += String.fromCharCode(Number(part))
      else if (!Array.isArray(part)) key += numberOf(part)
      else if (part.length > 0 && part === state.verifiers) for (const each of part) key += numberOf(each)
      else key += numberOf(part)
    return key
  }
}

export function search(scope: Scope, design: Design, limits: Limits = {}): Found {
  const { invariants = INVARIANTS } = limits
  const start = initial(scope)
  const keyOf = createKeys()
  const seen = new Set<string>([keyOf(start)])
  /** How each state was reached: the state before, and what happened. */
  const from: number[] = [-1]
  const labels: string[] = ['']
  const broken = new Map<string, Broken>()
  let level: { readonly at: number; readonly state: State }[] = [{ at: 0, state: start }]
  let depth = 0

  const wayTo = (index: number): readonly string[] => {
    const steps: string[] = []
    for (let at = index; at > 0; at = from[at]!) steps.push(labels[at]!)
    return steps.reverse()
  }
  const judge = (state: State, at: number): void => {
    for (const invariant of Object.keys(invariants)) {
      if (broken.has(invariant)) continue
      const because = invariants[invariant]!(state, scope, design)
      if (because !== undefined) broken.set(invariant, { invariant, because, steps: wayTo(at) })
    }
  }
  const enough = (): boolean => limits.until?.every((each) => broken.has(each)) ?? false

  while (level.length > 0 && !enough()) {
    const after: typeof level = []
    for (const { at, state } of level) {
      next(state, scope, design, (label, reached) => {
        const key = keyOf(reached)
        if (seen.has(key)) return
        seen.add(key)
        const index = from.push(at) - 1
        labels.push(label)
        judge(reached, index)
        after.push({ at: index, state: reached })
      })
      if (seen.size > (limits.maxStates ?? Number.POSITIVE_INFINITY))
        throw new Error(`${scope.name}: more than ${limits.maxStates} states`)
    }
    if (after.length > 0) depth += 1
    level = after
  }
  return { states: seen.size, depth, broken: [...broken.values()] }
}
