/** The steps of an exchange that wait for something or cost something, each with a span of its own. */
import type { Snapshot } from './config/snapshot.ts'
import type { Tracing } from './http/tracing.ts'
import type { Stores } from './store/open.ts'

export const storesWithSpans = (stores: Stores, tracing: Tracing): Stores => ({
  ...stores,
  tasks: tracing.steps('errand.tasks', stores.tasks, ['open', 'get', 'reserve', 'end']),
  revocations: tracing.steps('errand.revocations', stores.revocations, ['check', 'add']),
  keyPins: tracing.steps('errand.key_pins', stores.keyPins, ['pin', 'pinned']),
  replayGuard: tracing.steps('errand.replay_guard', stores.replayGuard, ['spend']),
})

export function decidingWithSpans(current: () => Snapshot, tracing: Tracing): () => Snapshot {
  let last: { readonly of: Snapshot; readonly traced: Snapshot } | undefined
  return () => {
    const of = current()
    // The same one each time: who reads a snapshot remembers things by it.
    if (last?.of !== of) last = { of, traced: { ...of, decide: tracing.step('errand.decide', of.decide) } }
    return last.traced
  }
}
