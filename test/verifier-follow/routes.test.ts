import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRouter, MAX_BODY_BYTES, type Route } from '@errand/verifier/routes.ts'

const router = createRouter([
  { method: 'GET', path: '/tickets/:id', operation: 'ticket.read' },
  { method: 'GET', path: '/tickets/export', operation: 'ticket.export' },
  {
    method: 'get',
    path: '/tickets',
    operation: 'ticket.list',
    types: { limit: 'integer', open: 'boolean', below: 'number' },
  },
  { method: 'PUT', path: '/tickets/:id', operation: 'ticket.update' },
  { method: 'POST', path: '/tickets/:id/files', operation: 'ticket.attach', from: ['path'] },
])

const ask = (
  method: string,
  url: string,
  body?: string | { value: unknown } | 'too_large',
  contentType = 'application/json',
) =>
  router({
    method,
    url,
    contentType: body === undefined ? undefined : contentType,
    body: async () =>
      body === undefined || body === 'too_large' ? body : typeof body === 'string' ? { text: body } : body,
  })

describe('a request is an operation with its arguments', () => {
  test('from path, query and JSON body', async () => {
    expect(await ask('GET', 'https://tickets.example.com/tickets/7?fields=title')).toEqual({
      operation: 'ticket.read',
      arguments: { id: '7', fields: 'title' },
    })
    expect(await ask('PUT', '/tickets/a%20b', '{"priority":2,"weight":0.5}')).toEqual({
      operation: 'ticket.update',
      arguments: { id: 'a b', priority: 2, weight: 0.5 },
    })
    expect(await ask('PUT', '/tickets/7', { value: { priority: 2 } })).toMatchObject({
      arguments: { id: '7', priority: 2 },
    })
    expect(await ask('PUT', '/tickets/7', '', 'text/plain')).toEqual({
      operation: 'ticket.update',
      arguments: { id: '7' },
    })
  })

  test('a literal segment is closer than an argument', async () => {
    expect(await ask('GET', '/tickets/export')).toEqual({ operation: 'ticket.export', arguments: {} })
  })

  test('text is read as a number or a boolean where the route says so, in its one spelling only', async () => {
    expect(await ask('GET', '/tickets?limit=10&open=true&below=1.5')).toMatchObject({
      arguments: { limit: 10, open: true, below: 1.5 },
    })
    for (const text of ['1e1', '0x10', '010', '+1', '1.0', '', '99999999999999999999'])
      expect(await ask('GET', `/tickets?limit=${encodeURIComponent(text)}`)).toMatchObject({
        arguments: { limit: text },
      })
  })

  test('a body that carries no arguments is left alone where the route says so', async () => {
    expect(await ask('POST', '/tickets/7/files?x=1', 'binary', 'image/png')).toEqual({
      operation: 'ticket.attach',
      arguments: { id: '7' },
    })
  })
})

describe('what fits no route exactly is refused', () => {
  test.each([
    ['DELETE', '/tickets/7'],
    ['HEAD', '/tickets/7'],
    ['get', '/tickets/7'],
    ['GET', '//tickets/7'],
    ['GET', '/tickets/'],
    ['GET', '/tickets/7/'],
    ['GET', '/Tickets/7'],
    ['GET', '/%74ickets/7'],
    ['GET', '/x/../tickets/7'],
    ['GET', 'tickets/7'],
    ['OPTIONS', '*'],
  ])('G10 %s %s', async (method, url) => {
    expect(await ask(method, url)).toMatchObject({ refused: 'operation_unknown' })
  })

  test.each([
    '..',
    '.',
    '%2e%2e',
    'a%2Fb',
    'a%2fb',
    'a%5Cb',
    'a\\b',
    'a%00',
    'a%7F',
    '%zz',
    '%8',
    '%80',
    '%C0%AF',
    '%65xport',
    '%7E',
    '%31',
    'a b',
    'é',
    'a"b',
    '7#x',
  ])('a segment %s, which two readers may take for two things', async (segment) => {
    expect(await ask('GET', `/tickets/${segment}`)).toMatchObject({ refused: 'operation_unknown' })
  })

  test.each(['http:///tickets/7', 'http://tickets\\tickets/7', 'http:tickets/7', '/tickets/7#', '?x=1', ''])(
    'a target %s of which another reader sees another path',
    async (url) => {
      const open = createRouter([
        { method: 'GET', path: '/', operation: 'root' },
        { method: 'GET', path: '/tickets/:id', operation: 'ticket.read' },
      ])
      const asked = (target: string) =>
        open({ method: 'GET', url: target, contentType: undefined, body: async () => undefined })
      expect(await asked(url)).toMatchObject({ refused: 'operation_unknown' })
      expect(await asked('https://tickets.example.com?x=1')).toEqual({ operation: 'root', arguments: { x: '1' } })
    },
  )

  test.each([
    ['GET', '/tickets/7?id=8', undefined],
    ['GET', '/tickets?limit=1&limit=2', undefined],
    ['GET', '/tickets?__proto__=1', undefined],
    ['PUT', '/tickets/7?priority=1', '{"priority":2}'],
    ['PUT', '/tickets/7', '{"id":"8"}'],
    ['PUT', '/tickets/7', '{"priority":1,"priority":2}'],
    ['PUT', '/tickets/7', '{"__proto__":{"priority":1}}'],
    ['PUT', '/tickets/7', '[1]'],
    ['PUT', '/tickets/7', 'null'],
    ['PUT', '/tickets/7', '{'],
  ])('two readings: %s %s %s', async (method, url, body) => {
    expect(await ask(method, url, body)).toMatchObject({ refused: 'bad_arguments' })
  })

  test('a body that is not JSON, or too long', async () => {
    expect(await ask('PUT', '/tickets/7', 'priority=1', 'application/x-www-form-urlencoded')).toMatchObject({
      refused: 'media_type',
    })
    expect(await ask('PUT', '/tickets/7', '{}', 'application/jsonx')).toMatchObject({ refused: 'media_type' })
    expect(await ask('PUT', '/tickets/7', 'too_large')).toMatchObject({ refused: 'body_too_large' })
    expect(await ask('PUT', '/tickets/7', `{"a":"${'x'.repeat(MAX_BODY_BYTES)}"}`)).toMatchObject({
      refused: 'bad_arguments',
    })
  })
})

describe('no token for one operation reaches the handler of another', () => {
  const asking =
    (routes: readonly Route[]) =>
    async (method: string, url: string): Promise<string> => {
      const call = await createRouter(routes)({ method, url, contentType: undefined, body: async () => undefined })
      return 'refused' in call ? call.refused : call.operation
    }

  test('by case or escapes, also where the closer route is of another method or spelt otherwise itself', async () => {
    const get = asking([
      { method: 'GET', path: '/:kind/export', operation: 'export' },
      { method: 'GET', path: '/tickets/:id', operation: 'read' },
      { method: 'POST', path: '/users/Search', operation: 'search' },
      { method: 'GET', path: '/users/:id', operation: 'user' },
      { method: 'GET', path: '/caf%C3%A9/:id', operation: 'menu' },
      { method: 'GET', path: '/me/@', operation: 'me' },
      { method: 'GET', path: '/me/:id', operation: 'other' },
    ])
    expect(await get('GET', '/crm/export')).toBe('export')
    expect(await get('GET', '/tickets/7')).toBe('read')
    // Which of the two it is depends on the router.
    expect(await get('GET', '/tickets/export')).toBe('operation_unknown')
    expect(await get('GET', '/Tickets/export')).toBe('operation_unknown')
    expect(await get('GET', '/users/search')).toBe('operation_unknown')
    expect(await get('GET', '/users/%C5%BFearch')).toBe('operation_unknown') // ſ folds to s
    expect(await get('GET', '/users/alice')).toBe('user')
    expect(await get('GET', '/caf%C3%A9/1')).toBe('menu')
    expect(await get('GET', '/caf%C3%89/1')).toBe('operation_unknown')
    expect(await get('GET', '/me/@')).toBe('me')
    expect(await get('GET', '/me/%40')).toBe('operation_unknown')
  })

  test('two routes for the same requests, and paths that routers read otherwise, are refused at once', () => {
    const route = (path: string): Route => ({ method: 'GET', path, operation: path })
    for (const [one, other] of [
      ['/tickets/:id', '/tickets/:ticket_id'],
      ['/tickets/export', '/tickets/Export'],
    ] as const)
      expect(() => createRouter([route(one), route(other)])).toThrow('two routes have the same requests')
    for (const path of ['tickets', '/tickets/', '//tickets', '/a/../b', '/%61', '/:', '/:id?', '/:id.json', '/a b'])
      expect(() => createRouter([route(path)]), path).toThrow(TypeError)
  })

  test('property: what is judged as an operation is dispatched to its route by routers of every habit', async () => {
    const name = fc.constantFrom('a', 'b', 'ab', 'A', '@a', 'k', '7')
    const part = fc.oneof({ weight: 2, arbitrary: name }, { weight: 1, arbitrary: fc.constantFrom(':x', ':y') })
    const table = fc.uniqueArray(
      fc.record({ method: fc.constantFrom('GET', 'PUT'), parts: fc.array(part, { maxLength: 3 }) }),
      { minLength: 1, maxLength: 8, selector: ({ method, parts }) => `${method} ${shapeOf(parts)}` },
    )
    const spell = fc.constantFrom(
      (text: string) => text,
      (text: string) => text,
      (text: string) => text.toUpperCase(),
      (text: string) => text.replace(/[a-z@7]/i, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`),
      (text: string) => `${text}/`,
      (text: string) => `${text}%2F${text}`,
      (text: string) => `x/../${text}`,
      (text: string) => `./${text}`,
      (text: string) => `\\${text}`,
      () => '%E2%84%AA', // K, the sign for Kelvin
      () => '%20',
      () => '',
    )
    const request = fc.record({
      method: fc.constantFrom('GET', 'PUT'),
      pick: fc.nat(),
      fill: fc.array(name, { minLength: 3, maxLength: 3 }),
      spells: fc.array(spell, { minLength: 3, maxLength: 3 }),
    })
    const habits = fc.record({
      decode: fc.constantFrom('not', 'segments', 'whole'),
      fold: fc.boolean(),
      tidy: fc.boolean(),
      anyMethod: fc.boolean(),
      order: fc.infiniteStream(fc.nat()),
    })
    let judged = 0
    await fc.assert(
      fc.asyncProperty(table, fc.array(request, { minLength: 1, maxLength: 6 }), habits, async (rows, asked, habit) => {
        const routes = rows.map(({ method, parts }, index) => ({
          method,
          path: `/${parts.join('/')}`,
          // A name that stands twice is another refusal.
          parts: parts.map((each, at) => (each.startsWith(':') ? `${each}${at}` : each)),
          operation: `op${index}`,
        }))
        const get = asking(routes.map((row) => ({ ...row, path: `/${row.parts.join('/')}` })))
        // In whatever order they are registered, but what says more before what takes anything.
        const registered = routes
          .map((route) => ({ route, at: habit.order.next().value! }))
          .sort((a, b) => args(a.route.parts) - args(b.route.parts) || a.at - b.at)
          .map(({ route }) => route)
        for (const { method, pick, fill, spells } of asked) {
          const like = routes[pick % routes.length]!
          const url = `/${like.parts.map((each, at) => spells[at]!(each.startsWith(':') ? fill[at]! : each)).join('/')}`
          const operation = await get(method, url)
          if (operation === 'operation_unknown') continue
          judged += 1
          const mine = routes.find((route) => route.operation === operation)!
          expect(mine.method).toBe(method)
          const path = read(url, habit)
          const found = registered.find(
            (route) => (habit.anyMethod || route.method === method) && matches(route.parts, path, habit.fold),
          )
          expect(found && [shapeOf(found.parts), url], `${url} by ${JSON.stringify(habit)}`).toEqual([
            shapeOf(mine.parts),
            url,
          ])
          if (!habit.anyMethod) expect(found?.operation).toBe(operation)
        }
      }),
      { numRuns: 3000 },
    )
    expect(judged).toBeGreaterThan(1000)
  })
})

interface Habit {
  readonly decode: string
  readonly fold: boolean
  readonly tidy: boolean
}
const args = (parts: readonly string[]): number => parts.filter((part) => part.startsWith(':')).length
const shapeOf = (parts: readonly string[]): string =>
  parts.map((part) => (part.startsWith(':') ? ':' : part.toLowerCase())).join('/')

/** A path as a router of these habits sees it. */
function read(url: string, { decode, tidy }: Habit): readonly string[] {
  const whole = decode === 'whole' ? decodeURIComponent(url) : url
  let segments = (tidy ? whole.replaceAll('\\', '/') : whole).split('/').slice(1)
  if (decode === 'segments') segments = segments.map(decodeURIComponent)
  if (!tidy) return segments.length === 1 && segments[0] === '' ? [] : segments
  const kept: string[] = []
  for (const segment of segments) {
    if (segment === '..') kept.pop()
    else if (segment !== '' && segment !== '.') kept.push(segment)
  }
  return kept
}
const matches = (parts: readonly string[], segments: readonly string[], fold: boolean): boolean =>
  parts.length === segments.length &&
  parts.every((part, at) => {
    if (part.startsWith(':')) return true
    return fold ? part.toLowerCase() === segments[at]!.toLowerCase() : part === segments[at]
  })
