/**
 * Decisions are made once for the same question: a pure answer stays what it is while the facts that policies read are
 * the same. Time is one of these only where a policy of the slice reads it, and then as that policy reads it.
 */
import { createRemembered, keyFor } from '../attest/remembered.ts'
import type { Decide, Decision, DecisionQuestion } from './decision.ts'

/** A decision of one verdict weighs this much; each further verdict, some hundred bytes, weighs one. */
const LEAST_WEIGHT = 8
const MAX_WEIGHT = 4_096 * LEAST_WEIGHT
const MAX_TEXTS = 4_096

/** `timesOf` says what policies read of time in this question; whatever else may count is in the question itself. */
export function rememberDecisions(decide: Decide, timesOf: (question: DecisionQuestion) => string): Decide {
  const decisions = createRemembered<Decision>(MAX_WEIGHT, ({ verdicts }) => LEAST_WEIGHT + verdicts.length)
  const numbers = createRemembered<number>(MAX_TEXTS)
  const numbered = new WeakMap<object, number>()
  let last = 0

  /** The same number for the same object: registrations and tools are made anew when the configuration is. */
  const itself = (object: object): number => {
    const known = numbered.get(object)
    if (known !== undefined) return known
    last += 1
    numbered.set(object, last)
    return last
  }
  /** The same number for what says the same, and never for anything else. */
  const saying = (object: object | undefined): number => {
    if (object === undefined) return 0
    const known = numbered.get(object)
    if (known !== undefined) return known
    const text = keyFor(JSON.stringify(object))
    let number = numbers.get(text)
    if (number === undefined) {
      last += 1
      number = last
      numbers.put(text, number)
    }
    numbered.set(object, number)
    return number
  }

  const keyOf = (question: DecisionQuestion): string => {
    const { facts, tools, requested, operands } = question
    const { agent, attestation, subject, task, senderConstraint } = facts
    let key = `${itself(agent)} ${saying(requested)} ${saying(subject)} ${senderConstraint}`
    for (const tool of tools) key += ` ${itself(tool)}`
    key += `|${saying(operands.subject)} ${saying(operands.ceiling)} ${saying(operands.task)} ${saying(operands.parent)}`
    key += `|${task.depth} ${task.environment} ${task.dataClassification}`
    return `${key}|${attestation.kind} ${attestation.tier} ${JSON.stringify(attestation.release ?? null)}|${timesOf(question)}`
  }

  return (question) => {
    // The whole table is asked for by people, and seldom.
    if (question.whole) return decide(question)
    const key = keyOf(question)
    const known = decisions.get(key)
    if (known) return known
    const decision = decide(question)
    decisions.put(key, decision)
    return decision
  }
}
