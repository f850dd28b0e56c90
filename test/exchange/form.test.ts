/** The form is read by hand where it is simple, and as everybody reads it always. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pairsOf } from '../../src/exchange/token-request.ts'

const pairs = (body: string) => [...pairsOf(body)].map(([name, value]) => [name, value])

describe('the pairs of a form', () => {
  it('are those of URLSearchParams, whatever stands there', () => {
    const piece = fc.constantFrom(
      'a',
      'scope',
      '=',
      '&',
      '+',
      '%20',
      '%2B',
      '%zz',
      '%',
      '%C3%A9',
      '%7E',
      '%3d',
      'é',
      '.',
      '_',
      '-',
      ' ',
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 14 }).map((parts) => parts.join('')),
        (body) => {
          expect(pairs(body)).toEqual([...new URLSearchParams(body)])
        },
      ),
      { numRuns: 2000 },
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.string(), fc.string({ unit: 'grapheme' }))), (given) => {
        const body = new URLSearchParams(given).toString()
        expect(pairs(body)).toEqual([...new URLSearchParams(body)])
      }),
    )
  })
})
