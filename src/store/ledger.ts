/**
 * What this process has revoked, banned and lifted, on its own disk: what it gives back to a store that lost some of it. The
 * audit log tells of the same, but of people under keys that the store holds; here an entry stands as the store has it, for
 * as long as it counts.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { KeyStore, StoredKey } from '../keys/key-store.ts'
import type { NewRevocation } from '../revoke/revocation-log.ts'
import type { Sealed } from '../revoke/seals.ts'
import { keepsOut } from './revocations.ts'

export const LEDGER_FILE = 'errand.ledger'

export interface Lifted {
  readonly id: string
  readonly by: string
  readonly reason: string
  readonly at: number
}

type Line =
  | { readonly k: 'me'; readonly id: string }
  | { readonly k: 'entry'; readonly entry: NewRevocation }
  /** The store has said that it holds the entry. */
  | { readonly k: 'held'; readonly id: string; readonly epoch: Epoch }
  | ({ readonly k: 'lifted' } & Lifted)
  /** A place that the store has handed out. */
  | { readonly k: 'place'; readonly epoch: Epoch }
  | { readonly k: 'roster'; readonly ids: readonly string[] }
  | { readonly k: 'key'; readonly key: StoredKey }
  | { readonly k: 'sealed'; readonly sealed: Sealed | null }

export interface Kept {
  readonly entry: NewRevocation
  readonly held: boolean
  readonly lifted?: Lifted
}

export interface Ledger {
  /** Of this data folder, 8 hex digits. */
  readonly id: string
  /** Whether there was one before this start. */
  readonly begun: boolean
  /** The furthest place that the store is known to have handed out. */
  epoch(): Epoch | undefined
  /** Those that count still, in the order in which they came. */
  entries(): readonly Kept[]
  /** Of bans and suspensions, also of those that count no more: another process may hold one as if it stood. */
  lifts(): readonly Lifted[]
  keys(): readonly StoredKey[]
  /** Processes that were seen on the same store. */
  roster(): readonly string[]
  /** What an administrator has sealed, and nobody lifted as far as this process knows. */
  seal(): Sealed | undefined
  /** On disk when it resolves. Once by id. */
  keep(entry: NewRevocation): Promise<void>
  held(id: string, epoch: Epoch): Promise<void>
  lifted(lifted: Lifted): Promise<void>
  reached(epoch: Epoch): Promise<void>
  keepKey(key: StoredKey): Promise<void>
  keepRoster(ids: readonly string[]): Promise<void>
  sealed(sealed: Sealed | undefined): Promise<void>
  /** Forgets what ended before. */
  prune(before: number): Promise<void>
  close(): Promise<void>
}

/** What the store never confirmed may have been seen in it by others, for as long; later it turns up no more. */
export const INTENT_SECONDS = 600

/** That something was lifted is told so long to processes that were away, and hold it as if it stood. */
export const LIFTS_KEPT_SECONDS = 400 * 86_400

/** As many lines as this above what counts, and the file is written anew. */
const SLACK = 2000

const lineOf = (line: Line): string => {
  const text = JSON.stringify(line)
  return `${crc32(text).toString(16).padStart(8, '0')} ${text}\n`
}

/** What was cut off in the middle, or never written whole, was never said to be on disk. */
function parse(text: string): readonly Line[] {
  return text.split('\n').flatMap((each) => {
    const body = each.slice(9)
    return each.length > 9 && crc32(body).toString(16).padStart(8, '0') === each.slice(0, 8)
      ? [JSON.parse(body) as Line]
      : []
  })
}

/** Unix seconds until when there may be a token that it kills, or it keeps something out. */
export const endOf = ({ entry, lifted }: Pick<Kept, 'entry' | 'lifted'>): number =>
  keepsOut(entry) && !entry.before && !lifted
    ? Math.max(entry.expiresAt, entry.banUntil ?? Number.POSITIVE_INFINITY)
    : entry.expiresAt

const counts = (kept: Kept, before: number): boolean =>
  (kept.held || kept.entry.at + INTENT_SECONDS > before) && endOf(kept) > before

export function openLedger(dataDir: string): Ledger {
  const path = join(dataDir, LEDGER_FILE)
  const begun = existsSync(path)
  const entries = new Map<string, Kept>()
  const lifts = new Map<string, Lifted>()
  const keys = new Map<string, StoredKey>()
  let id = ''
  let epoch: Epoch | undefined
  let roster: readonly string[] = []
  let sealed: Sealed | null = null
  let lines = 0

  function take(line: Line): void {
    lines += 1
    if (line.k === 'me') id = line.id
    else if (line.k === 'roster') roster = line.ids
    else if (line.k === 'sealed') sealed = line.sealed
    else if (line.k === 'key') keys.set(line.key.kid, line.key)
    else if (line.k === 'place') advance(line.epoch)
    else if (line.k === 'entry') {
      // Lifted here before it was heard of.
      const lifted = lifts.get(line.entry.id)
      const before = entries.get(line.entry.id) ?? { held: false, ...(lifted ? { lifted } : {}) }
      entries.set(line.entry.id, { ...before, entry: line.entry })
    } else {
      const known = entries.get(line.id)
      if (line.k === 'held') advance(line.epoch)
      else lifts.set(line.id, line)
      if (known) entries.set(line.id, { ...known, ...(line.k === 'held' ? { held: true } : { lifted: line }) })
    }
  }
  const advance = (place: Epoch) => {
    if (epoch === undefined || compareEpochs(place, epoch) > 0) epoch = place
  }

  const whole = (): readonly Line[] => [
    { k: 'me', id },
    { k: 'roster', ids: roster },
    ...(sealed ? [{ k: 'sealed', sealed } as const] : []),
    ...[...keys.values()].map((key): Line => ({ k: 'key', key })),
    ...[...entries.values()].flatMap(({ entry, held }): Line[] => [
      { k: 'entry', entry },
      ...(held && epoch ? [{ k: 'held', id: entry.id, epoch } as const] : []),
    ]),
    ...[...lifts.values()].map((lifted): Line => ({ ...lifted, k: 'lifted' })),
    ...(epoch ? [{ k: 'place', epoch } as const] : []),
  ]

  /** The new file is whole on disk before it has the name. */
  function rewrite(): void {
    const fresh = openSync(`${path}.new`, 'w', 0o600)
    const all = whole()
    writeFileSync(fresh, all.map(lineOf).join(''))
    fsyncSync(fresh)
    closeSync(fresh)
    renameSync(`${path}.new`, path)
    const folder = openSync(dataDir, 'r')
    fsyncSync(folder)
    closeSync(folder)
    lines = all.length
  }

  if (begun) for (const line of parse(readFileSync(path, 'utf8'))) take(line)
  if (id === '') id = randomBytes(4).toString('hex')
  // Also mends a last line that was cut off.
  rewrite()

  let file: FileHandle | undefined
  let queue: string[] = []
  let turn: Promise<unknown> = Promise.resolve()
  let writing: Promise<void> | undefined
  const inTurn = <T>(step: () => Promise<T>): Promise<T> => {
    const next = turn.then(step)
    turn = next.catch(() => undefined)
    return next
  }

  async function flush(): Promise<void> {
    writing = undefined
    const batch = queue
    queue = []
    try {
      file ??= await open(path, 'a', 0o600)
      // The empty line ends what a write before may have left by half.
      await file.appendFile(`\n${batch.join('')}`)
      await file.datasync()
    } catch (error) {
      // It stands in memory, and is written with the rest as soon as that can be.
      lines = Number.POSITIVE_INFINITY
      throw error
    }
  }

  /** One sync for all that comes while the one before is under way. */
  function append(line: Line): Promise<void> {
    take(line)
    queue.push(lineOf(line))
    writing ??= inTurn(flush)
    return writing
  }

  return {
    get id() {
      return id
    },
    begun,
    epoch: () => epoch,
    entries: () => [...entries.values()],
    lifts: () => [...lifts.values()],
    keys: () => [...keys.values()],
    roster: () => roster,
    seal: () => sealed ?? undefined,
    keep: async (entry) => {
      if (!entries.has(entry.id)) await append({ k: 'entry', entry })
      else await writing
    },
    held: async (entryId, place) => {
      if (entries.get(entryId)?.held === false) await append({ k: 'held', id: entryId, epoch: place })
    },
    lifted: async (lifted) => {
      if (!lifts.has(lifted.id)) await append({ k: 'lifted', ...lifted })
    },
    reached: async (place) => {
      if (epoch === undefined || compareEpochs(place, epoch) > 0) await append({ k: 'place', epoch: place })
    },
    keepKey: async (key) => append({ k: 'key', key }),
    keepRoster: async (ids) => {
      if (ids.join() !== roster.join()) await append({ k: 'roster', ids })
    },
    sealed: async (now) => {
      if (JSON.stringify(now ?? null) !== JSON.stringify(sealed)) await append({ k: 'sealed', sealed: now ?? null })
    },
    prune: (before) =>
      inTurn(async () => {
        for (const [key, kept] of entries) if (!counts(kept, before)) entries.delete(key)
        for (const [key, { at }] of lifts) if (at + LIFTS_KEPT_SECONDS <= before && !entries.has(key)) lifts.delete(key)
        if (lines < entries.size * 2 + lifts.size + keys.size + SLACK) return
        await file?.close()
        file = undefined
        // What waits to be written stands in memory already; written twice, it says the same.
        rewrite()
      }),
    close: () =>
      inTurn(async () => {
        await file?.close()
        file = undefined
      }),
  }
}

/** Signing keys as they were last seen: where the store comes back without them, what they signed still verifies. */
export function keepingKeys(keyStore: KeyStore, ledger: Ledger): KeyStore {
  return {
    ...keyStore,
    list: async () => {
      const seen = new Map(ledger.keys().map((key) => [key.kid, key]))
      const keys = await stillGivenUp(keyStore, seen)
      for (const key of keys) if (!isSame(seen.get(key.kid), key)) ledger.keepKey(key).catch(() => undefined)
      return keys
    },
    insert: async (key) => {
      // Before it signs anything.
      await ledger.keepKey(key).catch(() => undefined)
      return keyStore.insert(key)
    },
  }
}

/** A store that went back in time, or that somebody else writes into, makes no stolen key a good one again. */
async function stillGivenUp(keyStore: KeyStore, seen: ReadonlyMap<string, StoredKey>): Promise<readonly StoredKey[]> {
  const keys = await keyStore.list()
  const isBack = ({ kid, state }: StoredKey) => state !== 'compromised' && seen.get(kid)?.state === 'compromised'
  const back = keys.filter(isBack)
  if (back.length === 0) return keys
  for (const { kid, state } of back) await keyStore.move(kid, [state], 'compromised', seen.get(kid)?.retiredAt ?? 0)
  return (await keyStore.list()).map((key) => (isBack(key) ? { ...key, state: 'compromised' } : key))
}

const isSame = (one: StoredKey | undefined, other: StoredKey): boolean =>
  one !== undefined && JSON.stringify(one) === JSON.stringify(other)
