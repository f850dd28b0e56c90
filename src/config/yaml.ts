/** Reads a YAML file strictly: one document, plain data, every value with its place. */
import { isAlias, isMap, isNode, isPair, isScalar, LineCounter, type Node, parseDocument, visit } from 'yaml'
import type { Problem } from '../policy/problem.ts'

export const FILE_BOUNDS = { bytes: 262_144, files: 20_000, depth: 24, nodes: 50_000 } as const

type Path = readonly PropertyKey[]

export interface YamlFile {
  readonly file: string
  readonly data: unknown
  /** Place of the value at `path`, or of the nearest thing around it. */
  placeOf(path: Path): { readonly line: number; readonly column: number }
  /** Place of the key itself. */
  placeOfKey(path: Path, key: string): { readonly line: number; readonly column: number }
}

export type YamlReading =
  | { readonly ok: true; readonly value: YamlFile }
  | { readonly ok: false; readonly problems: readonly Problem[] }

export function readYaml(file: string, text: string): YamlReading {
  const refuse = (...problems: Omit<Problem, 'file'>[]): YamlReading => ({
    ok: false,
    problems: problems.map((problem) => ({ file, ...problem })),
  })
  if (Buffer.byteLength(text) > FILE_BOUNDS.bytes)
    return refuse({ code: 'too_large', message: `the file is above ${FILE_BOUNDS.bytes} bytes` })
  if (text.includes('\ufffd')) return refuse({ code: 'bad_yaml', message: 'the file is not UTF-8' })
  // The parser recurses: what nests deeper than any honest file does not reach it.
  const deep = deepest(text)
  if (deep > FILE_BOUNDS.depth)
    return refuse({ code: 'too_large', message: `more than ${FILE_BOUNDS.depth} levels of nesting` })

  const lineCounter = new LineCounter()
  const document = parseDocument(text, {
    lineCounter,
    version: '1.2',
    schema: 'core',
    uniqueKeys: true,
    strict: true,
    merge: false,
    prettyErrors: false,
    resolveKnownTags: false,
  })
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  const faults = [...document.errors, ...document.warnings]
  if (faults.length > 0) {
    return refuse(
      ...faults.slice(0, 10).map((fault) => ({
        ...at(fault.pos[0]),
        code: fault.code === 'DUPLICATE_KEY' ? ('duplicate' as const) : ('bad_yaml' as const),
        message: fault.message,
      })),
    )
  }

  const problems: Omit<Problem, 'file'>[] = []
  let nodes = 0
  visit(document, (_, node) => {
    if (++nodes > FILE_BOUNDS.nodes) {
      problems.push({ code: 'too_large', message: `more than ${FILE_BOUNDS.nodes} values` })
      return visit.BREAK
    }
    if (isPair(node)) {
      const { key } = node
      if (!isScalar(key) || typeof key.value !== 'string') {
        problems.push({
          ...at(isNode(key) ? (key.range?.[0] ?? 0) : 0),
          code: 'bad_yaml',
          message: 'a key must be plain text',
          suggestion: 'put it in quotes',
        })
      } else if (Object.hasOwn(Object.prototype, key.value) || key.value in {}) {
        problems.push({
          ...at(key.range?.[0] ?? 0),
          code: 'bad_identifier',
          message: `${JSON.stringify(key.value)} cannot be a key`,
        })
      }
      return undefined
    }
    if (!isNode(node)) return undefined
    const place = at(node.range?.[0] ?? 0)
    if (isAlias(node) || ('anchor' in node && node.anchor !== undefined)) {
      problems.push({
        ...place,
        code: 'bad_yaml',
        message: 'anchors and aliases are not used here',
        suggestion: 'write the value where it is meant',
      })
    }
    if ('tag' in node && typeof node.tag === 'string' && node.tag !== '') {
      problems.push({ ...place, code: 'bad_yaml', message: `tags such as ${node.tag} are not used here` })
    }
    return undefined
  })
  if (problems.length > 0) return refuse(...problems.slice(0, 10))

  const nodeAt = (path: Path): Node | undefined => {
    for (let length = path.length; length >= 0; length--) {
      const found = length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
      if (isNode(found)) return found
    }
    return undefined
  }
  return {
    ok: true,
    value: {
      file,
      data: document.toJS({ maxAliasCount: 0 }),
      placeOf: (path) => at(nodeAt(path)?.range?.[0] ?? 0),
      placeOfKey(path, key) {
        const map = nodeAt(path)
        const pair = isMap(map) ? map.items.find((item) => isScalar(item.key) && item.key.value === key) : undefined
        return at((isNode(pair?.key) ? pair.key.range?.[0] : map?.range?.[0]) ?? 0)
      },
    },
  }
}

/** An upper bound on nesting that needs no parser: brackets inside one another, and steps of indentation. */
function deepest(text: string): number {
  let deep = 0
  let brackets = 0
  for (const line of text.split('\n')) {
    const indent = /^[ \t]*(?:[-?] +)*/.exec(line)![0]
    // Block nesting takes at least one column each.
    deep = Math.max(deep, Math.ceil(indent.length / 2))
    for (const c of line) {
      if (c === '[' || c === '{') deep = Math.max(deep, ++brackets)
      else if (c === ']' || c === '}') brackets = Math.max(0, brackets - 1)
    }
  }
  return deep
}
