import { describe, expect, it } from 'vitest'
import { scheduleOf } from '../../src/rotate/rotate.ts'
import { nextStep, type RotatingKey, type Step } from '../../src/rotate/step.ts'

const schedule = { lifetimeSeconds: 1000, overlapSeconds: 100, lagSeconds: 0, retireAfterSeconds: 400 }
const active = (since: number, kid = 'a'): RotatingKey => ({
  kid,
  state: 'active',
  preparedAt: since - 100,
  activatedAt: since,
})
const prepared = (at: number, kid = 'p'): RotatingKey => ({ kid, state: 'prepared', preparedAt: at })
const held = (at: number): RotatingKey => ({ ...prepared(at), held: true })
const retiring = (at: number, kid = 'r'): RotatingKey => ({
  kid,
  state: 'retiring',
  preparedAt: 0,
  activatedAt: 0,
  retiringAt: at,
})

const table: readonly (readonly [string, readonly RotatingKey[], number, Step])[] = [
  ['with nothing at all, prepares', [], 0, { do: 'prepare' }],
  ['with nothing active, activates what is prepared without waiting', [prepared(0)], 0, { do: 'activate', kid: 'p' }],
  ['a young key signs on', [active(0)], 899, { do: 'wait' }],
  ['prepares when only the overlap is left', [active(0)], 900, { do: 'prepare' }],
  ['does not activate before the overlap has passed', [active(0), prepared(950)], 1049, { do: 'wait' }],
  ['activates when it has', [active(0), prepared(950)], 1050, { do: 'activate', kid: 'p' }],
  ['activates early where somebody asked', [active(0), prepared(10)], 110, { do: 'activate', kid: 'p' }],
  ['O3 and at once where every verifier holds it', [active(0), held(10)], 10, { do: 'activate', kid: 'p' }],
  ['though nobody asked, not before its time', [active(50), held(50)], 60, { do: 'wait' }],
  ['leaves a spare from before the active key alone', [active(50), prepared(50)], 900, { do: 'wait' }],
  ['uses the spare when the time has come', [active(50), prepared(50)], 1050, { do: 'activate', kid: 'p' }],
  [
    'of two prepared keys takes the one published first',
    [active(0), prepared(20, 'q'), prepared(10)],
    500,
    { do: 'activate', kid: 'p' },
  ],
  [
    'and the smaller kid where they are equally old',
    [active(0), prepared(10, 'z'), prepared(10)],
    500,
    { do: 'activate', kid: 'p' },
  ],
  ['keeps a retiring key while its tokens may live', [active(0), retiring(0)], 399, { do: 'wait' }],
  ['retires it afterwards', [active(0), retiring(0)], 400, { do: 'retire', kid: 'r' }],
  [
    'pays no heed to what is over',
    [active(0), { kid: 'x', state: 'compromised', preparedAt: 0 }, { kid: 'y', state: 'retired', preparedAt: 0 }],
    500,
    { do: 'wait' },
  ],
  ['a clock set back makes nothing due', [active(0), prepared(10), retiring(0)], -5000, { do: 'wait' }],
]

describe('the next step of rotation', () => {
  for (const [name, keys, now, step] of table) it(name, () => expect(nextStep(keys, schedule, now)).toEqual(step))
})

describe('a schedule', () => {
  it('is never shorter than caches and tokens need, whatever the configuration says', () => {
    expect(
      scheduleOf({
        lifetimeSeconds: 1,
        overlapSeconds: 1,
        jwksMaxAgeSeconds: 300,
        maxTokenLifetimeSeconds: 300,
        replicas: false,
      }),
    ).toEqual({
      lifetimeSeconds: 330,
      overlapSeconds: 330,
      lagSeconds: 0,
      retireAfterSeconds: 660,
    })
    expect(
      scheduleOf({
        lifetimeSeconds: 90 * 86_400,
        overlapSeconds: 86_400,
        jwksMaxAgeSeconds: 300,
        maxTokenLifetimeSeconds: 300,
        replicas: true,
      }),
    ).toEqual({ lifetimeSeconds: 90 * 86_400, overlapSeconds: 86_400, lagSeconds: 30, retireAfterSeconds: 86_400 })
  })
})
