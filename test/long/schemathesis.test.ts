import { expect, it } from 'vitest'
import { fuzz } from '../conformance/schemathesis.ts'

it('schemathesis for ten minutes: nothing outside the description, and no fault', async () => {
  const { exit, printed } = await fuzz(600)
  console.log(printed)
  expect({ exit, printed: exit === 0 ? '' : printed }).toEqual({ exit: 0, printed: '' })
}, 1_200_000)
