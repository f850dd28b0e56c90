/** Which verifier has applied the log up to which epoch, as each has said itself; of several processes the last counts. */
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'

/** A process of a tool that has said nothing for so long, while another has, is gone: it says something each minute. */
const FORGET_SECONDS = 180
const MAX_INSTANCES = 16_384

/** Two signed checkpoints of the audit log that contradict one another. */
export interface SeenRegression {
  readonly before: string
  readonly after: string
}

export interface Said {
  readonly epoch: Epoch
  /** Which process of the verifier; one that does not say is one alone. */
  readonly instance?: string
  readonly regression?: SeenRegression
}

interface Acknowledged {
  readonly verifier: string
  /** What each of its processes has applied. */
  readonly epoch: Epoch
  /** When it was heard of last. */
  readonly at: number
  /** How many processes it has. */
  readonly instances: number
  readonly regression?: SeenRegression
}

export interface Acks {
  /**
   * A process asked for what it needs to read the feed: until it says how far it is, it may accept what others refuse by
   * now, and nothing has been applied by all.
   */
  begun(verifier: string, instance: string, at: number): void
  note(verifier: string, said: Said, at: number): void
  /** A process that ends holds nothing up. */
  leave(verifier: string, instance?: string): void
  all(): readonly Acknowledged[]
  /** Verifiers all of whose processes have said to be at or past `epoch`. */
  reached(epoch: Epoch): readonly { readonly verifier: string; readonly epoch: string; readonly at: number }[]
  /** One that has reached it, and since when it is known; undefined where a process of it has not, or none was heard of. */
  applied(
    verifier: string,
    epoch: Epoch,
  ): { readonly epoch: string; readonly at: number; readonly processes: number } | undefined
}

/** `since`: when it first said the epoch that it says. */
type Latest = Pick<Said, 'epoch'> & { readonly at: number; readonly since: number }

export function createAcks(): Acks {
  const latest = new Map<string, Map<string, Latest>>()
  /** Those that have said nothing yet, and since when. */
  const silent = new Map<string, Map<string, number>>()
  /** One of each verifier: all its processes see one log, and each says again what it has seen. */
  const regressions = new Map<string, { readonly instance: string; readonly seen: SeenRegression }>()

  const forget = <Each>(some: Map<string, Each>, when: (each: Each) => number, at: number): void => {
    for (const [name, each] of some) {
      if (when(each) + FORGET_SECONDS >= at && some.size <= MAX_INSTANCES) break
      some.delete(name)
    }
  }

  function all(): readonly Acknowledged[] {
    return [...latest].map(([verifier, processes]) => {
      const said = [...processes.values()]
      const regression = regressions.get(verifier)?.seen
      return {
        verifier,
        epoch: said.reduce((least, { epoch }) => (compareEpochs(epoch, least) < 0 ? epoch : least), said[0]!.epoch),
        at: Math.max(...said.map(({ at }) => at)),
        instances: said.length,
        ...(regression ? { regression } : {}),
      }
    })
  }

  return {
    begun(verifier, instance, at) {
      if (latest.get(verifier)?.has(instance)) return
      const some = silent.get(verifier) ?? new Map<string, number>()
      silent.set(verifier, some)
      some.set(instance, at)
      forget(some, (since) => since, at)
    },
    note(verifier, { epoch, instance = '', regression }, at) {
      const processes = latest.get(verifier) ?? new Map<string, Latest>()
      latest.set(verifier, processes)
      const known = processes.get(instance)
      if (regression && (regressions.get(verifier)?.instance ?? instance) === instance)
        regressions.set(verifier, { instance, seen: regression })
      processes.delete(instance) // the one heard of last stands last
      const moved = !known || compareEpochs(known.epoch, epoch) < 0
      processes.set(instance, {
        epoch: moved ? epoch : known.epoch,
        at: Math.max(at, known?.at ?? at),
        since: moved ? at : known.since,
      })
      forget(processes, (said) => said.at, at)
      const teller = regressions.get(verifier)?.instance
      if (teller !== undefined && !processes.has(teller)) regressions.delete(verifier)
      const others = silent.get(verifier)
      others?.delete(instance)
      if (others) forget(others, (since) => since, at)
    },
    leave(verifier, instance = '') {
      const processes = latest.get(verifier)
      processes?.delete(instance)
      if (processes?.size === 0) latest.delete(verifier)
      if (regressions.get(verifier)?.instance === instance) regressions.delete(verifier)
      silent.get(verifier)?.delete(instance)
    },
    all,
    reached: (epoch) =>
      all()
        .filter((said) => compareEpochs(said.epoch, epoch) >= 0 && !silent.get(said.verifier)?.size)
        .map((said) => ({ verifier: said.verifier, epoch: formatEpoch(said.epoch), at: said.at })),
    applied(verifier, epoch) {
      const processes = [...(latest.get(verifier)?.values() ?? [])]
      if (processes.length === 0 || silent.get(verifier)?.size) return undefined
      if (processes.some((said) => compareEpochs(said.epoch, epoch) < 0)) return undefined
      const least = processes.reduce((one, other) => (compareEpochs(other.epoch, one.epoch) < 0 ? other : one))
      const at = Math.max(...processes.map(({ since }) => since))
      return { epoch: formatEpoch(least.epoch), at, processes: processes.length }
    },
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
