/** Makes dist/: the service with the SDKs' sources and most packages bundled in, and each SDK in its folder. */
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

/** What brings WebAssembly or native code, and what is loaded only where it is asked for. */
const OUTSIDE = /^(?:@cedar-policy\/cedar-wasm|libsql|ioredis|@clack\/prompts|@sigstore\/[\w-]+)(?:\/|$)/

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
    // The packages that every start loads are some four hundred files: in one file with what uses them, and without what
    // nobody uses, the service starts with a third less of CPU. They stay dependencies, so that they are installed,
    // licences and all, wherever dist/ is.
    deps: {
      alwaysBundle: (id) => !OUTSIDE.test(id),
      neverBundle: OUTSIDE,
      onlyBundle: false,
    },
    sourcemap: true,
    dts: false,
  },
  packageOf('verifier'),
  packageOf('agent'),
])
