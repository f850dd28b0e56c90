/** Killed, paused, cut off, out of disk: one story at a time, since each wants the machine for itself. */
import { defineConfig } from 'vitest/config'
import { sources } from './vitest.shared.ts'

export default defineConfig({
  resolve: sources,
  test: {
    include: ['test/faults/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
})
