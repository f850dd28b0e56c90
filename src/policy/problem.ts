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
