import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createEventReader, type ServerSentEvent } from '@errand/verifier/sse.ts'

function read(chunks: readonly string[], maxLength = 1000): ServerSentEvent[] {
  const events: ServerSentEvent[] = []
  const feed = createEventReader(maxLength, (event) => events.push(event))
  for (const chunk of chunks) feed(chunk)
  return events
}

describe('server-sent events', () => {
  const text =
    'event: frame\nid: 0.1\ndata: abc\n\n: comment\r\nevent:frame\r\ndata:x\r\ndata: y\r\n\r\ndata\n\nevent: lonely\n\n'

  test('are read whole, whatever the chunks', () => {
    const whole = [
      { event: 'frame', data: 'abc' },
      { event: 'frame', data: 'x\ny' },
      { event: 'message', data: '' },
    ]
    expect(read([text])).toEqual(whole)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 12 })), (sizes) => {
        const chunks: string[] = []
        let rest = text
        for (const size of sizes) {
          chunks.push(rest.slice(0, size))
          rest = rest.slice(size)
        }
        expect(read([...chunks, rest])).toEqual(whole)
      }),
    )
  })

  test('end where one never ends', () => {
    expect(() => read(['data: ', 'x'.repeat(600), 'x'.repeat(600)])).toThrow(RangeError)
    expect(() => read(Array.from({ length: 20 }, () => `data: ${'x'.repeat(100)}\n`))).toThrow(RangeError)
  })
})
