/** What a query holds, read strictly: a number that is none is refused, and never taken for another one. */
import { type Result, ok, refuse } from '../oauth/refusal.ts'
import type { Call } from './route.ts'

const NUMBER = /^(?:0|[1-9][0-9]{0,14})$/

/** Whole numbers under these names, where they are there. */
export function numbersIn<N extends string>(
  { c }: Pick<Call, 'c'>,
  ...names: readonly N[]
): Result<Partial<Record<N, number>>> {
  const numbers: Partial<Record<N, number>> = {}
  for (const name of names) {
    const text = c.req.query(name)
    if (text === undefined) continue
    if (!NUMBER.test(text)) return badParam(`${name} is a whole number`)
    numbers[name] = Number(text)
  }
  return ok(numbers)
}

/** `detail` tells a caller who has proven who it is what would be taken. */
export const badParam = (detail: string): ReturnType<typeof refuse> =>
  refuse('bad_param', 'request', { proven: true, detail })
