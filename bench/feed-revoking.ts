/**
 * Somebody who revokes while the service is at its capacity: a process of its own, so that no answer waits for the load.
 * argv: issuer, path of an administrator's key file. Told `{ millis }` it revokes for so long, one after the other with a
 * pause between, and says how many milliseconds each took from sending to its answer.
 */
import { setPriority } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { createClient } from '../src/cli/client.ts'
import { readPrivateJwkFile } from '../src/keys/private-jwk.ts'

const BETWEEN_MS = 20

try {
  // It stands for somebody on another machine: the load of this one must not be in its way.
  setPriority(-20)
} catch {
  // Only root may; then what it measures holds some of the load's own waiting.
}
const [issuer = '', keyFile = ''] = process.argv.slice(2)
const key = await readPrivateJwkFile(keyFile)
const cli = { fetch: globalThis.fetch, now: () => Date.now() / 1000, signal: new AbortController().signal }
const client = createClient(cli, { url: issuer, issuer }, { clientId: 'admin', key })
const revoke = (aud: string) => client.post('/revocations', { match: { aud }, mode: 'cut', reason: 'a measurement' })

// It has learnt its nonce, and its code is warm.
for (let time = 0; time < 50; time++) await revoke(`https://nobody.example/warm-${time}`)
process.on('message', async ({ millis }: { readonly millis: number }) => {
  const times: number[] = []
  for (const until = performance.now() + millis; performance.now() < until; ) {
    const began = performance.now()
    await revoke(`https://nobody.example/${times.length}`)
    times.push(performance.now() - began)
    await pause(BETWEEN_MS)
  }
  process.send!({ times })
})
process.send!({ ready: true })
