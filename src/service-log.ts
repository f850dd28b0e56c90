/** What the service log may hold of an error. */
import { Unavailable } from './oauth/refusal.ts'

/**
 * An error without its words, which may quote what it stumbled over, and without whatever a library has hung on it:
 * kind, code and place are ours to read. What `Unavailable` says was written here.
 */
export function plain(error: unknown): {
  readonly type: string
  readonly code?: string
  readonly message?: string
  readonly cause?: string
  readonly at?: readonly string[]
} {
  if (!(error instanceof Error)) return { type: 'not an error' }
  const { code, cause } = error as { readonly code?: unknown; readonly cause?: unknown }
  // The message stands in the stack as well, and may look like a line of it.
  const frames = (error.stack ?? '').replace(error.message, '').split('\n')
  const at = frames.flatMap((line) => /^ {4}at ([^\n]{1,300}:\d+:\d+\)?)$/.exec(line)?.[1] ?? [])
  return {
    type: error.name,
    ...(typeof code === 'string' && /^[A-Za-z][A-Za-z0-9_]{1,63}$/.test(code) ? { code } : {}),
    ...(error instanceof Unavailable ? { message: error.message } : {}),
    ...(cause instanceof Error ? { cause: String((cause as NodeJS.ErrnoException).code ?? cause.name) } : {}),
    ...(at.length === 0 ? {} : { at: at.slice(0, 12) }),
  }
}
