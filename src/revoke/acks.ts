/** Which verifier has applied the log up to which epoch, as each has said itself. */
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'

export interface Acks {
  note(verifier: string, epoch: Epoch, at: number): void
  /** What each has said last. */
  all(): readonly { readonly verifier: string; readonly epoch: Epoch; readonly at: number }[]
  /** Verifiers that have said to be at or past `epoch`. */
  reached(epoch: Epoch): readonly { readonly verifier: string; readonly epoch: string; readonly at: number }[]
}

export function createAcks(): Acks {
  const latest = new Map<string, { readonly epoch: Epoch; readonly at: number }>()
  return {
    note(verifier, epoch, at) {
      const known = latest.get(verifier)
      if (!known || compareEpochs(known.epoch, epoch) < 0) latest.set(verifier, { epoch, at })
    },
    all: () => [...latest].map(([verifier, said]) => ({ verifier, ...said })),
    reached: (epoch) =>
      [...latest]
        .filter(([, said]) => compareEpochs(said.epoch, epoch) >= 0)
        .map(([verifier, said]) => ({ verifier, epoch: formatEpoch(said.epoch), at: said.at })),
  }
}

/** Entries that each has not applied; of another generation it has applied none of this one. */
export const verifiersBehind = (
  now: Epoch,
  all: ReturnType<Acks['all']>,
): readonly { readonly verifier: string; readonly entries: number }[] =>
  all.map(({ verifier, epoch }) => ({
    verifier,
    entries: Math.max(0, epoch.generation === now.generation ? now.sequence - epoch.sequence : now.sequence),
  }))
