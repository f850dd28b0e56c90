/** Work that the service does by itself, again and again. */

/** Runs again after each end, never twice at once; the returned function stops it and waits. */
export function every(ms: number, run: () => Promise<unknown>, onError: (error: unknown) => void): () => Promise<void> {
  let turn: Promise<void> = Promise.resolve()
  let busy = false
  const timer = setInterval(() => {
    if (busy) return
    busy = true
    turn = run()
      .then(() => undefined, onError)
      .finally(() => {
        busy = false
      })
  }, ms)
  timer.unref()
  return async () => {
    clearInterval(timer)
    await turn
  }
}
