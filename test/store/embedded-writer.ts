/** A process that writes to the embedded store until it is killed, and says each step once it was acknowledged. */
import { openStores } from '../../src/store/open.ts'
import { say } from './say.ts'

const [dataDir, run] = process.argv.slice(2)
if (dataDir === undefined || run === undefined)
  throw new Error('usage: embedded-writer <data folder> <name of the run>')
const now = () => 1_700_000_000
const stores = await openStores({ store: { kind: 'embedded' }, dataDir, now, monotonic: () => performance.now() })

async function write(lane: number): Promise<void> {
  for (let n = 0; ; n++) {
    const id = `${run}/${lane}/${n}`
    const revocation = { id: `rev_${id}`, match: { jti: id }, mode: 'cut', reason: 'test', by: 'admin' } as const
    await Promise.all([
      stores.replayGuard.spend(id, now() + 60),
      stores.revocations.add({ ...revocation, at: now(), expiresAt: now() + 3600 }),
    ])
    // What was not said when it was killed was not acknowledged.
    say(id)
  }
}
await Promise.all([1, 2, 3, 4].map(write))
