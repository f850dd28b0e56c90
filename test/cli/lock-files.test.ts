import { describe, expect, it } from 'vitest'
import { componentsOf, LOCK_FILES } from '../../src/cli/lock-files.ts'

describe('components of a lock file', () => {
  const read: readonly [string, string, readonly string[]][] = [
    [
      'package-lock.json',
      JSON.stringify({
        lockfileVersion: 3,
        packages: {
          '': { name: 'research', version: '1.0.0' },
          'node_modules/hono': { version: '4.11.4' },
          'node_modules/@scope/name': { version: '1.0.0-rc.1+build' },
          'node_modules/a/node_modules/hono': { version: '4.0.0' },
          'node_modules/alias': { name: 'real', version: '2.0.0' },
          'node_modules/vitest': { version: '4.1.11', dev: true },
          'node_modules/workspace': { resolved: 'packages/workspace', link: true },
          'packages/workspace': { version: '0.0.1' },
        },
      }),
      ['pkg:npm/%40scope/name@1.0.0-rc.1%2Bbuild', 'pkg:npm/hono@4.0.0', 'pkg:npm/hono@4.11.4', 'pkg:npm/real@2.0.0'],
    ],
    [
      'pnpm-lock.yaml',
      "lockfileVersion: '9.0'\npackages:\n  '@scope/name@1.0.0': { resolution: { integrity: x } }\n  hono@4.11.4(zod@4.0.0): {}\n  /old@1.0.0: { dev: true }\n  own@git+ssh://git@b.example/own: {}\n",
      ['pkg:npm/%40scope/name@1.0.0', 'pkg:npm/hono@4.11.4', 'pkg:npm/own@git%2Bssh%3A%2F%2Fgit%40b.example%2Fown'],
    ],
    [
      'yarn.lock',
      '# yarn lockfile v1\n\n"@scope/name@^1.0.0", "@scope/name@~1.0.1":\n  version "1.0.2"\n  resolved "x"\n\nhono@^4.0.0:\n  version "4.11.4"\n',
      ['pkg:npm/%40scope/name@1.0.2', 'pkg:npm/hono@4.11.4'],
    ],
    [
      'app/yarn.lock',
      '__metadata:\n  version: 8\n\n"hono@npm:^4.0.0":\n  version: 4.11.4\n\n"research@workspace:.":\n  version: 0.0.0-use.local\n',
      ['pkg:npm/hono@4.11.4'],
    ],
    [
      'requirements.txt',
      '# pinned\nlitellm==1.82.8\nPyJWT[crypto]==2.10.1 ; python_version >= "3.9" --hash=sha256:aa\nzope_interface === 7.0 \\\n    --hash=sha256:bb\n--index-url https://pypi.org/simple\n',
      ['pkg:pypi/litellm@1.82.8', 'pkg:pypi/pyjwt@2.10.1', 'pkg:pypi/zope-interface@7.0'],
    ],
    [
      'uv.lock',
      'version = 1\n\n[[package]]\nname = "litellm"\nversion = "1.82.8"\nsource = { registry = "https://pypi.org/simple" }\ndependencies = [\n    { name = "httpx" },\n]\n\n[package.metadata]\nversion = "9"\n\n[[package]]\nname = "research"\nversion = "0.1.0"\nsource = { virtual = "." }\n',
      ['pkg:pypi/litellm@1.82.8'],
    ],
    [
      'poetry.lock',
      '[[package]]\nname = "Zope.Interface"\nversion = "7.0"\n\n[package.dependencies]\nsetuptools = "*"\n\n[metadata]\nlock-version = "2.0"\n',
      ['pkg:pypi/zope-interface@7.0'],
    ],
    [
      'Cargo.lock',
      '[[package]]\nname = "serde"\nversion = "1.0.1"\nsource = "registry+https://github.com/rust-lang/crates.io-index"\n\n[[package]]\nname = "own"\nversion = "0.1.0"\n',
      ['pkg:cargo/serde@1.0.1'],
    ],
    [
      'go.sum',
      'golang.org/x/net v0.30.0 h1:abc=\ngolang.org/x/net v0.30.0/go.mod h1:def=\ngithub.com/a/b v1.0.0+incompatible h1:x=\n',
      ['pkg:golang/github.com/a/b@v1.0.0%2Bincompatible', 'pkg:golang/golang.org/x/net@v0.30.0'],
    ],
  ]
  for (const [file, text, components] of read)
    it(`${file} are what it pins`, () => expect(componentsOf(file, text)).toEqual(components))

  it('are read of every kind that is looked for', () => {
    const tried = new Set(read.map(([file]) => file.slice(file.lastIndexOf('/') + 1)))
    expect(LOCK_FILES.filter((file) => !tried.has(file))).toEqual(['npm-shrinkwrap.json'])
  })

  const refused: readonly [string, string, string][] = [
    ['package-lock.json', '{', 'is not JSON'],
    ['package-lock.json', '{"lockfileVersion":1,"dependencies":{}}', 'has no "packages": write it with npm 7 or newer'],
    ['package-lock.json', '{"packages":{"node_modules/x":{}}}', 'has no version for node_modules/x'],
    ['pnpm-lock.yaml', 'packages: { hono: {} }', 'has an entry without a version: hono'],
    ['requirements.txt', 'litellm>=1.0', 'has a line that pins no version: litellm>=1.0'],
    [
      'requirements.txt',
      'git+https://example.com/x.git',
      'has a line that pins no version: git+https://example.com/x.git',
    ],
    ['requirements.txt', '-r other.txt', 'has a line that pins no version: -r other.txt'],
    ['uv.lock', '[[package]]\nname = "x"\n', 'has no version for x'],
    ['go.sum', 'golang.org/x/net v0.30.0', 'has a line that is not: module version h1:…'],
    ['Gemfile.lock', '', `is no lock file that is known here: ${LOCK_FILES.join(', ')}`],
  ]
  for (const [file, text, why] of refused)
    it(`${file} are refused where one ${why}`, () => expect(() => componentsOf(file, text)).toThrow(why))
})
