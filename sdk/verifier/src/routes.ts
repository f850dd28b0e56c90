/** From an HTTP request to the operation it calls and the arguments that are judged: what fits no route is refused. */
import type { Call } from './verifier.ts'
import { isInheritedName, isJsonObject, parseStrictJson } from './strict-json.ts'

export interface Route {
  readonly method: string
  /**
   * `/tickets/:id`: a segment that begins with a colon is an argument. Requests must be spelt as it is, and a request
   * that another route describes more closely in another case or spelling is refused: web frameworks fold and decode.
   */
  readonly path: string
  readonly operation: string
  /**
   * Where arguments come from, by default everywhere. A handler must read them nowhere else: what is not here is not
   * judged. With `body`, a body that is not JSON is refused.
   */
  readonly from?: readonly ('path' | 'query' | 'body')[]
  /** Arguments in path and query are text; these are read as what they are here. */
  readonly types?: Readonly<Record<string, 'integer' | 'number' | 'boolean'>>
}

export interface RoutedRequest {
  readonly method: string
  /** Path and query, perhaps with an origin, as they arrived. */
  readonly url: string
  readonly contentType: string | undefined
  /** Text of the body, the value somebody has parsed already, or undefined where there is none. */
  readonly body: () => Promise<{ readonly text: string } | { readonly value: unknown } | 'too_large' | undefined>
}

interface Unroutable {
  readonly refused: 'operation_unknown' | 'bad_arguments' | 'media_type' | 'body_too_large'
  readonly description: string
}

export type Router = (request: RoutedRequest) => Promise<Call | Unroutable>

/** Of a JSON body that is read for its arguments. */
export const MAX_BODY_BYTES = 1_048_576
const BODY_LIMITS = { maxBytes: MAX_BODY_BYTES, maxMembers: 50_000, maxDepth: 32, integersOnly: false }
// The whole of it: what is left over, another reader might read. No request has a fragment (RFC 9112 §3.2).
const TARGET = /^(?:https?:\/\/[^/?#\\]+|(?=\/))(\/[^?#]*)?(?:\?([^#]*))?$/i
const JSON_TYPE = /^application\/(?:[a-z0-9.+-]{1,64}\+)?json[ \t]*(?:;|$)/i

const unroutable = (refused: Unroutable['refused'], description: string): Unroutable => ({ refused, description })

/** A segment of a path: as it is written, and as a router that decodes and folds case compares it. */
interface Segment {
  readonly written: string
  readonly text: string
  readonly folded: string
}
/** Of a route: an argument by its name, or what must stand there. */
type Part = { readonly argument: string } | Segment

export function createRouter(routes: readonly Route[]): Router {
  const known = routes.map((route) => ({
    ...route,
    method: route.method.toUpperCase(),
    parts: readPattern(route.path),
  }))
  const shapes = new Set<string>()
  for (const { method, path, parts } of known) {
    const shape = JSON.stringify([method, ...parts.map((part) => ('argument' in part ? null : part.folded))])
    if (shapes.has(shape)) throw new TypeError(`two routes have the same requests: ${method} ${path}`)
    shapes.add(shape)
  }

  return async ({ method, url, contentType, body }) => {
    const target = TARGET.exec(url)
    const segments = target ? readPath(target[1] ?? '/') : undefined
    if (!segments) return unroutable('operation_unknown', 'the path is not written in its one canonical spelling')
    // Of any method: a handler may be registered for all of them.
    const possible = known.filter(({ parts }) => fits(parts, segments, 'folded'))
    const route = possible.find(
      (candidate) =>
        candidate.method === method &&
        fits(candidate.parts, segments, 'written') &&
        !possible.some(({ parts }) => isCloser(parts, candidate.parts)),
    )
    if (!route) return unroutable('operation_unknown', 'no operation of this tool has this method and path')
    const from = route.from ?? ['path', 'query', 'body']
    const args: Record<string, unknown> = {}
    /** Two readers must not see two values: a name comes from one place, once. */
    const add = (name: string, value: unknown): boolean => {
      if (Object.hasOwn(args, name) || isInheritedName(name)) return false
      args[name] = value
      return true
    }

    if (from.includes('path'))
      for (const [index, part] of route.parts.entries())
        if ('argument' in part && !add(part.argument, typed(segments[index]!.text, route.types?.[part.argument])))
          return unroutable('bad_arguments', `the path's ${part.argument} stands twice or has an impossible name`)
    if (from.includes('query'))
      for (const [name, value] of new URLSearchParams(target?.[2] ?? ''))
        if (!add(name, typed(value, route.types?.[name])))
          return unroutable('bad_arguments', `an argument stands twice or has an impossible name`)
    if (from.includes('body')) {
      const given = await body()
      if (given === 'too_large') return unroutable('body_too_large', `a body has at most ${MAX_BODY_BYTES} bytes`)
      if (given && !('text' in given && given.text === '')) {
        if (!JSON_TYPE.test(contentType ?? '')) return unroutable('media_type', 'the body must be JSON')
        const value = 'text' in given ? readJson(given.text) : given.value
        if (!isJsonObject(value))
          return unroutable('bad_arguments', 'the body must be a JSON object without repetitions')
        for (const [name, member] of Object.entries(value))
          if (!add(name, member))
            return unroutable('bad_arguments', 'an argument stands twice or has an impossible name')
      }
    }
    return { operation: route.operation, arguments: args }
  }
}

const readJson = (text: string): unknown => {
  const read = parseStrictJson(text, BODY_LIMITS)
  return read.ok ? read.value : undefined
}

const fits = (parts: readonly Part[], segments: readonly Segment[], as: 'written' | 'folded'): boolean =>
  parts.length === segments.length &&
  parts.every((part, index) => 'argument' in part || part[as] === segments[index]![as])

/** Says something where the other takes anything: then a router may prefer it, whichever is closer elsewhere. */
const isCloser = (parts: readonly Part[], than: readonly Part[]): boolean =>
  parts.some((part, index) => !('argument' in part) && 'argument' in than[index]!)

function readPattern(path: string): readonly Part[] {
  const parts = path === '/' ? [] : path.split('/').slice(1)
  if (!path.startsWith('/')) throw new TypeError(`a route's path begins with a slash: ${path}`)
  return parts.map((part) => {
    // Other names are patterns to some routers: `:id?`, `:id.json`.
    if (part.startsWith(':') && /^:\w+$/.test(part)) return { argument: part.slice(1) }
    const segment = part.startsWith(':') ? undefined : readSegment(part)
    if (!segment) throw new TypeError(`a route's path is of names, canonically spelt, and :arguments: ${path}`)
    return segment
  })
}

/** Undefined where any segment could be taken for another, or for more than one, or for none. */
function readPath(path: string): readonly Segment[] | undefined {
  const segments: Segment[] = []
  for (const written of path === '/' ? [] : path.split('/').slice(1)) {
    const segment = readSegment(written)
    if (!segment) return undefined
    segments.push(segment)
  }
  return segments
}

// RFC 3986 §3.3, and the four that the URL standard leaves as they are.
const SEGMENT = /^(?:[\w.~!$&'()*+,;=:@[\]^|-]|%[0-9a-f]{2})+$/i
/** Unreserved (RFC 3986 §2.3: the escape is the same as the character), ends of segments, control characters. */
const NEVER_ESCAPED = /[\w.~/\\\x00-\x1f\x7f-]/

function readSegment(written: string): Segment | undefined {
  if (!SEGMENT.test(written) || written === '.' || written === '..') return undefined
  const escaped = [...written.matchAll(/%(..)/g)].map(([, hex]) => String.fromCharCode(Number.parseInt(hex!, 16)))
  if (escaped.some((octet) => NEVER_ESCAPED.test(octet))) return undefined
  try {
    const text = decodeURIComponent(written)
    return { written, text, folded: fold(text) }
  } catch {
    return undefined
  }
}

/** By way of upper case, as `ſ` and `K` fold only so: two spellings too many are one refusal, one too few a way in. */
const fold = (text: string): string => text.toUpperCase().toLowerCase()

/** Only the one canonical spelling; anything else stays text, and a constraint on a number refuses it. */
function typed(text: string, type: 'integer' | 'number' | 'boolean' | undefined): unknown {
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  if (type === undefined) return text
  const value = Number(text)
  const sound = type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
  return sound && String(value) === text ? value : text
}
