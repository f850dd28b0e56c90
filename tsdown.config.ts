/** Makes dist/: the service with the SDKs' sources bundled in and packages but zod left outside, and each SDK in its folder. */
import { defineConfig, type UserConfig } from 'tsdown'

const common = {
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  fixedExtension: false,
  outputOptions: { chunkFileNames: 'chunks/[name]-[hash].js' },
  // The sources of sdk/ are found by the `paths` of this file; whatever else has a bare name is a package.
  tsconfig: 'tsconfig.json',
  report: false,
} satisfies UserConfig

const packageOf = (name: string): UserConfig => ({
  ...common,
  name,
  cwd: `sdk/${name}`,
  tsconfig: '../../tsconfig.json',
  entry: { index: 'src/index.ts' },
  outDir: 'dist',
  dts: true,
})

export default defineConfig([
  {
    ...common,
    name: 'service',
    entry: { main: 'src/main.ts', 'cli/main': 'src/cli/main.ts' },
    outDir: 'dist',
    // zod is some ninety files, most of them languages that nobody is told anything in: in one file with what uses it,
    // and without the rest, the service starts 70 ms sooner.
    deps: {
      alwaysBundle: [/^@errand\//, /^zod(?:\/|$)/],
      neverBundle: [/^(?!@errand\/|zod(?:\/|$))(?:@[\w.-]+\/)?[a-z][\w.-]*(?:\/|$)/],
    },
    sourcemap: true,
    dts: false,
  },
  packageOf('verifier'),
  packageOf('agent'),
])
