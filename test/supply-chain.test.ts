/** What comes in by npm: exact, public, verified by digest, and never run while it is installed (SECURITY-CASES U). */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

interface Manifest {
  readonly name: string
  readonly private?: boolean
  readonly scripts?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}
interface Locked {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly link?: boolean
  readonly dev?: boolean
  readonly hasInstallScript?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const MANIFESTS = ['package.json', 'sdk/verifier/package.json', 'sdk/agent/package.json']
const manifests = MANIFESTS.map((path) => ({ path, ...(JSON.parse(read(path)) as Manifest) }))
const lock = JSON.parse(read('package-lock.json')) as { readonly packages: Readonly<Record<string, Locked>> }
const installed = Object.entries(lock.packages).filter(([path]) => path.startsWith('node_modules/'))
const fetched = installed.filter(([, { link }]) => !link)

/** npm runs these by itself. */
const LIFECYCLE = /^(?:(?:pre|post)?(?:install|prepare|publish|pack|version)|prepublishOnly|dependencies)$/

/** What a package could do harm with, beyond computing. */
const REACH = [
  'child_process',
  'cluster',
  'dgram',
  'dns',
  'fs',
  'http',
  'http2',
  'https',
  'inspector',
  'net',
  'tls',
  'vm',
  'worker_threads',
]
const IMPORT = new RegExp(
  `(?:\\bfrom|\\bimport|\\brequire|getBuiltinModule)[\\s(]*['"\`](?:node:)?(${REACH.join('|')})(?:/[a-z]+)?['"\`]`,
  'g',
)

/** System modules that a package's scripts name, and `native` where it brings a binary. */
function reachOf(path: string): readonly string[] {
  const root = new URL(`../${path}/`, import.meta.url)
  const found = new Set<string>()
  let names: readonly string[]
  try {
    names = readdirSync(root, { recursive: true }) as readonly string[]
  } catch {
    return []
  }
  for (const name of names) {
    // Nested packages are looked at by themselves; tests and examples are not loaded.
    if (/(?:^|[\\/])(?:node_modules|tests?|bench(?:marks?)?|examples?)[\\/]/.test(name)) continue
    if (name.endsWith('.node')) found.add('native')
    if (!/\.[cm]?js$/.test(name)) continue
    for (const [, module] of readFileSync(new URL(name, root), 'utf8').matchAll(IMPORT)) found.add(module!)
  }
  return [...found].sort()
}

describe('the supply chain', () => {
  it('U1 no install script runs: .npmrc says so, and what the service needs has none', () => {
    expect(read('.npmrc').split('\n')).toContain('ignore-scripts=true')
    expect(installed.filter(([, { hasInstallScript, dev }]) => hasInstallScript && !dev)).toEqual([])
    // These work without theirs: their binaries come as packages of their own.
    expect(installed.filter(([, each]) => each.hasInstallScript).map(([path]) => path)).toEqual([
      'node_modules/esbuild',
    ])
  })

  it('U1 no package of ours has a lifecycle script, or one that runs before or after another', () => {
    for (const { path, scripts = {} } of manifests) {
      const names = Object.keys(scripts)
      const hooks = names.filter(
        (name) => LIFECYCLE.test(name) || names.some((of) => [`pre${of}`, `post${of}`].includes(name)),
      )
      expect(hooks, path).toEqual([])
    }
  })

  it('U2 every locked package has its digest, and comes from the public npm registry where it says from where', () => {
    expect(fetched.length).toBeGreaterThan(100)
    expect(fetched.filter(([, { integrity }]) => !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? ''))).toEqual([])
    const elsewhere = fetched.filter(
      ([, { resolved }]) => resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/'),
    )
    expect(elsewhere).toEqual([])
    expect(installed.filter(([, { link }]) => link).map(([, { resolved }]) => resolved)).toEqual([
      'sdk/agent',
      'sdk/verifier',
    ])
  })

  it('U2 the lock file holds the packages of every platform, without which npm ci refuses it elsewhere', () => {
    const found = (from: string, name: string): boolean => {
      if (lock.packages[`${from === '' ? '' : `${from}/`}node_modules/${name}`]) return true
      return from !== '' && found(from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/'))), name)
    }
    const absent = installed.flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies)
        .filter((name) => !found(path, name))
        .map((name) => `${path}: ${name}`),
    )
    expect(absent).toEqual([])
  })

  it('U2 every version is exact, and the lock file has it', () => {
    for (const { path, dependencies, devDependencies, peerDependencies, optionalDependencies } of manifests) {
      expect(peerDependencies, path).toBeUndefined()
      expect(optionalDependencies, path).toBeUndefined()
      for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
        expect(version, `${path}: ${name}`).toMatch(/^\d+\.\d+\.\d+(?:-[\w.]+)?$/)
        expect(lock.packages[`node_modules/${name}`]?.version, `${path}: ${name}`).toBe(version)
      }
    }
  })

  it('U3 what each package reaches for is on the list: what starts to use the network or processes is looked at', () => {
    const agreed = JSON.parse(read('test/supply-chain.json')) as Readonly<Record<string, readonly string[]>>
    const reached = Object.fromEntries(
      fetched
        .filter(([, { dev }]) => !dev)
        .map(([path]): [string, readonly string[]] => [path.replace(/^node_modules\//, ''), reachOf(path)])
        .filter(([, reach]) => reach.length > 0),
    )
    // Packages for other platforms are not here; what is here must be agreed.
    expect(reached).toEqual(Object.fromEntries(Object.keys(reached).map((name) => [name, agreed[name] ?? []])))
  })

  it('gives tool owners jose, and agent developers nothing', () => {
    const [, verifier, agent] = manifests
    expect(verifier).toMatchObject({ name: '@errand/verifier', dependencies: { jose: expect.any(String) } })
    expect(Object.keys(verifier?.dependencies ?? {})).toEqual(['jose'])
    expect(agent).toMatchObject({ name: '@errand/agent' })
    for (const each of [verifier, agent])
      expect([each?.devDependencies, each?.scripts, each?.private]).toEqual([undefined, undefined, undefined])
    expect(agent?.dependencies).toBeUndefined()
  })
})
