/** Collects problems of one file with their places. */
import type { Problem, ProblemCode } from '../policy/problem.ts'
import type { YamlFile } from './yaml.ts'

export type Reporter = (
  path: readonly PropertyKey[],
  code: ProblemCode,
  message: string,
  suggestion?: string,
  /** Whether the key at `path` is at fault, and not what stands under it. */
  at?: 'key' | 'value',
) => void

export const createReporter =
  (yaml: YamlFile, problems: Problem[]): Reporter =>
  (path, code, message, suggestion, at = 'value') =>
    problems.push({
      file: yaml.file,
      ...(at === 'key' ? yaml.placeOfKey(path.slice(0, -1), String(path.at(-1))) : yaml.placeOf(path)),
      code,
      message,
      ...(suggestion === undefined ? {} : { suggestion }),
    })
