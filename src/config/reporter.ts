/** Collects problems of one file with their places. */
import type { Problem, ProblemCode } from '../policy/problem.ts'
import type { YamlFile } from './yaml.ts'

export type Reporter = (path: readonly PropertyKey[], code: ProblemCode, message: string, suggestion?: string) => void

export const createReporter =
  (yaml: YamlFile, problems: Problem[]): Reporter =>
  (path, code, message, suggestion) =>
    problems.push({
      file: yaml.file,
      ...yaml.placeOf(path),
      code,
      message,
      ...(suggestion === undefined ? {} : { suggestion }),
    })
