/** A check that costs something, asked for by anybody: made once a second at most, and shared by all who ask meanwhile. */
const FRESH_MS = 1000

export function createSharedCheck(deps: {
  readonly check: () => Promise<boolean>
  /** Milliseconds. */
  readonly monotonic: () => number
}): () => Promise<boolean> {
  let last: { readonly at: number; readonly answer: Promise<boolean> } | undefined
  let running = false
  return () => {
    const at = deps.monotonic()
    if (last && (running || at - last.at < FRESH_MS)) return last.answer
    running = true
    const answer = deps.check().finally(() => {
      running = false
    })
    last = { at, answer }
    return answer
  }
}
