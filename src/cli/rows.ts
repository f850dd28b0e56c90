/** Members of answers, read without trusting their shape. */
import type { Json } from './client.ts'
import { safe } from './print.ts'

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const object = (value: unknown): Json => (isObject(value) ? value : {})
export const objects = (value: unknown): readonly Json[] => (Array.isArray(value) ? value.filter(isObject) : [])
export const texts = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : []
export const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined)
export const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** `tool:operation` of each entry of `authorization_details`, with a star where arguments are bounded. */
export const operationsOf = (details: unknown): readonly string[] =>
  objects(details).flatMap((detail) =>
    texts(detail['operations']).map(
      (operation) => `${text(detail['tool']) ?? ''}:${operation}${detail['constraints'] === undefined ? '' : '*'}`,
    ),
  )

/** A revocation's match: `client_id=research and aud=…`. */
export const matchText = (match: unknown): string => {
  const pairs = Object.entries(object(match))
  return pairs.length === 0 ? 'everything' : pairs.map(([name, value]) => `${name}=${safe(value)}`).join(' and ')
}
