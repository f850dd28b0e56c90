/** What `errand doctor` finds: each thing good, weak or wrong, and how to mend what is not good. */
import type { Cli } from './cli.ts'
import { safe } from './print.ts'

export interface Finding {
  readonly level: 'good' | 'weak' | 'wrong'
  /** Stable, for programs. */
  readonly code: string
  readonly message: string
  readonly mend?: string
}

/** Findings under one heading, in the order in which they were made. */
export interface Examination {
  readonly about: string
  readonly findings: readonly Finding[]
}

export const good = (code: string, message: string): Finding => ({ level: 'good', code, message })
export const weak = (code: string, message: string, mend: string): Finding => ({ level: 'weak', code, message, mend })
export const wrong = (code: string, message: string, mend: string): Finding => ({ level: 'wrong', code, message, mend })

export function printed({ colors }: Pick<Cli, 'colors'>, examinations: readonly Examination[]): string[] {
  const mark = { good: colors.green('✓'), weak: colors.yellow('!'), wrong: colors.red('✗') }
  return examinations.flatMap(({ about, findings }, at) => [
    ...(at === 0 ? [] : ['']),
    colors.bold(safe(about)),
    ...findings.flatMap(({ level, message, mend }) => [
      `  ${mark[level]} ${safe(message)}`,
      ...(mend === undefined ? [] : [`      mend: ${safe(mend)}`]),
    ]),
  ])
}

/** How far a clock is from ours, judged by what it does to tokens. `whose` ends the sentence. */
export function clockFinding(skewSeconds: number, whose: string, leewaySeconds: number): Finding {
  const ahead = `${Math.abs(Math.round(skewSeconds))} s ${skewSeconds > 0 ? 'ahead of' : 'behind'}`
  const mend = 'set both by NTP (timedatectl status), and look which one is off'
  if (Math.abs(skewSeconds) > leewaySeconds)
    return wrong('clock_skew', `the clock of ${whose} is ${ahead} ours: tokens and proofs are refused`, mend)
  // Date headers are whole seconds, and answers take their time.
  if (Math.abs(skewSeconds) > 3) return weak('clock_skew', `the clock of ${whose} is ${ahead} ours`, mend)
  return good('clock', `the clock of ${whose} agrees with ours`)
}
