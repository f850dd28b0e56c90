/** The revocation feed as files, for a web server or a CDN: what verifiers that start cold fetch, and nobody must trust. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { compareEpochs, type Epoch, formatEpoch, parseEpoch } from '@errand/verifier/epoch.ts'
import type { FeedFrame } from '../revoke/feed.ts'
import type { Relay } from '../revoke/relay.ts'

/** Frames that come close together are one file. */
const GATHER_MS = 200
const RETRY_MS = 1_000
const WAIT_SECONDS = 30
/** Whoever is further back begins with the snapshot. */
const MAX_DELTAS = 4_096

/** Resolves when `signal` says so; whatever it meets before is told and tried again. */
export async function writeFeed(
  relay: Pick<Relay, 'snapshot' | 'wait'>,
  folder: string,
  { signal, onProblem }: { readonly signal: AbortSignal; readonly onProblem: (problem: unknown) => void },
): Promise<void> {
  const deltas = join(folder, 'after')
  await mkdir(deltas, { recursive: true })
  const quiet = (ms: number) => pause(ms, undefined, { signal }).catch(() => undefined)

  async function write(name: string, { frame }: FeedFrame): Promise<void> {
    // Beside it and renamed: nobody reads half of one.
    const next = join(folder, `.${randomBytes(6).toString('hex')}.tmp`)
    try {
      await writeFile(next, JSON.stringify({ frame }))
      await rename(next, join(folder, name))
    } catch (error) {
      await rm(next, { force: true })
      throw error
    }
  }
  async function snapshot(): Promise<Epoch> {
    const made = await relay.snapshot()
    await write('snapshot.json', made)
    return parseEpoch(made.epoch)!
  }
  async function forget(): Promise<void> {
    const named = (await readdir(deltas)).map((name) => parseEpoch(name.replace(/\.json$/, ''))).filter((it) => !!it)
    const old = named.sort((a, b) => compareEpochs(b, a)).slice(MAX_DELTAS)
    for (const epoch of old) await rm(join(deltas, `${formatEpoch(epoch)}.json`), { force: true })
  }

  let at: Epoch | undefined
  while (!signal.aborted) {
    try {
      at ??= await snapshot()
      const delta = await relay.wait(at, WAIT_SECONDS, signal)
      const to = parseEpoch(delta.epoch)!
      if (to.generation !== at.generation) at = undefined
      else if (compareEpochs(to, at) > 0) {
        await write(join('after', `${formatEpoch(at)}.json`), delta)
        at = to
        await snapshot()
        await forget()
      } else await quiet(RETRY_MS)
      await quiet(GATHER_MS)
    } catch (error) {
      if (!signal.aborted) onProblem(error)
      await quiet(RETRY_MS)
    }
  }
}
