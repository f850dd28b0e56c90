/** `model/revocation.qnt` by the TypeScript backend of Quint: long histories of a bigger model, tried at random. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const quint = 'model/node_modules/@informalsystems/quint/dist/src/cli.js'
const installed = existsSync(quint)
if (!installed) console.log('model: no Quint, so no simulation: npm ci --prefix model --ignore-scripts')

const TIME_LIMIT_MS = 300_000

interface Simulation {
  readonly module: string
  readonly invariant: string
  readonly step: string
  readonly seed: string
  readonly samples: number
}

/** Answers the violation that was found, with what shows it again; undefined where there was none. */
async function simulate({ module, invariant, step, seed, samples }: Simulation): Promise<string | undefined> {
  const run = promisify(execFile)(
    process.execPath,
    [
      quint,
      'run',
      'model/revocation.qnt',
      '--backend=typescript',
      `--main=${module}`,
      `--invariant=${invariant}`,
      `--step=${step}`,
      `--seed=${seed}`,
      `--max-samples=${samples}`,
      '--max-steps=40',
      '--verbosity=1',
    ],
    { env: { ...process.env, NO_COLOR: '1' } },
  )
  try {
    const { stdout } = await run
    expect(stdout).toContain('[ok] No violation found')
    return undefined
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { readonly stdout?: string; readonly stderr?: string }
    // What is no violation is an error in the model, and never the finding that was wanted.
    expect(`${stdout}${stderr}`).toContain('[violation]')
    return `${module} breaks ${invariant} by ${step}: ${/--seed=\S+/.exec(stdout)?.[0]}`
  }
}

describe.runIf(installed)('the model in Quint', () => {
  it.each(['step', 'feedStep', 'logStep', 'leaseStep'])(
    'keeps R1 to R8 in random histories of %s',
    async (step) => {
      const seed = `0x${(Date.now() % 0xffffff).toString(16)}`
      console.log(`model: ${step} by seed ${seed}`)
      expect(await simulate({ module: 'sound', invariant: 'safe', step, seed, samples: 60 })).toBeUndefined()
    },
    TIME_LIMIT_MS,
  )

  // Seeds that find it soon.
  it.each([
    { module: 'timeStamps', invariant: 'R1', step: 'feedStep', seed: '0x2a' },
    { module: 'epochAtSigning', invariant: 'R1', step: 'feedStep', seed: '0x2a' },
    { module: 'noFreshnessBound', invariant: 'R1', step: 'feedStep', seed: '0x9d5c' },
    { module: 'noGeneration', invariant: 'R1', step: 'logStep', seed: '0xd0f19' },
  ])(
    'refutes $module by $invariant',
    async (weaker) => {
      expect(await simulate({ ...weaker, samples: 2000 })).toBeDefined()
    },
    TIME_LIMIT_MS,
  )

  it.each([
    { invariant: 'neverAccepted', step: 'feedStep', seed: '0x2a' },
    { invariant: 'neverThreeHops', step: 'logStep', seed: '0x66492' },
  ])(
    'is not silent: $invariant is wrong',
    async (silent) => {
      expect(await simulate({ module: 'sound', ...silent, samples: 2000 })).toBeDefined()
    },
    TIME_LIMIT_MS,
  )
})
