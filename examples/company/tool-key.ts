/** The key with which a tool API authenticates to Errand: made by the service on its first start. */
import { readFile } from 'node:fs/promises'
import type { JsonWebKey } from 'node:crypto'
import { type DemoSettings, fileIn, urlsOf } from './settings.ts'

/** Waits for the service, as long as the demo waits for us: everything is started at once. */
export async function toolKey(settings: DemoSettings, tool: string): Promise<JsonWebKey> {
  const until = Date.now() + 45_000
  for (;;) {
    const ready = await fetch(`${urlsOf(settings).errand}/ready`, { signal: AbortSignal.timeout(1000) }).catch(
      () => undefined,
    )
    if (ready?.ok) break
    if (Date.now() > until) throw new Error('the Errand service did not become ready')
    await new Promise((later) => setTimeout(later, 25))
  }
  return JSON.parse(await readFile(fileIn(settings, 'keys', 'tools', `${tool}.jwk`), 'utf8')) as JsonWebKey
}
