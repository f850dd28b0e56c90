/** Medians of interleaved rounds with their spread: one slow moment of the machine touches one round of everybody. */

export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, low: sorted[0]!, high: sorted.at(-1)! }
}

/** Round by round, so that both sides of a quotient had the same moments of the machine. */
export const ratio = (values: readonly number[], to: readonly number[]): Spread =>
  spreadOf(values.map((value, round) => value / to[round]!))

/** Everybody's turn in each round, in an order that turns with the rounds. */
export async function interleave<Name extends string>(
  rounds: number,
  contenders: Readonly<Record<Name, (round: number) => Promise<number> | number>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[]
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  for (let round = 0; round < rounds; round++)
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + round) % names.length]!
      values[name].push(await contenders[name](round))
    }
  return values
}

/**
 * CPU microseconds of this process, all its threads, for each of `count` operations. What was made before, by others or
 * to be worked on, is cleared away before the clock starts, where `--expose-gc` lets it; what the work makes is not.
 */
export async function cpuOf(count: number, work: () => Promise<unknown> | unknown): Promise<number> {
  globalThis.gc?.()
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}
