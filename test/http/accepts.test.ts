import { expect, it } from 'vitest'
import { acceptanceOf } from '../../src/http/accepts.ts'

it.each([
  [undefined, 1, false],
  ['', 1, false],
  ['*/*', 1, false],
  ['application/*;q=0.5', 0.5, false],
  ['application/a+jwt', 1, true],
  ['APPLICATION/A+JWT ; Q=0.25', 0.25, true],
  ['*/*;q=0.1, application/a+jwt;q=0.7, application/*', 0.7, true],
  ['application/a+jwt;q=0, */*', 0, true],
  ['*/*, application/a+jwt;q=0', 0, true],
  ['application/b+jwt', 0, false],
  ['text/*, application/json', 0, false],
  ['application/a+jwt;v=1;q=0.5', 0.5, true],
  // Not a weight: the range is as if it had none.
  ['application/a+jwt;q=2', 1, true],
  [',,;,', 0, false],
])('Accept: %s takes it with %s, by its name: %s', (accept, quality, named) => {
  expect(acceptanceOf(accept, 'application/a+jwt')).toEqual({ quality, named })
})
