/** What every test run shares: where the workspaces' sources are, and how much of the machine a run may take. */
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { ViteUserConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export const sources = {
  alias: [
    { find: /^@errand\/verifier$/, replacement: here('./sdk/verifier/src/index.ts') },
    { find: /^@errand\/verifier\/(.*)$/, replacement: `${here('./sdk/verifier/src/')}$1` },
    { find: /^@errand\/agent$/, replacement: here('./sdk/agent/src/index.ts') },
  ],
} satisfies ViteUserConfig['resolve']

/** Real processes, real fsync and a real Redis: more workers than this wait for one disk. */
export const workers = Math.min(4, availableParallelism())
