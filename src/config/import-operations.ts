/** Reads the operations of a tool out of what describes it already: an OpenAPI document, or an MCP server's tools/list. */
import type { Effect } from '@errand/verifier/claims.ts'
import { EFFECTS } from '@errand/verifier/claims.ts'
import { parse } from 'yaml'
import { OPERATION_NAME } from '../policy/identifier.ts'

export interface ImportedOperation {
  readonly effect: Effect
  readonly description?: string
  readonly routes: readonly string[]
  readonly mcpTools: readonly string[]
  /** Why this effect was taken, for whoever reads the file: nothing that is imported says how bad a mistake is. */
  readonly guess?: string
}

export type Imported =
  | {
      readonly ok: true
      readonly operations: ReadonlyMap<string, ImportedOperation>
      /** What was left out, and why. */
      readonly left: readonly string[]
    }
  | { readonly ok: false; readonly why: string }

const MAX_BYTES = 4_194_304
const MAX_OPERATIONS = 500
const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete'] as const
const LOWER_IT = 'a guess, on the safe side: reversible_write, if it can be taken back'
const SENDING = /(?:^|[_.-])(?:send|email|mail|sms|notify|publish|reply|share|invite|webhook)(?:[_.-]|$)/

/** OpenAPI 3.x or Swagger 2, as YAML or JSON. */
export function importOpenApi(text: string): Imported {
  const document = read(text)
  if (!isRecord(document) || !(typeof document['openapi'] === 'string' || document['swagger'] === '2.0'))
    return { ok: false, why: 'it is no OpenAPI document (openapi: 3.x, or swagger: "2.0")' }
  const paths = document['paths']
  if (!isRecord(paths)) return { ok: false, why: 'it has no paths' }
  const base = basePath(document)
  const collected = collector()
  for (const [path, item] of Object.entries(paths)) {
    if (!isRecord(item)) continue
    for (const method of METHODS) {
      const operation = item[method]
      if (!isRecord(operation)) continue
      const verb = method.toUpperCase()
      const route = `${base}${path}`.replace(/\{([A-Za-z0-9_]+)\}/g, ':$1')
      if (!/^\/(?:[A-Za-z0-9_.~-]+|:[A-Za-z0-9_]+)?(?:\/(?:[A-Za-z0-9_.~-]+|:[A-Za-z0-9_]+))*$/.test(route)) {
        collected.leave(`${verb} ${path}: a path that no route can say`)
        continue
      }
      const said = operation['operationId']
      const name = identifier(typeof said === 'string' ? said : `${method}_${path}`)
      const marked = operation['x-errand-effect']
      collected.add(name, `${verb} ${path}`, {
        ...effectOf(name, {
          marked,
          reads: verb === 'GET' || verb === 'HEAD',
          from: verb,
        }),
        ...described(operation['summary']),
        routes: [`${verb} ${route}`],
        mcpTools: [],
      })
    }
  }
  return collected.result('operations')
}

/** The answer to `tools/list`, whole or its `result`. Its annotations are hints: each is written down as a guess. */
export function importMcpTools(text: string): Imported {
  const document = read(text)
  const result = isRecord(document) && isRecord(document['result']) ? document['result'] : document
  const tools = Array.isArray(result) ? result : isRecord(result) ? result['tools'] : undefined
  if (!Array.isArray(tools)) return { ok: false, why: 'it is no answer to tools/list: there is no list of tools in it' }
  const collected = collector()
  for (const tool of tools) {
    if (!isRecord(tool) || typeof tool['name'] !== 'string' || !/^[A-Za-z0-9_.-]{1,128}$/.test(tool['name'])) {
      collected.leave('a tool without a usable name')
      continue
    }
    const name = identifier(tool['name'])
    const hints = isRecord(tool['annotations']) ? tool['annotations'] : {}
    const reads = hints['readOnlyHint'] === true
    const reversible = !reads && hints['destructiveHint'] === false
    collected.add(name, tool['name'], {
      ...(reversible
        ? { effect: 'reversible_write' as const, guess: 'it says of itself that it destroys nothing' }
        : effectOf(name, { marked: undefined, reads, from: 'readOnlyHint' })),
      ...described(tool['description']),
      routes: [],
      mcpTools: [tool['name']],
    })
  }
  return collected.result('tools')
}

function effectOf(
  name: string,
  { marked, reads, from }: { readonly marked: unknown; readonly reads: boolean; readonly from: string },
): Pick<ImportedOperation, 'effect' | 'guess'> {
  if ((EFFECTS as readonly unknown[]).includes(marked)) return { effect: marked as Effect }
  if (SENDING.test(name) && !reads) return { effect: 'external_communication', guess: 'a guess, from its name' }
  if (reads) return { effect: 'read', guess: `a guess, from ${from}` }
  return { effect: 'irreversible_write', guess: LOWER_IT }
}

function collector() {
  const operations = new Map<string, ImportedOperation>()
  const left: string[] = []
  return {
    leave: (why: string): void => void left.push(why.slice(0, 200)),
    add(name: string, where: string, operation: ImportedOperation): void {
      if (!OPERATION_NAME.test(name)) left.push(`${where.slice(0, 100)}: nothing in its name makes an operation’s name`)
      else if (operations.has(name)) left.push(`${where.slice(0, 100)}: another operation is called ${name} already`)
      else operations.set(name, operation)
    },
    result(what: string): Imported {
      if (operations.size === 0) return { ok: false, why: `it describes no ${what} that can be imported` }
      if (operations.size > MAX_OPERATIONS)
        return { ok: false, why: `it describes more than ${MAX_OPERATIONS} ${what}` }
      return { ok: true, operations, left }
    },
  }
}

/** `listPets`, `pets/list` and `List Pets` are list_pets and pets_list. */
const identifier = (said: string): string =>
  said
    .slice(0, 200)
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '_')
    .replace(/^[^a-z]+|[_.-]+$/g, '')
    .slice(0, 64)

/** One line that a terminal may show. */
function described(said: unknown): { readonly description?: string } {
  if (typeof said !== 'string') return {}
  const line = said
    .split(/[\r\n\u2028\u2029]/, 1)[0]!
    .replace(/[\p{Cc}\p{Cf}]/gu, '')
    .trim()
  return line === '' ? {} : { description: line.length > 100 ? `${line.slice(0, 99)}…` : line }
}

function basePath(document: Readonly<Record<string, unknown>>): string {
  const { servers, basePath: swagger } = document
  const first = Array.isArray(servers) && isRecord(servers[0]) ? servers[0]['url'] : swagger
  if (typeof first !== 'string' || !URL.canParse(first, 'https://tool.invalid')) return ''
  return new URL(first, 'https://tool.invalid').pathname.replace(/\/+$/, '')
}

function read(text: string): unknown {
  if (Buffer.byteLength(text) > MAX_BYTES) return undefined
  try {
    return text.trimStart().startsWith('{') || text.trimStart().startsWith('[')
      ? JSON.parse(text)
      : parse(text, { maxAliasCount: 0, schema: 'core' })
  } catch {
    return undefined
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
