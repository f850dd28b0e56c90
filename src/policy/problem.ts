/** Something wrong in the configuration, said so that a person can mend it: where, what, and what was probably meant. */

/** The reasons of SECURITY-CASES that configuration can give, and those that only a file can. */
export type ProblemCode =
  | 'bad_yaml'
  | 'bad_value'
  | 'bad_identifier'
  | 'bad_limit'
  | 'unknown_key'
  | 'missing_key'
  | 'unknown_reference'
  | 'duplicate'
  | 'resource_not_canonical'
  | 'url_forbidden'
  | 'jwks_rejected'
  | 'bad_key'
  | 'file_missing'
  | 'release_rejected'
  | 'too_large'
  | 'dev_material'
  | 'policy_rejected'
  | 'policy_too_large'

export interface Problem {
  /** As a person would open it: `config/agents/research.yaml`. */
  readonly file: string
  /** From 1; absent where the file as a whole is meant. */
  readonly line?: number
  readonly column?: number
  readonly code: ProblemCode
  readonly message: string
  readonly suggestion?: string
}

/** One line for a person, and below it what to do about it. */
export function formatProblem({ file, line, column, code, message, suggestion }: Problem): string {
  const place = line === undefined ? file : `${file}:${line}:${column ?? 1}`
  const first = `${printable(place)}  ${printable(message)}  [${code}]`
  return suggestion === undefined ? first : `${first}\n    ${printable(suggestion)}`
}

/** What stands in a file may try to steer a terminal. */
const printable = (text: string): string =>
  text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
