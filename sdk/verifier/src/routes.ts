/** From an HTTP request to the operation it calls and the arguments that are judged: what fits no route is refused. */
import type { Call } from './verifier.ts'
import { isInheritedName, isJsonObject, parseStrictJson } from './strict-json.ts'

export interface Route {
  readonly method: string
  /** `/tickets/:id`: a segment that begins with a colon is an argument. Compared as it is written. */
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
const TARGET = /^(?:https?:\/\/[^/?#]*)?(\/[^?#]*)?(?:\?([^#]*))?/i
const JSON_TYPE = /^application\/(?:[a-z0-9.+-]{1,64}\+)?json[ \t]*(?:;|$)/i

const unroutable = (refused: Unroutable['refused'], description: string): Unroutable => ({ refused, description })

export function createRouter(routes: readonly Route[]): Router {
  const known = routes.map((route) => ({
    ...route,
    method: route.method.toUpperCase(),
    segments: route.path.split('/'),
  }))
  for (const { path } of known)
    if (!path.startsWith('/')) throw new TypeError(`a route's path begins with a slash: ${path}`)

  return async ({ method, url, contentType, body }) => {
    const target = TARGET.exec(url)
    const segments = (target?.[1] ?? '/').split('/')
    const route = known
      .filter((candidate) => candidate.method === method && fits(candidate.segments, segments))
      // A literal segment is closer than an argument, the earlier the closer.
      .sort((a, b) => (pattern(a.segments) < pattern(b.segments) ? -1 : 1))[0]
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
      for (const [index, segment] of route.segments.entries()) {
        if (!segment.startsWith(':')) continue
        const value = decode(segments[index]!)
        if (value === undefined || !add(segment.slice(1), typed(value, route.types?.[segment.slice(1)])))
          return unroutable('bad_arguments', `the path's ${segment.slice(1)} cannot be read`)
      }
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

const fits = (pattern: readonly string[], segments: readonly string[]): boolean =>
  pattern.length === segments.length &&
  pattern.every((part, index) => (part.startsWith(':') ? segments[index] !== '' : part === segments[index]))
const pattern = (segments: readonly string[]): string =>
  segments.map((segment) => (segment.startsWith(':') ? '1' : '0')).join('')

/** Undefined for what another reader could take for more than one segment, or for another place. */
function decode(segment: string): string | undefined {
  let text: string
  try {
    text = decodeURIComponent(segment)
  } catch {
    return undefined
  }
  return text === '.' || text === '..' || /[/\\\x00-\x1f\x7f]/.test(text) ? undefined : text
}

/** Only the one canonical spelling; anything else stays text, and a constraint on a number refuses it. */
function typed(text: string, type: 'integer' | 'number' | 'boolean' | undefined): unknown {
  if (type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text
  if (type === undefined) return text
  const value = Number(text)
  const sound = type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
  return sound && String(value) === text ? value : text
}
