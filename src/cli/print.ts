/** Text for a terminal: aligned by hand, and nothing that came from elsewhere can steer it. */
import type { Cli } from './cli.ts'

// C0, DEL, C1, and what formats without being seen (zero-width, bidirectional), separators, private use, surrogates.
const STEERING = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu

const escaped = (text: string): string =>
  Array.from({ length: text.length }, (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')

/** Any value as text in one line. */
export function safe(value: unknown): string {
  if (value === undefined || value === null) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  return text.replace(STEERING, escaped)
}

export const json = (value: unknown): string =>
  JSON.stringify(value, null, 2)
    .split('\n')
    .map((line) => line.replace(STEERING, escaped))
    .join('\n')

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => unknown
  /** Colours the padded text. */
  readonly paint?: (text: string, row: Row) => string
}

/** Lines of a table with a heading; what is missing is left blank. */
export function table<Row>(cli: Pick<Cli, 'colors'>, rows: readonly Row[], columns: readonly Column<Row>[]): string[] {
  const cells = rows.map((row) => columns.map((column) => safe(column.cell(row))))
  const widths = columns.map(({ title }, at) => Math.max(title.length, ...cells.map((line) => width(line[at]!))))
  const heading = columns.map(({ title }, at) => title.padEnd(widths[at]!)).join('  ')
  const lines = cells.map((line, row) =>
    columns
      .map(({ paint }, at) => {
        const text = line[at]! + ' '.repeat(widths[at]! - width(line[at]!))
        return paint ? paint(text, rows[row]!) : text
      })
      .join('  ')
      .trimEnd(),
  )
  return [cli.colors.bold(heading.trimEnd()), ...lines]
}

const width = (text: string): number => [...text].length

/** `name  value` lines; pairs without a value are left out. Names take `least` characters: what is told in parts lines up. */
export function facts(
  cli: Pick<Cli, 'colors'>,
  pairs: readonly (readonly [string, unknown])[],
  { least = 0 }: { readonly least?: number } = {},
): string[] {
  const told = pairs.filter(([, value]) => value !== undefined && value !== '')
  const widest = Math.max(least, ...told.map(([name]) => name.length))
  return told.map(([name, value]) => `${cli.colors.dim(name.padEnd(widest))}  ${safe(value)}`)
}

/** Unix seconds as UTC to the second; blank where there is none. */
export const time = (seconds: unknown): string =>
  typeof seconds === 'number' && Math.abs(seconds) < 1e11
    ? `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}Z`
    : ''

/** How far away a time is, in the largest unit that says enough. */
export function until(seconds: number, now: number): string {
  const distance = Math.round(seconds - now)
  const length = Math.abs(distance)
  const text =
    length < 120
      ? `${length} s`
      : length < 7200
        ? `${Math.round(length / 60)} min`
        : length < 172_800
          ? `${Math.round(length / 3600)} h`
          : `${Math.round(length / 86_400)} d`
  return distance >= 0 ? `in ${text}` : `${text} ago`
}

export interface Branch {
  readonly lines: readonly string[]
  readonly branches: readonly Branch[]
}

/** A tree drawn with lines; a branch's further lines are indented below its first. */
export function tree(branch: Branch): string[] {
  const drawn = [...branch.lines]
  for (const [at, child] of branch.branches.entries()) {
    const last = at === branch.branches.length - 1
    const [first, ...rest] = tree(child)
    drawn.push(`${last ? '└─ ' : '├─ '}${first ?? ''}`, ...rest.map((line) => `${last ? '   ' : '│  '}${line}`))
  }
  return drawn
}
