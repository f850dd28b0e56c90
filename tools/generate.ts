/** Writes what is made from the code: configuration schemas, API description, references, pages of refusals, table of security cases. --check only looks. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { renderConfigSchemas } from '../src/config/json-schemas.ts'
import { renderPolicySchemaOf } from '../src/config/policy-schema.ts'
import { ROUTES } from '../src/http/app.ts'
import { renderRefusalPages } from '../src/http/refusal-pages.ts'
import { filesUnder, ROOT } from './files.ts'
import { describeApi } from './openapi.ts'
import { renderReferences } from './references.ts'
import { coveredCases, openCases, renderSecurityCases, unknownCases } from './security-cases.ts'

const readOr = (path: string): string | undefined => {
  try {
    return readFileSync(join(ROOT, path), 'utf8')
  } catch {
    return undefined
  }
}

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string }
const covered = coveredCases()
const wanted = new Map([
  ...renderConfigSchemas(),
  ...(await renderReferences(ROUTES)),
  ...renderRefusalPages(),
  ['config/policies/schema.cedarschema', await renderPolicySchemaOf(join(ROOT, 'config'))],
  ['docs/openapi.json', `${JSON.stringify(describeApi(ROUTES, version), undefined, 2)}\n`],
  ['docs/security-cases.md', renderSecurityCases(covered)],
])

const stale = [...wanted].filter(([path, text]) => readOr(path) !== text).map(([path]) => path)
const leftOver = [...filesUnder('config/schemas', '.json'), ...filesUnder('docs/refusals', '.md')].filter(
  (path) => !wanted.has(path),
)
const unknown = unknownCases(covered).map(({ id, file, title }) => `${file}: there is no case ${id} (${title})`)

if (process.argv.includes('--check')) {
  const faults = [
    ...stale.map((path) => `${path} is not what the code makes: run npm run generate`),
    ...leftOver.map((path) => `${path} is made by nothing: remove it`),
    ...unknown,
  ]
  for (const fault of faults) console.error(fault)
  process.exitCode = faults.length > 0 ? 1 : 0
} else {
  for (const path of stale) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true })
    writeFileSync(join(ROOT, path), wanted.get(path)!)
    console.log(`wrote ${path}`)
  }
  for (const fault of [...unknown, ...leftOver.map((path) => `${path} is made by nothing`)]) console.error(fault)
  const open = openCases(covered)
  if (open.length > 0) console.log(`cases with neither a test nor a part to wait for: ${open.join(' ')}`)
}
