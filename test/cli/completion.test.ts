import { execFile, spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errand, openPlace, type OwnPlace } from './own.ts'

const run = promisify(execFile)
const has = (shell: string): boolean => spawnSync(shell, ['-c', 'true']).status === 0

const scripts: { [shell: string]: string } = {}
beforeAll(async () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { exit, out, err } = await errand(['completion', shell])
    expect([exit, err]).toEqual([0, ''])
    scripts[shell] = out
  }
})
let place: OwnPlace
beforeEach(async () => {
  place = await openPlace()
  for (const [folder, names] of [
    ['agents', ['research.yaml', 'triage.yaml', '$(touch pwned).yaml', '; touch pwned.yaml', 'notes.txt']],
    ['tools', ['tickets.yaml']],
  ] as const) {
    await mkdir(join(place.mine, 'config', folder), { recursive: true })
    for (const name of names) await writeFile(join(place.mine, 'config', folder, name), '')
  }
})
afterEach(() => place.close())

/** What Tab would fill in after the words; the last one is being typed. */
async function filledIn(...words: readonly string[]): Promise<readonly string[]> {
  const program = `source ./completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _errand; printf '%s\\n' "\${COMPREPLY[@]}"`
  await writeFile(join(place.mine, 'completion'), scripts['bash']!)
  const { stdout, stderr } = await run('bash', ['--norc', '-c', program, 'bash', 'errand', ...words], {
    cwd: place.mine,
    env: { PATH: process.env['PATH'] ?? '' },
  })
  expect(stderr).toBe('')
  return stdout.split('\n').filter((word) => word !== '')
}

describe('completion in bash', () => {
  it('fills in commands, and commands below them', async () => {
    expect(await filledIn('')).toEqual(expect.arrayContaining(['init', 'serve', 'doctor', 'token', 'completion']))
    expect(await filledIn('to')).toEqual(expect.arrayContaining(['token']))
    expect(await filledIn('token', '')).toEqual(['get', 'inspect', 'verify'])
    expect(await filledIn('completion', 'b')).toEqual(['bash'])
    expect(await filledIn('nonsense', '')).toEqual(['--help', '--version'])
  })

  it('fills in flags, and what they take: words, names of the configuration here, files', async () => {
    expect(await filledIn('doctor', '--')).toEqual(
      ['agent', 'tool', 'key-file', 'tool-url', 'subject-token-file', 'json', 'help'].map((name) => `--${name}`),
    )
    expect(await filledIn('init', '--stage', 'r')).toEqual(['read', 'reversible_write'])
    expect(await filledIn('token', 'get', '--agent', '')).toEqual(['research', 'triage'])
    expect(await filledIn('token', 'get', '--json', '--tool', 't')).toEqual(['tickets'])
    expect(await filledIn('agent', 'show', '')).toEqual(['research', 'triage'])
    expect(await filledIn('token', 'get', '--key-file', 'comp')).toEqual(['completion'])
    // A flag without a value, and a flag whose values nobody knows.
    expect(await filledIn('token', 'get', '--dry-run', '--key')).toEqual(['--key-file'])
    expect(await filledIn('token', 'get', '--purpose', '')).toEqual([])
  })

  it('runs nothing that a file is called', async () => {
    await filledIn('token', 'get', '--agent', '')
    await filledIn('token', 'get', '--agent', '$')
    await filledIn('agent', 'show', ';')
    await expect(run('ls', [join(place.mine, 'pwned')])).rejects.toThrow()
  })

  it('is registered for the command', async () => {
    await writeFile(join(place.mine, 'completion'), scripts['bash']!)
    const { stdout } = await run('bash', ['--norc', '-c', 'source ./completion; complete -p errand'], {
      cwd: place.mine,
    })
    expect(stdout).toBe('complete -F _errand errand\n')
  })
})

describe('completion in other shells', () => {
  it('knows the same commands, flags and values', () => {
    const [bash, zsh, fish] = [scripts['bash']!, scripts['zsh']!, scripts['fish']!]
    const tables = (script: string) =>
      script.slice(script.indexOf('__errand_commands()'), script.indexOf('\n_errand()'))
    expect(tables(zsh)).toBe(tables(bash))
    expect(fish).toContain(`complete -c errand -n '__errand_at token' -a get -d 'get a token, as an agent would'`)
    expect(fish).toMatch(/-n '__errand_at token get' -l agent -x -a '\(__errand_names agents\)'/)
    expect(fish).toMatch(/-n '__errand_at init' -l stage -x -a 'suggest draft read /)
  })

  it.runIf(has('zsh'))('is read by zsh', async () => {
    await writeFile(join(place.mine, 'completion'), `autoload -U compinit; compinit -u -D\n${scripts['zsh']}`)
    const { stderr } = await run('zsh', ['-f', 'completion'], { cwd: place.mine })
    expect(stderr).toBe('')
  })

  it.runIf(has('fish'))('is read by fish, and fills in', async () => {
    await writeFile(join(place.mine, 'completion'), scripts['fish']!)
    const { stdout } = await run('fish', ['-c', 'source completion; complete -C "errand token get --agent "'], {
      cwd: place.mine,
    })
    // Each with what it means behind a tab.
    const names = stdout
      .trim()
      .split('\n')
      .map((line) => line.split('\t')[0])
    expect(names).toEqual(['research', 'triage'])
  })
})
