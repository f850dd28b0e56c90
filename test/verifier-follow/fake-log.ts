/** A revocation log in memory, for tests of what stands on its port. */
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import { shapeOf, shapeText } from '@errand/verifier/shapes.ts'
import type { NewRevocation, Revocation, RevocationLog } from '../../src/revoke/revocation-log.ts'

export interface FakeLog extends RevocationLog {
  /** A new generation, with everything that was there replayed into it. */
  newGeneration(): void
  /** Loses entries without a word: what must never happen within a generation. */
  loseLast(): void
}

export function createFakeLog(): FakeLog {
  let entries: Revocation[] = []
  let generation = 0
  let sequence = 0
  const listeners = new Set<(entry: Revocation) => void>()
  const epoch = (): Epoch => ({ generation, sequence })
  return {
    async add(entry: NewRevocation) {
      const known = entries.find(({ id }) => id === entry.id)
      if (known) return { entry: known, added: false }
      sequence += 1
      const added: Revocation = { ...entry, epoch: epoch() }
      entries.push(added)
      for (const listener of listeners) listener(added)
      return { entry: added, added: true }
    },
    mark: async () => {
      sequence += 1
      return epoch()
    },
    get: async (id) => entries.find((entry) => entry.id === id),
    after: async (after) => entries.filter((entry) => !after || compareEpochs(entry.epoch, after) > 0),
    bans: async () => entries.filter(({ mode }) => mode === 'ban'),
    readmit: async () => false,
    epoch: async () => epoch(),
    onAdded(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    prune: async (now) => {
      entries = entries.filter(({ expiresAt }) => expiresAt > now)
    },
    check: async ({ hops }) => {
      for (const [hop, { facts, rev }] of hops.entries())
        for (const entry of entries) {
          const shape = shapeOf(entry.match)
          if (shapeText(shape, facts) !== shapeText(shape, entry.match)) continue
          if (entry.absolute || compareEpochs(entry.epoch, rev) > 0)
            return { epoch: epoch(), dead: { entry: entry.id, hop } }
        }
      return { epoch: epoch() }
    },
    newGeneration() {
      generation += 1
      sequence = 0
      entries = entries.map((entry) => {
        sequence += 1
        return { ...entry, epoch: epoch() }
      })
    },
    loseLast() {
      entries.pop()
      sequence -= 1
    },
  }
}

let serial = 0
export const revocation = (match: NewRevocation['match'], more: Partial<NewRevocation> = {}): NewRevocation => ({
  id: `rev_${++serial}`,
  match,
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: 1_800_000_000,
  expiresAt: 1_800_000_400,
  ...more,
})
