import { defineConfig } from 'vitest/config'
import { sources, workers } from './vitest.shared.ts'

export default defineConfig({
  resolve: sources,
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/faults/**', 'test/long/**'],
    pool: 'forks',
    maxWorkers: workers,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
})
