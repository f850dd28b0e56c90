/**
 * What a verifier keeps across restarts, so that it never goes back in time: its highest state, as keyed hashes, under a
 * code by the feed's key. Kept state only ever refuses more: nothing counts as fresh before the service has answered.
 */
import { decodeBase64url, encodeBase64url } from './base64url.ts'
import { hmacSha256, randomBase64url } from './crypto.ts'
import { compareEpochs, type Epoch, formatEpoch, parseEpoch } from './epoch.ts'
import { type FeedEntry, isShape } from './feed-frame.ts'

/** Where a verifier keeps what it knows; by default a file. Both may reject: the verifier goes on without. */
export interface StateStore {
  /** Undefined where nothing was saved yet. */
  load(): Promise<string | undefined>
  save(text: string): Promise<void>
}

export interface KeptState {
  /** The epoch up to which every live entry is among `entries`. */
  readonly reached: Epoch
  /** The highest epoch heard of. */
  readonly heardOf: Epoch
  /** The generation in which the log went back. */
  readonly forkedIn: number | undefined
  readonly entries: Iterable<FeedEntry>
  /** The newest signed note of each audit log. */
  readonly checkpoints: readonly string[]
}

type StateTrouble =
  /** Cut off, changed, or not ours: nothing of it is used, and the network is asked from the beginning. */
  | 'state_damaged'
  /** Of another issuer, or made with another key of the feed. */
  | 'state_of_another'
  | 'state_unreadable'
  | 'state_unwritable'

/** What went wrong with the kept state, for `onProblem`; the verifier goes on without it. */
export class KeptStateError extends Error {
  readonly code: StateTrouble
  constructor(code: StateTrouble, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'KeptStateError'
    this.code = code
  }
}

export interface Owner {
  readonly issuer: string
  readonly feedKey: Uint8Array
  readonly keyId: string
}

const FORMAT = 'errand verifier state 1'
const MAX_BYTES = 268_435_456
const ENTRIES_A_LINE = 2_000

/** Written in pieces: requests are answered in between. What is merged meanwhile may be in it, and harms nothing. */
export async function writeKept(state: KeptState, { issuer, feedKey, keyId }: Owner): Promise<string> {
  const { reached, heardOf, forkedIn, checkpoints } = state
  const lines = [
    JSON.stringify({
      format: FORMAT,
      issuer,
      key: keyId,
      reached: formatEpoch(reached),
      heard_of: formatEpoch(heardOf),
      ...(forkedIn === undefined ? {} : { forked_in: forkedIn }),
      checkpoints,
    }),
  ]
  let some: unknown[] = []
  for (const { epoch, shape, value, expiresAt, absolute } of state.entries) {
    some.push([formatEpoch(epoch), shape, value, expiresAt, absolute ? 1 : 0])
    if (some.length < ENTRIES_A_LINE) continue
    lines.push(JSON.stringify(some))
    some = []
    await new Promise((resolve) => setTimeout(resolve, 0))
  }
  if (some.length > 0) lines.push(JSON.stringify(some))
  const text = `${lines.join('\n')}\n`
  return `${text}${encodeBase64url(hmacSha256(feedKey, text))}\n`
}

/** Throws `KeptStateError` for anything but what `writeKept` wrote for the same owner. */
export function readKept(text: string, { issuer, feedKey, keyId }: Owner): KeptState {
  const damaged = () => new KeptStateError('state_damaged', 'the kept state is damaged and is not used')
  const end = text.lastIndexOf('\n', text.length - 2) + 1
  const lines = text.slice(0, end).split('\n').slice(0, -1)
  const head = json(lines[0] ?? '') as Readonly<Record<string, unknown>> | undefined
  if (text.length > MAX_BYTES || !text.endsWith('\n') || head?.['format'] !== FORMAT) throw damaged()
  if (head['issuer'] !== issuer || head['key'] !== keyId)
    throw new KeptStateError('state_of_another', 'the kept state is of another issuer or another key of the feed')
  const code = decodeBase64url(text.slice(end, -1))
  if (!code || !same(code, hmacSha256(feedKey, text.slice(0, end)))) throw damaged()
  const reached = parseEpoch(head['reached'])
  const heardOf = parseEpoch(head['heard_of'])
  const { forked_in: forkedIn, checkpoints } = head
  if (!reached || !heardOf || !Array.isArray(checkpoints)) throw damaged()
  const entries: FeedEntry[] = []
  for (const line of lines.slice(1))
    for (const [e, shape, value, expiresAt, absolute] of json(line) as [string, string, string, number, number][]) {
      const epoch = parseEpoch(e)
      if (!epoch || !isShape(shape)) throw damaged()
      entries.push({ epoch, shape, value, expiresAt, absolute: absolute === 1 })
    }
  return {
    reached,
    heardOf,
    forkedIn: typeof forkedIn === 'number' ? forkedIn : undefined,
    entries,
    checkpoints: checkpoints.filter((note) => typeof note === 'string'),
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, at) => byte === b[at])

interface Files {
  readonly process?: { readonly getBuiltinModule?: (id: string) => typeof import('node:fs/promises') | undefined }
}

/**
 * A file that is always whole, and readable by its owner alone. Of several processes that share one the highest state
 * stays. Throws where the runtime has no files.
 */
export function fileStore(path: string): StateStore {
  // Asked for and not imported: a bundle for a runtime that has none must load there all the same.
  const fs = (globalThis as Files).process?.getBuiltinModule?.('node:fs/promises')
  if (!fs) throw new TypeError('this runtime has no files: give state as { load, save }')
  const absent = (error: unknown) => {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
  async function firstLine(): Promise<string> {
    const file = await fs!.open(path, 'r').catch(absent)
    if (!file) return ''
    try {
      const { buffer, bytesRead } = await file.read(new Uint8Array(65_536), 0, 65_536, 0)
      return new TextDecoder().decode(buffer.subarray(0, bytesRead)).split('\n', 1)[0]!
    } finally {
      await file.close()
    }
  }
  return {
    load: () => fs.readFile(path, 'utf8').catch(absent),
    async save(text) {
      if (isHigher(await firstLine(), text.slice(0, text.indexOf('\n')))) return
      const next = `${path}.${randomBase64url(6)}.tmp`
      try {
        const file = await fs.open(next, 'wx', 0o600)
        try {
          await file.writeFile(text)
          await file.sync()
        } finally {
          await file.close()
        }
        await fs.rename(next, path)
      } catch (error) {
        await fs.rm(next, { force: true })
        throw error
      }
    },
  }
}

/** Whether what is there stands for the same log, further on. */
function isHigher(there: string, here: string): boolean {
  const [a, b] = [json(there), json(here)] as Readonly<Record<string, unknown>>[]
  const [further, nearer] = [parseEpoch(a?.['reached']), parseEpoch(b?.['reached'])]
  if (!further || !nearer || a!['issuer'] !== b!['issuer'] || a!['key'] !== b!['key']) return false
  return compareEpochs(further, nearer) > 0
}
