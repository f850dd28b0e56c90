/**
 * Components with their versions, as package URLs, out of the lock files that people have. What a lock file does not pin
 * is refused: a component without a version cannot be found again when it turns bad.
 */
import { parse } from 'yaml'

/** File name → reader. Throws `LockFileFault`. */
const READERS: Readonly<Record<string, (text: string) => Iterable<string>>> = {
  'package-lock.json': npmLock,
  'npm-shrinkwrap.json': npmLock,
  'pnpm-lock.yaml': pnpmLock,
  'yarn.lock': yarnLock,
  'requirements.txt': requirements,
  'uv.lock': (text) => tomlPackages(text, 'pypi'),
  'poetry.lock': (text) => tomlPackages(text, 'pypi'),
  'Cargo.lock': (text) => tomlPackages(text, 'cargo'),
  'go.sum': goSum,
}

export const LOCK_FILES = Object.keys(READERS)

export class LockFileFault extends Error {}

/** Sorted, each once. */
export function componentsOf(file: string, text: string): readonly string[] {
  const reader = READERS[file.slice(file.lastIndexOf('/') + 1)]
  if (!reader) throw new LockFileFault(`is no lock file that is known here: ${LOCK_FILES.join(', ')}`)
  return [...new Set(reader(text))].sort()
}

type Ecosystem = 'npm' | 'pypi' | 'golang' | 'cargo'

/** purl-spec: each segment of the name and the version percent-encoded; names of PyPI lower-case with dashes. */
function purl(ecosystem: Ecosystem, name: string, version: string): string {
  const plain = ecosystem === 'pypi' ? name.toLowerCase().replace(/[-_.]+/g, '-') : name
  const path = plain.split('/').map(encodeURIComponent).join('/')
  return `pkg:${ecosystem}/${path}@${encodeURIComponent(version)}`
}

const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Lock file versions 2 and 3: what is for development only is not in the image. */
function* npmLock(text: string): Generator<string> {
  let lock: unknown
  try {
    lock = JSON.parse(text)
  } catch {
    throw new LockFileFault('is not JSON')
  }
  const packages = isRecord(lock) ? lock['packages'] : undefined
  if (!isRecord(packages)) throw new LockFileFault('has no "packages": write it with npm 7 or newer')
  for (const [place, entry] of Object.entries(packages)) {
    const at = place.lastIndexOf('node_modules/')
    if (at < 0 || !isRecord(entry) || entry['link'] === true || entry['dev'] === true) continue
    const { name, version } = entry
    if (typeof version !== 'string') throw new LockFileFault(`has no version for ${place}`)
    yield purl('npm', typeof name === 'string' ? name : place.slice(at + 'node_modules/'.length), version)
  }
}

/** Keys of `packages`: `name@1.0.0(peer@2.0.0)`, before lock file version 9 with a slash in front. */
function* pnpmLock(text: string): Generator<string> {
  let lock: unknown
  try {
    lock = parse(text, { maxAliasCount: 0 })
  } catch {
    throw new LockFileFault('is not YAML')
  }
  const packages = isRecord(lock) ? lock['packages'] : undefined
  if (!isRecord(packages)) throw new LockFileFault('has no "packages"')
  for (const [key, entry] of Object.entries(packages)) {
    if (isRecord(entry) && entry['dev'] === true) continue
    const plain = key.replace(/^\//, '').replace(/\(.*$/, '')
    // The first one after a scope: a version may be an address with one of its own.
    const at = plain.indexOf('@', 1)
    if (at < 0) throw new LockFileFault(`has an entry without a version: ${key.slice(0, 80)}`)
    yield purl('npm', plain.slice(0, at), plain.slice(at + 1))
  }
}

/** Version 1 and Berry: `"name@^1.0.0, name@^1.1.0":`, and below it `version "1.2.0"` or `version: 1.2.0`. */
function* yarnLock(text: string): Generator<string> {
  let name: string | undefined
  for (const line of text.split('\n')) {
    const head = /^"?((?:@[^@/\s"]+\/)?[^@\s"]+)@([^\s].*):\s*$/.exec(line)
    if (head) name = /(?:^|@)(?:workspace|link|portal):/.test(head[2]!) ? undefined : head[1]!
    const version = /^ {2}version:? "?([^"\s]+)"?\s*$/.exec(line)?.[1]
    if (name === undefined || version === undefined) continue
    yield purl('npm', name, version)
    name = undefined
  }
}

/** Pinned lines alone; what installs from elsewhere or without a version is refused. */
function* requirements(text: string): Generator<string> {
  for (const line of text.replace(/\\\r?\n/g, ' ').split('\n')) {
    const plain = line.replace(/(?:^|\s)#.*$/, '').trim()
    if (plain === '' || /^--(?:hash|index-url|extra-index-url|no-index|only-binary|no-binary)\b/.test(plain)) continue
    const pinned =
      /^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[A-Za-z0-9,._ -]*\])?\s*===?\s*([A-Za-z0-9.!+_-]+)(?=$|[\s;])/.exec(plain)
    if (!pinned) throw new LockFileFault(`has a line that pins no version: ${plain.slice(0, 60)}`)
    yield purl('pypi', pinned[1]!, pinned[2]!)
  }
}

/** `[[package]]` tables with `name` and `version`, as uv, Poetry and Cargo write them. */
function* tomlPackages(text: string, ecosystem: 'pypi' | 'cargo'): Generator<string> {
  for (const block of text.split(/^\[\[package\]\]\s*$/m).slice(1)) {
    // Up to the next table, whatever it is.
    const own = block.split(/^\[/m, 1)[0]!
    const name = /^name = "([^"]{1,200})"\s*$/m.exec(own)?.[1]
    const version = /^version = "([^"]{1,100})"\s*$/m.exec(own)?.[1]
    if (name === undefined) throw new LockFileFault('has a package without a name')
    // The project itself, which is no component of itself.
    if (/^source = \{ (?:virtual|editable|directory|workspace) = /m.test(own)) continue
    if (ecosystem === 'cargo' && !/^source = /m.test(own)) continue
    if (version === undefined) throw new LockFileFault(`has no version for ${name}`)
    yield purl(ecosystem, name, version)
  }
}

/** `module version h1:…`; lines of `/go.mod` are of modules that were only looked at. */
function* goSum(text: string): Generator<string> {
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue
    const [name, version, sum] = line.trim().split(/\s+/)
    if (name === undefined || version === undefined || !sum?.startsWith('h1:'))
      throw new LockFileFault('has a line that is not: module version h1:…')
    if (!version.endsWith('/go.mod')) yield purl('golang', name, version)
  }
}
