import { describe, expect, test } from 'vitest'
import { createRouter, MAX_BODY_BYTES } from '@errand/verifier/routes.ts'

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

  test.each(['..', '.', '%2e%2e', 'a%2Fb', 'a%5Cb', 'a%00', '%zz', '%80'])(
    'an argument %s in the path',
    async (segment) => {
      expect(await ask('GET', `/tickets/${segment}`)).toMatchObject({ refused: 'bad_arguments' })
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
