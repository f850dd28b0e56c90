/** SPIFFE bundles as they were last fetched, one file each, sealed: what a restart begins with is what was verified. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeptBundle, KeptBundles } from '../../config/bundle-endpoints.ts'

const LABEL = 'spiffe-bundle'

export function createKeptBundles({
  folder,
  seal,
  open: unseal,
}: {
  readonly folder: string
  readonly seal: (label: string, context: string, bytes: Uint8Array) => string
  /** Throws where the text is not what was sealed. */
  readonly open: (label: string, context: string, text: string) => Uint8Array
}): KeptBundles {
  const pathOf = (trustDomain: string) => join(folder, `${trustDomain}.sealed`)
  return {
    async read(trustDomain) {
      try {
        const text = await readFile(pathOf(trustDomain), 'latin1')
        return JSON.parse(Buffer.from(unseal(LABEL, trustDomain, text)).toString('utf8')) as KeptBundle
      } catch {
        // Not there, torn, or somebody else's: then it is fetched, as at the first start.
        return undefined
      }
    },
    async write(trustDomain, bundle) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const unfinished = join(folder, `.${randomBytes(8).toString('hex')}`)
      const file = await open(unfinished, 'wx', 0o600)
      try {
        await file.writeFile(seal(LABEL, trustDomain, Buffer.from(JSON.stringify(bundle))))
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(unfinished, pathOf(trustDomain))
    },
  }
}
