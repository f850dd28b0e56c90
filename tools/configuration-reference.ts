/** The reference of configuration keys in docs/configuration.md, made from the schemas that the service checks with. */
import { CONFIG_SCHEMAS, jsonSchemaOf, type SchemaName } from '../src/config/json-schemas.ts'

interface Node {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly properties?: Readonly<Record<string, Node>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Node | boolean
  readonly items?: Node
  readonly anyOf?: readonly Node[]
  readonly oneOf?: readonly Node[]
}

export interface ConfigurationKey {
  readonly path: string
  readonly form: string
  readonly byDefault: string
  readonly description: string
}

const FILES: Readonly<Record<SchemaName, string>> = {
  errand: 'config/errand.yaml',
  agent: 'config/agents/<client_id>.yaml',
  tool: 'config/tools/<name>.yaml',
  issuer: 'config/issuers/<name>.yaml',
  release: 'release.yaml in the folder of an agent',
}
/** What a key of a free record stands for. */
const NAMES: Readonly<Record<string, string>> = {
  operations: '<operation>',
  rights: '<group>',
  development_users: '<user>',
  claims: '<claim>',
}

/** `null` means none in every list, so it is not worth a word. */
const plain = (node: Node): Node => {
  const options = (node.anyOf ?? []).filter(({ type }) => type !== 'null')
  return options.length === 1 ? { ...options[0], ...(node.description ? { description: node.description } : {}) } : node
}

const code = (value: unknown): string => `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``

function formOf(given: Node): string {
  const node = plain(given)
  if (node.const !== undefined) return code(node.const)
  if (node.enum) return node.enum.map(code).join(', ')
  if (node.items) {
    const item = formOf(node.items)
    return item === 'section' ? 'list of sections' : `list of ${item === 'text' ? 'texts' : item}`
  }
  if (node.oneOf) return node.oneOf.map(({ properties }) => code(properties?.['kind']?.const)).join(' or ')
  if (node.anyOf) return [...new Set(node.anyOf.map(formOf))].join(' or ')
  if (node.type === 'integer' && node.minimum !== undefined && node.maximum !== undefined)
    return `${node.minimum} to ${node.maximum}`
  const value = typeof node.additionalProperties === 'object' ? formOf(node.additionalProperties) : ''
  if (value.includes('`')) return `section of ${value}`
  return { string: 'text', boolean: 'true or false', integer: 'whole number', object: 'section' }[node.type ?? ''] ?? ''
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null
const isSection = (node: Node): boolean => node.properties !== undefined

function* keysBelow(section: Node, prefix: string): Generator<ConfigurationKey> {
  for (const [name, given] of Object.entries(section.properties ?? {})) {
    const node = plain(given)
    const path = `${prefix}${name}`
    const fixed = node.const !== undefined && section.required?.includes(name)
    const absent = node.default === undefined || (isObject(node.default) && !Array.isArray(node.default))
    // A section that says nothing of itself is told by its keys.
    if (!(isSection(node) && node.description === undefined))
      yield {
        path,
        form: formOf(node),
        byDefault: section.required?.includes(name) && !fixed ? 'required' : absent ? '' : code(node.default),
        description: node.description ?? '',
      }
    yield* insideOf(node, path, name)
  }
}

/** What may stand inside a value: a section, the items of a list, the entries of a record, one form or another. */
function* insideOf(given: Node, path: string, name: string): Generator<ConfigurationKey> {
  const node = plain(given)
  if (isSection(node)) yield* keysBelow(node, `${path}.`)
  // Public keys are JWKs, and constraints a language of their own: told in prose.
  else if (node.items && name !== 'keys') yield* insideOf(node.items, `${path}[]`, name)
  else if (typeof node.additionalProperties === 'object' && NAMES[name] !== undefined)
    yield* insideOf(node.additionalProperties, `${path}.${NAMES[name]}`, name)
  else {
    const seen = new Set<string>()
    for (const option of [...(node.oneOf ?? []), ...(node.anyOf ?? [])])
      for (const key of insideOf(option, path, name)) {
        if (seen.has(`${key.path} ${key.form}`)) continue
        seen.add(`${key.path} ${key.form}`)
        yield key
      }
  }
}

interface ConfigurationFile {
  readonly name: SchemaName
  readonly title: string
  readonly keys: readonly ConfigurationKey[]
}

export function configurationFiles(): readonly ConfigurationFile[] {
  return (Object.keys(CONFIG_SCHEMAS) as SchemaName[]).flatMap((name) => {
    const schema = jsonSchemaOf(name) as Node
    return (schema.oneOf ?? [schema]).map((variant) => {
      const kind = variant.properties?.['kind']?.const
      return {
        name,
        title: `\`${FILES[name]}\`${kind === undefined ? '' : `, kind \`${String(kind)}\``}`,
        keys: [...keysBelow(variant, '')],
      }
    })
  })
}

/** Markdown: a table for each file. */
export function renderConfigurationReference(): string {
  const row = ({ path, form, byDefault, description }: ConfigurationKey): string =>
    `| \`${path}\` | ${form} | ${byDefault} | ${description.replaceAll('|', '\\|')} |`
  return configurationFiles()
    .map(({ title, keys }) =>
      [`### ${title}`, '', '| key | form | default | |', '| --- | --- | --- | --- |', ...keys.map(row)].join('\n'),
    )
    .join('\n\n')
}
