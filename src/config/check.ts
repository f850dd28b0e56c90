/** Shows problems of the configuration to a person. */
import type { Problem } from '../policy/problem.ts'

/** One line per problem, with what to do about it below, in the order of files and lines. */
export function formatProblems(problems: readonly Problem[]): string {
  const lines = [...problems].sort(byPlace).flatMap(({ file, line, column, code, message, suggestion }) => {
    const place = line === undefined ? file : `${file}:${line}:${column ?? 1}`
    return [
      `${place}  ${printable(message)}  [${code}]`,
      ...(suggestion === undefined ? [] : [`    ${printable(suggestion)}`]),
    ]
  })
  return [...lines, `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`].join('\n')
}

const byPlace = (a: Problem, b: Problem): number =>
  a.file < b.file ? -1 : a.file > b.file ? 1 : (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)

/** What stands in a file may try to steer a terminal. */
const printable = (text: string): string =>
  text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
