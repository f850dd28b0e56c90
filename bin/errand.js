#!/usr/bin/env node
// Starts the CLI: from src/ in a clone, through tsx, else from dist/. Plain JavaScript that an old Node can still parse.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(
    `errand needs Node 20.19 or newer, and this is ${process.versions.node}. Install a current release from https://nodejs.org\n`,
  )
  process.exit(2)
}

// Cedar's WebAssembly is quick enough as V8 first compiles it; compiling it again, better, holds some 40 MB. And it is
// looked through as it is compiled, function by function: most of it is never called.
setFlagsFromString('--liftoff-only')
setFlagsFromString('--wasm-lazy-validation')
const inPackage = (path) => new URL(`../${path}`, import.meta.url)
const source = inPackage('src/cli/main.ts')
const built = inPackage('dist/cli/main.js')

async function load() {
  if (!existsSync(source)) return import(built.href)
  const { register } = await import('tsx/esm/api')
  // The package's own tsconfig (its paths lead to sdk/), whatever folder this was started from.
  register({ tsconfig: fileURLToPath(inPackage('tsconfig.json')) })
  return import(source.href)
}

if (!existsSync(source) && !existsSync(built)) {
  process.stderr.write(
    'errand is not whole: neither src/ nor dist/ is there. Install it again, or run npm run build.\n',
  )
  process.exit(2)
}

// What is no longer used is collected once it is a fifth of what is: of keys, the most lies outside the heap, where V8
// does not see it. Not before the service has started: what a start makes stays, and looking through it again and again
// is a tenth of its time.
const onServing = () => setFlagsFromString('--heap-growing-percent=20')

const { main } = await load()
process.exitCode = await main(process.argv.slice(2), { onServing })
