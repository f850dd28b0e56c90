/** What takes too long for every push: many rounds, big stores, soaks. One at a time. */
import { defineConfig } from 'vitest/config'
import { sources } from './vitest.shared.ts'

export default defineConfig({
  resolve: sources,
  test: {
    include: ['test/long/**/*.test.ts'],
    // A part that has no long test yet is no failure.
    passWithNoTests: true,
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 3_600_000,
    hookTimeout: 60_000,
  },
})
