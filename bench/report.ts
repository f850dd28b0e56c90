/** What was measured: figures with their spread and targets, as a table and as JSON. */
import { cpus } from 'node:os'
import { type Spread, spreadOf } from './spread.ts'

export interface Figure {
  readonly section: string
  readonly name: string
  readonly value: number
  readonly unit: string
  /** Least and greatest round, where there were several. */
  readonly low?: number
  readonly high?: number
  readonly atLeast?: number
  readonly atMost?: number
  /** What the figure leaves out, or how it came about. */
  readonly note?: string
}

export type Target = Pick<Figure, 'atLeast' | 'atMost' | 'note'>

export interface Report {
  note(name: string, value: number | Spread | readonly number[], unit: string, target?: Target): void
  /** A line for whoever watches. */
  say(line: string): void
}

export interface Figures {
  readonly all: readonly Figure[]
  section(name: string): Report
}

export function createFigures(say: (line: string) => void): Figures {
  const all: Figure[] = []
  return {
    all,
    section: (section) => ({
      say,
      note(name, value, unit, target = {}) {
        const spread = typeof value === 'number' ? undefined : 'median' in value ? value : spreadOf(value)
        const figure: Figure = {
          section,
          name,
          value: rounded(spread?.median ?? (value as number)),
          unit,
          ...(spread && spread.low !== spread.high ? { low: rounded(spread.low), high: rounded(spread.high) } : {}),
          ...target,
        }
        all.push(figure)
        say(`  ${line(figure)}`)
      },
    }),
  }
}

/** Three significant digits below a thousand. */
const rounded = (value: number): number => (Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(3)))

export const misses = ({ value, atLeast, atMost }: Figure): boolean =>
  !(value >= (atLeast ?? Number.NEGATIVE_INFINITY) && value <= (atMost ?? Number.POSITIVE_INFINITY))

function line(figure: Figure): string {
  const { name, value, unit, low, high, atLeast, atMost, note } = figure
  const spread = low === undefined ? '' : `${low}–${high}`
  const target = atLeast !== undefined ? `at least ${atLeast}` : atMost !== undefined ? `at most ${atMost}` : ''
  const verdict = target === '' ? '' : misses(figure) ? `MISSED (${target})` : `ok (${target})`
  const text =
    `${name.padEnd(58)} ${String(value).padStart(9)} ${unit.padEnd(8)} ${spread.padEnd(16)} ${verdict}`.trimEnd()
  return note === undefined ? text : `${text}\n${' '.repeat(8)}${note}`
}

export function table(figures: readonly Figure[]): string {
  const lines: string[] = []
  let section: string | undefined
  for (const figure of figures) {
    if (figure.section !== section) {
      section = figure.section
      lines.push('', section)
    }
    lines.push(`  ${line(figure)}`)
  }
  return lines.join('\n')
}

export const machine = () => ({
  node: process.version,
  openssl: process.versions.openssl,
  cores: cpus().length,
  cpu: cpus()[0]?.model ?? 'unknown',
})
