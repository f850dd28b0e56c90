/** Nothing that a user can meet is left out of the pages, and no link leads nowhere. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { ROUTES } from '../../src/http/app.ts'
import { cliVerbs } from '../../tools/cli-reference.ts'
import { configurationFiles } from '../../tools/configuration-reference.ts'
import { filesUnder, ROOT } from '../../tools/files.ts'
import { routeName } from '../../tools/http-reference.ts'
import { renderReferences } from '../../tools/references.ts'
import { anchorsOf, linksOf, PAGES, textOf } from './pages.ts'

const LINKED = [
  ...PAGES,
  ...filesUnder('examples', 'README.md'),
  'keys/README.md',
  'sdk/agent/README.md',
  'sdk/verifier/README.md',
]

describe('links', () => {
  it.each(LINKED)('of %s lead to what exists', (page) => {
    const dead = linksOf(page).flatMap(({ target, line }) => {
      if (/^(https?|mailto):/.test(target)) return []
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? page : normalize(join(dirname(page), path))
      const at = join(ROOT, file)
      if (file.startsWith('..') || !existsSync(at)) return [`${page}:${line} ${target}: no such file`]
      if (anchor === undefined || !statSync(at).isFile() || !file.endsWith('.md')) return []
      return anchorsOf(readFileSync(at, 'utf8')).has(anchor) ? [] : [`${page}:${line} ${target}: no such heading`]
    })
    expect(dead).toEqual([])
  })

  it.each(LINKED)('files that %s names exist', (page) => {
    // The table of security cases is made from the files themselves.
    if (page === 'docs/security-cases.md') return
    const names = [...textOf(page).matchAll(/`((?:test|src|sdk|examples|tools|config\/schemas)\/[\w./-]+\.\w+)`/g)]
    expect(names.map(([, name]) => name!).filter((name) => !existsSync(join(ROOT, name)))).toEqual([])
  })

  it('leave no page of docs/ without a way to it', () => {
    const targets = new Set(
      PAGES.flatMap((page) =>
        linksOf(page).map(({ target }) => normalize(join(dirname(page), target.split('#')[0] ?? ''))),
      ),
    )
    expect(PAGES.filter((page) => page !== 'README.md' && !targets.has(page))).toEqual([])
  })
})

describe('references', () => {
  it('are what the code makes: npm run generate', async () => {
    for (const [path, text] of await renderReferences(ROUTES)) expect(textOf(path) === text, path).toBe(true)
  })

  it('name every endpoint, verb and key', async () => {
    const http = textOf('docs/http.md')
    const cli = textOf('docs/cli.md')
    const configuration = textOf('docs/configuration.md')
    const missing = [
      ...ROUTES.map(routeName).filter((name) => !http.includes(`\`${name}\``)),
      ...(await cliVerbs()).map((verb) => `errand ${verb.join(' ')}`).filter((name) => !cli.includes(`## ${name}\n`)),
      ...configurationFiles().flatMap(({ keys }) =>
        keys.map(({ path }) => path).filter((path) => !configuration.includes(`| \`${path}\` |`)),
      ),
    ]
    expect(missing).toEqual([])
  })

  it('say of every key of the configuration what it does', () => {
    const silent = configurationFiles().flatMap(({ title, keys }) =>
      keys
        .filter(({ path, description }) => {
          const above = keys.find((key) => path.startsWith(`${key.path}.`))
          return description === '' && !above?.description
        })
        .map(({ path }) => `${title} ${path}`),
    )
    expect(silent).toEqual([])
  })

  it('name every form parameter of the token endpoint and every query parameter', () => {
    const http = textOf('docs/http.md')
    const token = ROUTES.find(({ path }) => path === '/token')!
    const parameters = Object.keys((token.form as unknown as { shape: object }).shape)
    const queries = ROUTES.flatMap(({ query }) => Object.keys(query ?? {}))
    expect([...parameters, ...queries].filter((name) => !new RegExp(`[\`?&]${name}[\`=]`).test(http))).toEqual([])
  })

  it('name every option of the verifier and every code it refuses with', () => {
    const path = join(ROOT, 'sdk/verifier/src/index.ts')
    const program = ts.createProgram([path], {
      allowImportingTsExtensions: true,
      noEmit: true,
      types: ['node'],
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      strict: true,
      skipLibCheck: true,
    })
    const checker = program.getTypeChecker()
    const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path)!)!)
    const typeOf = (name: string): ts.Type =>
      checker.getDeclaredTypeOfSymbol(checker.getAliasedSymbol(exported.find((each) => each.name === name)!))
    const codes = (typeOf('RefusalCode') as ts.UnionType).types.map((type) => (type as ts.StringLiteralType).value)
    // Clocks and the like are for tests.
    const options = typeOf('VerifierOptions')
      .getProperties()
      .map(({ name }) => name)
      .filter((name) => !['fetch', 'now', 'monotonic', 'random'].includes(name))
    expect(codes.length).toBeGreaterThan(30)
    const page = textOf('docs/verifier.md')
    const both = page + textOf('docs/http.md')
    expect(codes.filter((code) => !both.includes(`\`${code}\``))).toEqual([])
    expect(options.filter((name) => !new RegExp(`\`${name}[\`(]`).test(page))).toEqual([])
  })
})
