/** Contenders under load, in turns: everybody has a turn in each round. */
import type { Bench } from './bench.ts'
import { type Load, type Result, run } from './load.ts'
import { interleave } from './spread.ts'

const CONNECTIONS = 64
/** Requests before the first round: the compiler goes on improving for thousands. */
const WARM_UP = 10_000

export interface Contender {
  readonly pid: number
  prepare(count: number): Load | Promise<Load>
}

export type Rounds<Name extends string> = Record<Name, readonly Result[]>

/** Each contender's turn in each round; refuses a round in which anything was refused. */
export async function race<Name extends string>(
  { quick, say }: Pick<Bench, 'quick' | 'say'>,
  contenders: Readonly<Record<Name, Contender>>,
  { rounds = quick ? 3 : 7, requests = quick ? 1500 : 6000 } = {},
): Promise<Rounds<Name>> {
  const names = Object.keys(contenders) as Name[]
  const results = Object.fromEntries(names.map((name) => [name, [] as Result[]])) as Record<Name, Result[]>
  const turn = (name: Name, counts: boolean) => async (round: number) => {
    const contender = contenders[name]
    const load = await contender.prepare(counts ? requests : quick ? WARM_UP / 4 : WARM_UP)
    const result = await run(load, { connections: CONNECTIONS, pid: contender.pid })
    if (result.failed > 0)
      throw new Error(`${name}: ${result.failed} were refused, the first with ${result.firstFailure}`)
    if (counts) {
      results[name].push(result)
      say(
        `  round ${round + 1} ${name}: ${Math.round(result.perSecond)}/s, ${Math.round(result.cpuMicros ?? 0)} µs of CPU`,
      )
    }
    return result.perSecond
  }
  const turns = (counts: boolean) => Object.fromEntries(names.map((name) => [name, turn(name, counts)]))
  await interleave(1, turns(false)) // for the compilers
  await interleave(rounds, turns(true))
  return results
}

export const perSecond = (results: readonly Result[]): number[] => results.map((result) => result.perSecond)
export const cpu = (results: readonly Result[]): number[] => results.map(({ cpuMicros }) => cpuMicros ?? Number.NaN)
