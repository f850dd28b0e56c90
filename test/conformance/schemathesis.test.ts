import { expect, it } from 'vitest'
import { fuzz, python } from './schemathesis.ts'

const found = python()

it.skipIf(found === undefined)(
  `schemathesis for half a minute: nothing outside the description, and no fault${found === undefined ? ' (needs a Python with schemathesis and PyJWT, named by ERRAND_TEST_PYTHON)' : ''}`,
  async () => {
    const { exit, printed } = await fuzz(30)
    expect({ exit, printed: exit === 0 ? '' : printed }).toEqual({ exit: 0, printed: '' })
  },
  180_000,
)
