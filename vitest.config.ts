import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^@errand\/verifier$/, replacement: here('./sdk/verifier/src/index.ts') },
      { find: /^@errand\/verifier\/(.*)$/, replacement: `${here('./sdk/verifier/src/')}$1` },
      { find: /^@errand\/agent$/, replacement: here('./sdk/agent/src/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/faults/**', 'test/long/**'],
    // Real processes, real fsync and a real Redis share two cores in CI.
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
