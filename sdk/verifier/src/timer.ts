/** Timers that keep no process alive; a runtime without processes has nothing to say about that. */

export function quietTimer(run: () => void, ms: number): ReturnType<typeof setTimeout> {
  const timer = setTimeout(run, ms)
  const { unref } = timer as Partial<NodeJS.Timeout>
  unref?.call(timer)
  return timer
}
