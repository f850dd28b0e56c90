/** Goes through a list some at a time: waits overlap, and a thousand files are not all open at once. */
const AT_ONCE = 8

/** Answers in the order of `items`. Of those that fail the first in that order is thrown, once no other is under way. */
export async function someAtOnce<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = []
  for (let at = 0; at < items.length; at += AT_ONCE) {
    for (const settled of await Promise.allSettled(items.slice(at, at + AT_ONCE).map(run))) {
      if (settled.status === 'rejected') throw settled.reason
      results.push(settled.value)
    }
  }
  return results
}
