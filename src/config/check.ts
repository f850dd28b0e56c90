/** Shows the problems of a configuration to a person, in the order of files and lines. */
import { formatProblem, type Problem } from '../policy/problem.ts'

export const formatProblems = (problems: readonly Problem[]): string =>
  [
    ...[...problems].sort(byPlace).map(formatProblem),
    `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`,
  ].join('\n')

const byPlace = (a: Problem, b: Problem): number =>
  a.file < b.file ? -1 : a.file > b.file ? 1 : (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
