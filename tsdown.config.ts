/** Makes dist/: the service with the SDKs' sources bundled in and packages left outside, and each SDK in its own folder. */
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
    deps: { alwaysBundle: [/^@errand\//], neverBundle: [/^(?!@errand\/)(?:@[\w.-]+\/)?[a-z][\w.-]*(?:\/|$)/] },
    sourcemap: true,
    dts: false,
  },
  packageOf('verifier'),
  packageOf('agent'),
])
