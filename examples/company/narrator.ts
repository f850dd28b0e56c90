/** Tells the story: coloured where the terminal can, and no step is told as done that was not seen to be done. */

export function createNarrator(out: NodeJS.WriteStream, env: { readonly NO_COLOR?: string | undefined }) {
  const coloured = out.isTTY === true && !env.NO_COLOR
  const paint = (code: number) => (text: string) => (coloured ? `\u001b[${code}m${text}\u001b[0m` : text)
  const [bold, dim, red, green, yellow, cyan] = [1, 2, 31, 32, 33, 36].map(paint) as [
    (text: string) => string,
    ...((text: string) => string)[],
  ]
  const line = (text = ''): void => void out.write(`${text}\n`)
  const indent = (text: string, by: string): string => text.split('\n').join(`\n${by}`)
  let chapter = 0
  return {
    line,
    chapter(title: string): void {
      chapter += 1
      line()
      line(bold(`${chapter}. ${title}`))
    },
    say: (text: string): void => line(`   ${indent(text, '   ')}`),
    detail: (name: string, value: string): void =>
      line(`   ${cyan!(name.padEnd(10))} ${indent(value, ' '.repeat(14))}`),
    quote: (text: string): void => line(dim!(`     ${indent(text.trimEnd(), '     ')}`)),
    /** Goes on only where it holds. */
    check(what: string, holds: boolean, got: unknown, processName?: string): void {
      if (!holds) throw new StoryBroken(what, got, processName)
      line(`   ${green!('✓')} ${what}`)
    },
    refusal: (text: string): void => line(`   ${yellow!('✗')} ${indent(text, '     ')}`),
    broken(title: string, text: string): void {
      line()
      line(red!(bold(title)))
      line(`   ${indent(text, '   ')}`)
    },
    bold,
    dim: dim!,
  }
}

/** A step that should have happened did not. */
export class StoryBroken extends Error {
  readonly expected: string
  readonly got: string
  readonly processName: string | undefined
  constructor(expected: string, got: unknown, processName?: string) {
    super(expected)
    this.name = 'StoryBroken'
    this.expected = expected
    this.got = typeof got === 'string' ? got : JSON.stringify(got, null, 2)
    this.processName = processName
  }
}
