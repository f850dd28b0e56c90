/** Sets of policies in the data folder, one file each, named by the digest that tokens carry. */
import { randomBytes } from 'node:crypto'
import { access, mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeptPolicies, KeptPolicy } from '../../policy/kept-policies.ts'
import { realLogFiles } from './log-files.ts'

/** What `pol` of a token looks like: nothing else becomes a path. */
const DIGEST = /^[A-Za-z0-9_-]{12}$/

export function createKeptPolicies(folder: string): KeptPolicies {
  const pathOf = (digest: string) => join(folder, `${digest}.json`)
  return {
    async keep(digest, policies) {
      if (!DIGEST.test(digest)) throw new RangeError('not the digest of a set of policies')
      const there = await access(pathOf(digest)).then(
        () => true,
        () => false,
      )
      if (there) return
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const unfinished = join(folder, `.${randomBytes(8).toString('hex')}`)
      const file = await open(unfinished, 'wx', 0o600)
      try {
        await file.writeFile(`${JSON.stringify({ digest, policies })}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(unfinished, pathOf(digest))
      await realLogFiles().syncFolder(folder)
    },
    async find(digest) {
      if (!DIGEST.test(digest)) return undefined
      try {
        const read = JSON.parse(await readFile(pathOf(digest), 'utf8')) as { readonly policies: readonly KeptPolicy[] }
        return read.policies
      } catch {
        // Of another replica, or of a version that kept none.
        return undefined
      }
    },
  }
}
