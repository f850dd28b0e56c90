/** What every verb is given, and the ways a verb ends. */
import type { Readable, Writable } from 'node:stream'
import type { Fetch } from '@errand/verifier/http.ts'
import type pc from 'picocolors'

export interface Cli {
  /** One line to stdout: the answer, and nothing else. */
  readonly out: (line: string) => void
  /** One line to stderr: everything for people that is not the answer. */
  readonly err: (line: string) => void
  readonly stdin: () => Promise<string>
  readonly env: { readonly [name: string]: string | undefined }
  readonly fetch: Fetch
  /** Unix seconds. */
  readonly now: () => number
  readonly wait: (milliseconds: number) => Promise<void>
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal
  readonly colors: ReturnType<typeof pc.createColors>
  /** How this command is called here: `errand`, or `npx errand` inside a clone. */
  readonly command: string
  /** `20.20.2` */
  readonly nodeVersion: string
  /** Where a person can be asked; absent where nobody sits. */
  readonly terminal?: Terminal
  /** Told once the service that this command is has started. */
  readonly onServing?: () => void
}

export interface Terminal {
  readonly input: Readable
  readonly output: Writable
}

export const EXIT = { ok: 0, refused: 1, usage: 2, unreachable: 3, late: 4, interrupted: 130 } as const
export type Exit = (typeof EXIT)[keyof typeof EXIT]

/** How a verb fails: what went wrong in one line, and what to do. Holds no secret. */
export class CliError extends Error {
  readonly exit: Exit
  readonly hints: readonly string[]
  /** What a service called it. */
  readonly code: string | undefined
  constructor(exit: Exit, message: string, hints: readonly string[] = [], code?: string) {
    super(message)
    this.name = 'CliError'
    this.exit = exit
    this.hints = hints
    this.code = code
  }
}

export const usage = (message: string, ...hints: readonly string[]): CliError =>
  new CliError(EXIT.usage, message, hints)
