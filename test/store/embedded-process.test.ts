/** The embedded store across real processes: one at a time, and nothing acknowledged is lost when one is killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { fresh, range, START } from '../contract/world.ts'

const writer = fileURLToPath(new URL('./embedded-writer.ts', import.meta.url))
const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

describe('a process with the embedded store', () => {
  const children: ChildProcess[] = []
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  /** Runs until it has acknowledged `count` steps, and answers what it had said when it was killed. */
  async function killedAfter(dataDir: string, count: number): Promise<readonly string[]> {
    const child = spawn(process.execPath, ['--import', 'tsx', writer, dataDir, fresh('run')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    const exited = once(child, 'exit')
    const lines: string[] = []
    for await (const line of createInterface({ input: child.stdout! })) {
      lines.push(line)
      if (lines.length === count) child.kill('SIGKILL')
    }
    await exited
    return lines
  }
  const open = (dataDir: string) =>
    openStores({ store: { kind: 'embedded' }, dataDir, now: () => START, monotonic: () => performance.now() })

  it('P3 holds the folder against any other, and lets go of it however it ends', async () => {
    const dataDir = join(base, fresh('data'))
    const child = spawn(process.execPath, ['--import', 'tsx', writer, dataDir, 'holder'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    await once(child.stdout!, 'data')
    child.stdout!.resume()
    await expect(open(dataDir)).rejects.toMatchObject({ code: 'store_locked' })
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    // No pid was written down, so none can be mistaken for it.
    await (await open(dataDir)).close()
  })

  it('L7 loses nothing it acknowledged when it is killed at any moment', async () => {
    const dataDir = join(base, fresh('data'))
    const said = new Set<string>()
    for (const round of range(4)) for (const line of await killedAfter(dataDir, 50 + round * 77)) said.add(line)
    const stores = await open(dataDir)
    const rev = { generation: 1, sequence: 0 }
    for (const id of said) {
      expect([id, await stores.replayGuard.spend(id, START + 60)]).toEqual([id, false])
      expect((await stores.revocations.check({ hops: [{ facts: { jti: id }, rev }] })).dead?.hop).toBe(0)
    }
    const places = (await stores.revocations.after()).map(({ epoch }) => epoch.sequence)
    expect(places).toEqual(range(places.length).map((n) => n + 1))
    expect(places.length).toBeGreaterThanOrEqual(said.size)
    await stores.close()
  })
})
