/** Cuts a policy file into its policies, with bounds that hold before any parser recurses (SECURITY-CASES G5). */

export const POLICY_BOUNDS = {
  fileBytes: 262_144,
  totalBytes: 4_194_304,
  policies: 10_000,
  policyBytes: 16_384,
  // Each of these nests in the parsed policy, whose evaluator recurses on the small stack of its WASM module (300 sums
  // in a row are read, 400 end the module). So each is bounded by itself, with room for all of them at once.
  brackets: 24,
  ifs: 16,
  conditions: 100,
  arithmetic: 50,
  accesses: 200,
} as const

interface PolicyText {
  readonly text: string
  /** UTF-16 offset of `text` in the file. */
  readonly start: number
}

export type Cut =
  | { readonly ok: true; readonly policies: readonly PolicyText[] }
  | { readonly ok: false; readonly at: number; readonly what: string }

/** A policy ends at the first `;` outside strings, comments and brackets (Cedar grammar, *Policy*). */
export function cutPolicies(text: string): Cut {
  if (Buffer.byteLength(text) > POLICY_BOUNDS.fileBytes)
    return { ok: false, at: 0, what: `file above ${POLICY_BOUNDS.fileBytes} bytes` }
  const policies: PolicyText[] = []
  let start = -1
  let depth = 0
  let used = { ifs: 0, conditions: 0, arithmetic: 0, accesses: 0 }
  const tooLarge = (at: number, what: string): Cut => ({ ok: false, at, what })
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if (c === '/' && text[i + 1] === '/') {
      while (i + 1 < text.length && text[i + 1] !== '\n') i++
      continue
    }
    if (c === ' ' || c === '\t' || c === '\n' || c === '\r') continue
    if (start < 0) start = i
    if (c === '"') {
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === '\\') i++
    } else if (c === '(' || c === '[' || c === '{') {
      if (++depth > POLICY_BOUNDS.brackets)
        return tooLarge(i, `more than ${POLICY_BOUNDS.brackets} brackets inside one another`)
    } else if (c === ')' || c === ']' || c === '}') {
      depth--
    } else if (c === ';' && depth <= 0) {
      const policy = { text: text.slice(start, i + 1), start }
      if (policy.text.length > POLICY_BOUNDS.policyBytes)
        return tooLarge(start, `a policy above ${POLICY_BOUNDS.policyBytes} bytes`)
      policies.push(policy)
      if (policies.length > POLICY_BOUNDS.policies)
        return tooLarge(start, `more than ${POLICY_BOUNDS.policies} policies`)
      start = -1
      depth = 0
      used = { ifs: 0, conditions: 0, arithmetic: 0, accesses: 0 }
    } else {
      const kind = countedAs(text, i)
      if (kind && ++used[kind] > POLICY_BOUNDS[kind])
        return tooLarge(i, `more than ${POLICY_BOUNDS[kind]} ${kind} in one policy`)
      // The second half of `&&` or `||` is the same operator.
      if (kind === 'conditions') i++
    }
  }
  // What is left has no `;`: the parser says so with the place where it expected it.
  if (start >= 0) {
    const rest = text.slice(start)
    if (rest.length > POLICY_BOUNDS.policyBytes)
      return tooLarge(start, `a policy above ${POLICY_BOUNDS.policyBytes} bytes`)
    policies.push({ text: rest, start })
  }
  return { ok: true, policies }
}

function countedAs(text: string, i: number): 'ifs' | 'conditions' | 'arithmetic' | 'accesses' | undefined {
  const c = text[i]
  const next = text[i + 1]
  if (c === '.') return 'accesses'
  if ((c === '&' || c === '|') && next === c) return 'conditions'
  if (c === '+' || c === '-' || c === '*' || (c === '!' && next !== '=')) return 'arithmetic'
  if (c === 'i' && next === 'f' && !isWord(text[i - 1]) && !isWord(text[i + 2])) return 'ifs'
  return undefined
}

const isWord = (c: string | undefined): boolean => c !== undefined && /[A-Za-z0-9_]/.test(c)

/** Line and column (from 1) of a UTF-16 offset. */
export function placeOf(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, Math.max(0, offset))
  const lastBreak = before.lastIndexOf('\n')
  return { line: before.split('\n').length, column: before.length - lastBreak }
}
