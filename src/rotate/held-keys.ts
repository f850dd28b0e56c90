/** Which verifiers hold which prepared key, as each of their processes has said: who holds it cannot trip over it. */

/** Each process says something every minute: one that was silent for so long is gone. */
const FORGET_SECONDS = 180
const MAX_PROCESSES = 16_384

export interface HeldKeys {
  /** What a process holds now, instead of what it said before. */
  note(verifier: string, process: string, kids: readonly string[], at: number): void
  leave(verifier: string, process: string): void
  /** Whether each of them was heard of lately, and all of its processes hold that key. */
  byAll(verifiers: readonly string[], kid: string, now: number): boolean
}

export function createHeldKeys(deps: {
  /** Of other keys nothing is remembered. */
  readonly isPrepared: (kid: string) => boolean
}): HeldKeys {
  const said = new Map<string, Map<string, { readonly kids: ReadonlySet<string>; readonly at: number }>>()

  return {
    note(verifier, process, kids, at) {
      const processes = said.get(verifier) ?? new Map()
      said.set(verifier, processes)
      processes.delete(process) // the one heard of last stands last
      processes.set(process, { kids: new Set(kids.filter(deps.isPrepared)), at })
      for (const [name, each] of processes) {
        if (each.at + FORGET_SECONDS >= at && processes.size <= MAX_PROCESSES) break
        processes.delete(name)
      }
    },
    leave: (verifier, process) => void said.get(verifier)?.delete(process),
    byAll: (verifiers, kid, now) =>
      verifiers.length > 0 &&
      verifiers.every((verifier) => {
        const heard = [...(said.get(verifier)?.values() ?? [])].filter(({ at }) => at + FORGET_SECONDS >= now)
        return heard.length > 0 && heard.every(({ kids }) => kids.has(kid))
      }),
  }
}
