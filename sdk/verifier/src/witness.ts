/**
 * Each verifier is a witness of the audit log: it keeps the newest checkpoint that came with the feed, and notices a log
 * that shrank, or two trees of one size. Who signed a checkpoint is for whoever audits to check; that the service said
 * it is certain, for the frame that brought it is signed.
 */

/** The first three lines of a signed note (C2SP tlog-checkpoint): origin, size, root. */
const CHECKPOINT = /^([^\n]{1,256})\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n/
const MAX_CHECKPOINT_LENGTH = 4096
/** Each replica of a service has a log of its own. Beyond it the one that was seen longest ago is forgotten. */
const MAX_LOGS = 64

export interface Regression {
  /** The signed note that was kept. */
  readonly before: string
  /** The one that came later: of a smaller tree, or of another one of the same size. */
  readonly after: string
}

/** The frame that brought a checkpoint. Relays and caches keep frames for a while: an old one proves nothing of now. */
export interface Brought {
  readonly run: string
  /** Stamp of that run. */
  readonly s: number
  /** When it arrived, by our monotonic clock. */
  readonly at: number
  /** By our monotonic clock it was not stamped before; undefined where its run has not answered us. */
  readonly notBefore: number | undefined
}

export interface Witness {
  /** What contradicts what was seen before; that stays what later ones are held against. */
  see(note: string, by: Brought): Regression | undefined
  /** The newest of each log, that of the log seen last at the end. */
  newest(): readonly string[]
}

interface Seen extends Pick<Brought, 'run' | 's' | 'at'> {
  readonly note: string
  readonly size: number
  readonly root: string
}

/** `kept` are those from before a restart. */
export function createWitness(kept: readonly string[] = []): Witness {
  const logs = new Map<string, Seen>()

  function see(note: string, { run, s, at, notBefore }: Brought): Regression | undefined {
    const parts = note.length <= MAX_CHECKPOINT_LENGTH ? CHECKPOINT.exec(note) : null
    if (!parts) return undefined
    const [, origin, size, root] = parts as unknown as [string, string, string, string]
    const it: Seen = { note, size: Number(size), root, run, s, at }
    const before = logs.get(origin)
    const keep = (seen: Seen): void => {
      logs.delete(origin)
      logs.set(origin, seen) // seen last
      if (logs.size > MAX_LOGS) logs.delete(logs.keys().next().value!)
    }
    if (before) {
      keep(it.size > before.size ? it : before)
      const later = (run === before.run && s > before.s) || (notBefore !== undefined && notBefore > before.at)
      const contradicts = it.size === before.size ? root !== before.root : it.size < before.size && later
      return contradicts ? { before: before.note, after: note } : undefined
    }
    keep(it)
    return undefined
  }

  for (const note of kept) see(note, { run: '', s: 0, at: Number.NEGATIVE_INFINITY, notBefore: undefined })
  return { see, newest: () => [...logs.values()].map(({ note }) => note) }
}
