/** The API description (OpenAPI 3.1), made from the routes that the service serves. */
import { z } from 'zod'
import type { Described, Route } from '../src/http/route.ts'

type Json = { readonly [name: string]: unknown }

/** Collects schemas that have an id under components; everything else stays where it is used. */
function createSchemas() {
  const components = new Map<string, unknown>()

  /** Names that zod gives by itself depend on order, so none may reach the description. */
  const named = (id: string): string => {
    if (id.startsWith('__')) throw new Error('a recursive schema needs an id: .meta({ id })')
    return `#/components/schemas/${id}`
  }
  const rewritten = (value: unknown, root?: string): unknown => {
    if (Array.isArray(value)) return value.map((each) => rewritten(each, root))
    if (value === null || typeof value !== 'object') return value
    return Object.fromEntries(
      Object.entries(value).flatMap(([name, each]): [string, unknown][] => {
        if (name === '$schema' || name === '$defs' || (name === 'id' && each === root)) return []
        if (name !== '$ref' || typeof each !== 'string') return [[name, rewritten(each, root)]]
        if (each === '#' && root !== undefined) return [[name, named(root)]]
        return [[name, named(each.replace('#/$defs/', ''))]]
      }),
    )
  }
  function refer(schema: z.ZodType): unknown {
    const made = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json
    for (const [id, each] of Object.entries((made['$defs'] ?? {}) as Json)) {
      named(id)
      if (!components.has(id)) components.set(id, rewritten(each, id))
    }
    const id = z.globalRegistry.get(schema)?.id
    if (id === undefined) return rewritten(made)
    if (!components.has(id)) components.set(id, rewritten(made, id))
    return { $ref: named(id) }
  }
  return { refer, all: () => Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))) }
}

const SECURITY_SCHEMES = {
  clientAssertion: {
    type: 'http',
    scheme: 'ClientAssertion',
    description:
      'Authorization: ClientAssertion <jwt>. A one-use private_key_jwt (iss = sub = client_id, aud = the issuer), or a JWT-SVID.',
  },
  clientAssertionForm: {
    type: 'http',
    scheme: 'client_assertion',
    description:
      'The same JWT in the form parameters client_assertion and client_assertion_type (RFC 7521 §4.2), not in a header.',
  },
  providerToken: {
    type: 'http',
    scheme: 'bearer',
    description: 'A one-use JWT of a registered identity provider for this endpoint, of a kind of its own.',
  },
  dpop: {
    type: 'apiKey',
    in: 'header',
    name: 'DPoP',
    description: 'A proof for this request (RFC 9449). Its nonce comes with each answer in DPoP-Nonce.',
  },
  mutualTls: {
    type: 'mutualTLS',
    description: 'An X.509-SVID on the mTLS listener, with client_id in the form or the header Client-Id (RFC 8705).',
  },
} as const

/** Standing evidence and administrators need a proof, a one-use assertion alone does for others. */
function securityOf({ access, recognises }: Pick<Route, 'access' | 'recognises'>): readonly Json[] {
  if (access === 'public') return recognises ? [{}, { clientAssertion: [] }] : []
  if (access === 'form')
    return [{ clientAssertionForm: [] }, { clientAssertionForm: [], dpop: [] }, { mutualTls: [] }, { dpop: [] }]
  if (access === 'provider') return [{ providerToken: [] }, { clientAssertion: [], dpop: [] }]
  const withProof = { clientAssertion: [], dpop: [] }
  const withoutProof = access.includes('agent') || access.includes('tool') ? [{ clientAssertion: [] }] : []
  return [...withoutProof, withProof, ...(access.includes('agent') ? [{ mutualTls: [] }] : [])]
}

const RETRY_AFTER = {
  'Retry-After': { description: 'Seconds', schema: { type: 'integer', minimum: 0 } },
} as const

export function describeApi(routes: readonly Route[], version: string): Json {
  const schemas = createSchemas()

  const answer = (status: number, { description, schema, contentType, also }: Described): Json => ({
    description,
    ...(status === 429 || status === 503 ? { headers: RETRY_AFTER } : {}),
    ...(schema === undefined && contentType === undefined
      ? {}
      : {
          content: {
            [contentType ?? 'application/json']: {
              schema: schema === undefined ? { type: 'string' } : schemas.refer(schema),
            },
            ...(also === undefined ? {} : { [also]: { schema: { type: 'string' } } }),
          },
        }),
  })

  const parametersOf = ({ path, query, answers }: Route): readonly Json[] => [
    ...[...path.matchAll(/:([a-z_]+)/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    })),
    ...Object.entries(query ?? {}).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema: { type: 'string' },
    })),
    // What answers 422 takes the header whose second use it refuses.
    ...(answers[422] === undefined
      ? []
      : [
          {
            name: 'Idempotency-Key',
            in: 'header',
            description: 'A retry with the same key gives the same result',
            schema: { type: 'string', pattern: '^[\\x21-\\x7e]{8,255}$' },
          },
        ]),
  ]

  const operationOf = (route: Route): Json => {
    const { method, path, access, tag, summary, form, json } = route
    const words = path.split('/').filter((each) => each !== '')
    const parameters = parametersOf(route)
    const body = form ?? json
    return {
      operationId: [method.toLowerCase(), ...words].join('_').replace(/[^A-Za-z0-9]+/g, '_'),
      tags: [tag],
      summary,
      ...(typeof access === 'string' ? {} : { description: `For: ${access.join(', ')}.` }),
      security: securityOf(route),
      ...(parameters.length === 0 ? {} : { parameters }),
      ...(body === undefined
        ? {}
        : {
            requestBody: {
              required: true,
              content: {
                [form ? 'application/x-www-form-urlencoded' : 'application/json']: { schema: schemas.refer(body) },
              },
            },
          }),
      responses: Object.fromEntries(
        Object.entries(route.answers).map(([status, each]) => [status, answer(Number(status), each)]),
      ),
    }
  }

  const paths: Record<string, Record<string, Json>> = {}
  for (const route of routes) {
    const path = route.path.replace(/:([a-z_]+)(?:\{[^}]*\})?/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Errand',
      version,
      summary: 'Credential broker and identity service for AI agents',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:4460', description: 'npm start' }],
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: { securitySchemes: SECURITY_SCHEMES, schemas: schemas.all() },
  }
}
