/** Verification at the tool's side: ours at first sight and seen before, beside jose, PyJWT and go-jose. */
import { execFile, spawn } from 'node:child_process'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Bench } from './bench.ts'
import type { Verified } from './verify-main.ts'
import { ratio, type Spread, spreadOf } from './spread.ts'

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const exec = promisify(execFile)
const GO_JOSE = 'github.com/go-jose/go-jose/v4@v4.1.8'
/** Of signatures in one round of the other languages. */
const EACH = 2000

export async function verificationSection(bench: Bench): Promise<void> {
  const { note, quick, core } = bench
  const rounds = quick ? 3 : 9
  const said = await output(bench, [
    process.execPath,
    ...bench.nodeFlags,
    '--expose-gc',
    '--import',
    'tsx',
    file('./verify-main.ts'),
    String(rounds),
    quick ? '600' : '1500',
  ])
  const { values, sample } = JSON.parse(said) as Verified
  for (const [name, list] of Object.entries(values))
    note(name, list, 'µs', name === 'token, seen before' ? { atMost: 5 } : {})
  const bare = values['bare verification']
  note('token at first sight ÷ bare verification', ratio(values['token, first sight'], bare), '×', { atMost: 1.3 })
  note('DPoP request seen before ÷ bare verification', ratio(values['DPoP request, seen before'], bare), '×', {
    atMost: 1.3,
    note: 'token and proof key seen before; the proof itself is new each time and verified',
  })
  const first = bare.map((each, round) => 2 * each + values['bare key import'][round]!)
  note(
    'DPoP request at first sight ÷ (two bare verifications + key import)',
    ratio(values['DPoP request, first sight'], first),
    '×',
    { atMost: 1.3 },
  )
  const others = JSON.stringify({ ...sample, each: EACH, rounds })
  for (const [name, measured] of [
    ['token, PyJWT', byPython(bench, others)],
    ['token, go-jose', byGo(bench, others)],
  ] as const) {
    const found = await measured
    if (typeof found === 'string') bench.say(`  ${name} is left out: ${found}`)
    else note(name, found, 'µs')
  }
  if (core === undefined) bench.say('  not pinned')
}

async function output({ core }: Bench, command: readonly string[], input = ''): Promise<string> {
  const [program, ...args] = core === undefined ? command : ['taskset', '-c', String(core), ...command]
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(input)
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}`)
  return Buffer.concat(chunks).toString()
}

/** CPU microseconds, one number for each round. */
const spreadIn = (said: string): Spread => spreadOf(JSON.parse(said) as number[])

async function byPython(bench: Bench, input: string): Promise<Spread | string> {
  const python = process.env['ERRAND_TEST_PYTHON'] ?? 'python3'
  try {
    await exec(python, ['-c', 'import jwt, cryptography'])
  } catch {
    return `${python} has no PyJWT with cryptography (ERRAND_TEST_PYTHON names another)`
  }
  return spreadIn(await output(bench, [python, file('./verify.py')], input))
}

async function byGo(bench: Bench, input: string): Promise<Spread | string> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-bench-go-'))
  const go = (...args: string[]) => exec('go', args, { cwd: folder, timeout: 120_000 })
  try {
    await copyFile(file('./verify.go'), join(folder, 'main.go'))
    await go('mod', 'init', 'bench')
    await go('get', GO_JOSE)
    await go('build', '-o', 'verify', '.')
    return spreadIn(await output(bench, [join(folder, 'verify')], input))
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }
    return code === 'ENOENT'
      ? 'go is not there'
      : `go-jose could not be built (${stderr?.trim().split('\n').at(-1) ?? error})`
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
