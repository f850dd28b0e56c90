/** What the pages show is true: it runs, it type-checks, it passes the schema that the service checks with. */
import { readAccessTokenClaims } from '@errand/verifier/claims-check.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { join } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import type { SchemaName } from '../../src/config/json-schemas.ts'
import { loadConfig } from '../../src/config/load.ts'
import { shape } from '../../src/config/shape.ts'
import { readAnswers } from '../../src/config/answers.ts'
import { readYaml } from '../../src/config/yaml.ts'
import { createCedar } from '../../src/policy/cedar.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { readHandOverClaims } from '../../src/tokens/hand-over.ts'
import { ROOT } from '../../tools/files.ts'
import { openClone, unseen } from './clone.ts'
import { type Block, blocksOf, markOf, PAGES } from './pages.ts'

const ALL = PAGES.flatMap(blocksOf)
const placeOf = ({ page, line }: Block): string => `${page}:${line}`
const named = (blocks: readonly Block[]): readonly (readonly [string, Block])[] =>
  blocks.map((block) => [placeOf(block), block])

describe('commands', () => {
  it('show output only where it was seen, in its order', () => {
    const output = 'task    task_abc\nscope   a:b  c:d\n'
    expect(unseen('task  task_…\n…\nscope a:b c:d', output)).toEqual([])
    expect(unseen('scope a:b c:d\ntask task_…', output)).toEqual(['task task_…'])
    expect(unseen('scope a:b', output)).toEqual(['scope a:b'])
  })

  const pages = PAGES.filter((page) => blocksOf(page).some(({ marks }) => marks.includes('run')))

  it.concurrent.each(pages)('%s does what it says, from its top to its end', { timeout: 180_000 }, async (page) => {
    const clone = await openClone()
    try {
      const blocks = blocksOf(page)
      // A page that does not start the service itself speaks of one that runs.
      if (!blocks.some(({ marks }) => marks.includes('background'))) await clone.start('npm start')
      let output = ''
      for (const block of blocks) {
        const file = markOf(block, 'file')
        const cwd = markOf(block, 'cwd')
        const script = cwd === undefined ? block.text : `cd ${cwd}\n${block.text}`
        if (file !== undefined) await clone.write(file, block.text)
        else if (block.marks.includes('background')) await clone.start(script)
        else if (block.marks.includes('run')) {
          const outcome = await clone.run(script)
          output = outcome.output
          expect(outcome.code, `${placeOf(block)}\n${output}`).toBe(Number(markOf(block, 'exit') ?? 0))
        } else if (block.marks.includes('output')) {
          expect(unseen(block.text, output), `${placeOf(block)}\n${output}`).toEqual([])
        }
      }
    } finally {
      await clone.close()
    }
  })
})

describe('TypeScript', () => {
  it('type-checks against the sources, under the rules of the project', () => {
    const blocks = ALL.filter(({ language }) => language === 'ts')
    const files = new Map(
      blocks.map((block, index) => [
        join(ROOT, 'test/docs', `snippet-${index}.ts`),
        { block, text: `${block.prelude}\n${block.text}\nexport {}\n` },
      ]),
    )
    const configFile = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile)
    const { options } = ts.parseJsonConfigFileContent(configFile.config, ts.sys, ROOT)
    const rules = { ...options, noUnusedLocals: false }
    const host = ts.createCompilerHost(rules)
    const { fileExists, readFile, getSourceFile } = host
    host.fileExists = (path) => files.has(path) || fileExists(path)
    host.readFile = (path) => files.get(path)?.text ?? readFile(path)
    host.getSourceFile = (path, ...rest) => {
      const own = files.get(path)
      return own ? ts.createSourceFile(path, own.text, ts.ScriptTarget.ES2023, true) : getSourceFile(path, ...rest)
    }
    const program = ts.createProgram([...files.keys()], rules, host)
    const faults = [...files].flatMap(([path, { block }]) =>
      [
        ...program.getSyntacticDiagnostics(program.getSourceFile(path)),
        ...program.getSemanticDiagnostics(program.getSourceFile(path)),
      ].map(({ messageText }) => `${placeOf(block)}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`),
    )
    expect(faults).toEqual([])
  }, 120_000)
})

/** Which file of config/ a block is (or is a part of), by its mark or by where the page puts it. */
function schemaOf(block: Block): SchemaName | undefined {
  const [, folder] = /^config\/(agents|tools|issuers)\//.exec(markOf(block, 'file') ?? '') ?? []
  if (folder !== undefined) return folder.slice(0, -1) as SchemaName
  return (['errand', 'agent', 'tool', 'issuer', 'release'] as const).find((name) => block.marks.includes(name))
}

describe('configuration', () => {
  it.each(named(ALL.filter(({ language }) => language === 'yaml')))('%s passes the schema', (_, block) => {
    if (block.marks.includes('answers')) {
      const answers = readYaml(placeOf(block), block.text)
      expect(answers.ok && readAnswers(answers.value.data)).toMatchObject({ ok: true })
      return
    }
    const name = schemaOf(block)
    expect(name, 'the mark says which file it is').toBeDefined()
    // A part of errand.yaml says what is new; the issuer is always there.
    const lead = name === 'errand' && !/^issuer:/m.test(block.text) ? 'issuer: https://errand.example.com\n' : ''
    const yaml = readYaml(placeOf(block), lead + block.text)
    const shaped = yaml.ok ? shape(name!, yaml.value) : yaml
    expect(shaped).toMatchObject({ ok: true })
  })

  it('policies load against the sample', async () => {
    const sample = await loadConfig({
      dir: join(ROOT, 'config'),
      keysDir: join(ROOT, 'keys'),
      now: () => Math.floor(Date.now() / 1000),
      allowMissingKeys: true,
    })
    if (!sample.ok) throw new Error('the sample does not load')
    for (const block of ALL.filter(({ language }) => language === 'cedar')) {
      const loaded = loadPolicies([{ file: placeOf(block), text: block.text }], sample.vocabulary, createCedar())
      expect(loaded.ok ? [] : loaded.problems).toEqual([])
    }
  })
})

describe('JSON', () => {
  it.each(named(ALL.filter(({ language }) => language === 'json')))(
    '%s parses, tokens as the verifier reads them',
    (_, block) => {
      const value = JSON.parse(block.text) as JsonObject
      if (block.marks.includes('access-token')) expect(readAccessTokenClaims(value)).toMatchObject({ ok: true })
      if (block.marks.includes('hand-over')) expect(readHandOverClaims(value)).toMatchObject({ ok: true })
    },
  )
})
