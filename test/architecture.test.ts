/** The rooms of the house, executable: who may import whom, which package lives where, and what no file does. */
import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { filesUnder, ROOT } from '../tools/files.ts'

/** Imports point up this list: a room imports only rooms above it, and the verifier's contract. */
const ROOMS = [
  'oauth',
  'audit',
  'keys',
  'attest',
  'policy',
  'tasks',
  'tokens',
  'approve',
  'exchange',
  'broker',
  'rotate',
  'revoke',
  'config',
  'secrets',
  'store',
  'http',
  'console',
  'cli',
  'main.ts',
] as const

/** So that replacing a package touches one room. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  keys: ['jose', '@peculiar/x509', 'reflect-metadata'],
  attest: [
    'jose',
    'zod',
    '@peculiar/x509',
    'reflect-metadata',
    '@sigstore/bundle',
    '@sigstore/protobuf-specs',
    '@sigstore/verify',
  ],
  policy: ['@cedar-policy/cedar-wasm'],
  tokens: ['jose', 'zod'],
  config: ['zod', 'yaml'],
  secrets: ['node-vault', 'oauth4webapi'],
  store: ['libsql', 'ioredis'],
  http: ['hono', '@hono/node-server', 'zod', 'pino', 'prom-client', '@opentelemetry/api'],
  console: ['hono'],
  cli: ['citty', '@clack/prompts', 'picocolors', 'yaml'],
  'main.ts': ['@hono/node-server', 'pino', 'prom-client', '@opentelemetry/api'],
  'sdk/verifier': ['jose'],
  'sdk/agent': [],
}

/** Where the world comes in: everybody else is handed what they need. */
const ENTRIES = ['src/main.ts', 'src/cli/main.ts']
/** Adapters are opened here and by tests. */
const OPENERS = ['store', 'secrets', 'cli', 'main.ts']

interface Source {
  readonly path: string
  readonly room: string
  readonly text: string
  readonly imports: readonly string[]
}

const sourcesIn = (folder: string): readonly Source[] =>
  filesUnder(folder, '.ts').map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    const imports = ts.preProcessFile(text, true, true).importedFiles.map((each) => each.fileName)
    return { path, room: roomOf(path), text, imports }
  })

function roomOf(path: string): string {
  const [top = '', second = ''] = path.split('/')
  // What stands beside main.ts is a part of it: it opens rooms, and no room imports it.
  if (top === 'src') return second.endsWith('.ts') ? 'main.ts' : second
  return `${top}/${second}`
}

type Target = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'package'; readonly name: string }

function targetOf(from: string, specifier: string): Target | undefined {
  if (specifier.startsWith('node:')) return undefined
  if (specifier.startsWith('.')) return { kind: 'file', path: normalize(join(dirname(from), specifier)) }
  const own = /^@errand\/(verifier|agent)(?:\/(.*))?$/.exec(specifier)
  if (own) return { kind: 'file', path: `sdk/${own[1]}/src/${own[2] ?? 'index.ts'}` }
  const [scope = '', name = ''] = specifier.split('/')
  return { kind: 'package', name: scope.startsWith('@') ? `${scope}/${name}` : scope }
}

/** What is wrong with one import, in words; undefined where it is in order. */
function faultOf({ path, room }: Source, specifier: string): string | undefined {
  const target = targetOf(path, specifier)
  if (!target) return undefined
  if (target.kind === 'package')
    return PACKAGES[room]?.includes(target.name) ? undefined : `${room} may not use the package ${target.name}`
  const to = roomOf(target.path)
  if (to === room) return undefined
  if (room.startsWith('sdk/')) return `${room} imports nothing outside its folder`
  if (to === 'sdk/verifier') return undefined
  if (to === 'sdk/agent') return room === 'cli' ? undefined : 'only cli imports sdk/agent'
  if (!ROOMS.includes(to as (typeof ROOMS)[number])) return `there is no room ${to}`
  if ((to === 'store' || to === 'secrets') && !OPENERS.includes(room)) return `${room} may not open adapters`
  // The command that starts the service is the one door into main.ts.
  if (path === 'src/cli/serve.ts' && to === 'main.ts') return undefined
  const above = ROOMS.indexOf(to as (typeof ROOMS)[number]) < ROOMS.indexOf(room as (typeof ROOMS)[number])
  return above ? undefined : `${to} is not above ${room}`
}

const faultsIn = (sources: readonly Source[]): readonly string[] =>
  sources.flatMap((source) =>
    source.imports.flatMap((specifier) => {
      const fault = faultOf(source, specifier)
      return fault === undefined ? [] : [`${source.path} imports ${specifier}: ${fault}`]
    }),
  )

const walk = (node: ts.Node, visit: (node: ts.Node) => string | undefined): readonly string[] => {
  const found: string[] = []
  const go = (each: ts.Node): void => {
    const what = visit(each)
    if (what !== undefined) found.push(what)
    ts.forEachChild(each, go)
  }
  go(node)
  return found
}

const parsed = ({ path, text }: Source) => ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true)
const at = (node: ts.Node) => {
  const file = node.getSourceFile()
  return `${file.fileName}:${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}`
}
const isIdentifier = (node: ts.Node | undefined, name: string): boolean =>
  node !== undefined && ts.isIdentifier(node) && node.text === name

const service = sourcesIn('src')
const sdks = [...sourcesIn('sdk/agent/src'), ...sourcesIn('sdk/verifier/src')]

describe('the house', () => {
  it('has only rooms that are on the list', () => {
    const unknown = service.filter(({ room }) => !ROOMS.includes(room as (typeof ROOMS)[number]))
    expect(unknown.map(({ path }) => path)).toEqual([])
    expect([...new Set(sdks.map(({ room }) => room))]).toEqual(['sdk/agent', 'sdk/verifier'])
  })

  it('imports point up the list, packages stay in their rooms, and adapters are opened at the door', () => {
    expect(faultsIn(service)).toEqual([])
  })

  it('sdk/ never imports src/, the verifier needs jose alone and the agent nothing', () => {
    expect(faultsIn(sdks)).toEqual([])
  })

  it('would notice: each rule names the file and the import that breaks it', () => {
    const of = (path: string, ...imports: string[]): Source => ({ path, room: roomOf(path), text: '', imports })
    expect(
      faultsIn([
        of('src/oauth/a.ts', '../audit/log.ts', '@errand/verifier/claims.ts', 'node:crypto'),
        of('src/policy/b.ts', 'zod', '../attest/registration.ts', '@cedar-policy/cedar-wasm/nodejs'),
        of('src/http/c.ts', '../store/open.ts', '@errand/agent'),
        of('src/cli/d.ts', '../store/open.ts', '@errand/agent', '../main.ts'),
        of('sdk/verifier/src/e.ts', '../../../src/oauth/words.ts', 'jose'),
        of('sdk/agent/src/f.ts', 'jose', '../../verifier/src/claims.ts'),
      ]),
    ).toEqual([
      'src/oauth/a.ts imports ../audit/log.ts: audit is not above oauth',
      'src/policy/b.ts imports zod: policy may not use the package zod',
      'src/http/c.ts imports ../store/open.ts: http may not open adapters',
      'src/http/c.ts imports @errand/agent: only cli imports sdk/agent',
      'src/cli/d.ts imports ../main.ts: main.ts is not above cli',
      'sdk/verifier/src/e.ts imports ../../../src/oauth/words.ts: sdk/verifier imports nothing outside its folder',
      'sdk/agent/src/f.ts imports jose: sdk/agent may not use the package jose',
      'sdk/agent/src/f.ts imports ../../verifier/src/claims.ts: sdk/agent imports nothing outside its folder',
    ])
  })

  it('reads the environment at its entries only', () => {
    const readers = [...service, ...sdks]
      .filter(({ path, text }) => !ENTRIES.includes(path) && text.includes('process'))
      .flatMap((source) =>
        walk(parsed(source), (node) => {
          const property = ts.isPropertyAccessExpression(node) && node.name.text === 'env'
          const element = ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression)
          if ((property || element) && isIdentifier(node.expression, 'process')) return `${at(node)} process.env`
          const taken = ts.isVariableDeclaration(node) && ts.isObjectBindingPattern(node.name)
          if (taken && isIdentifier(node.initializer, 'process')) return `${at(node)} takes from process`
          const imported = ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)
          return imported && /^(node:)?process$/.test((node.moduleSpecifier as ts.StringLiteral).text)
            ? `${at(node)} imports process`
            : undefined
        }),
      )
    expect(readers).toEqual([])
  })

  it('has no class but errors', () => {
    const mentions = [...service, ...sdks].filter(({ text }) => /\bclass\b/.test(text))
    const classes = mentions.flatMap((source) =>
      walk(parsed(source), (node) => {
        if (!ts.isClassLike(node)) return undefined
        const parent = node.heritageClauses?.find(({ token }) => token === ts.SyntaxKind.ExtendsKeyword)?.types[0]
        const isError = parent !== undefined && /Error$|^Unavailable$|Fault$/.test(parent.expression.getText())
        return isError ? undefined : `${at(node)} class ${node.name?.text ?? ''}`
      }),
    )
    expect(classes).toEqual([])
  })
})
