/** Kills a writing process again and again; whatever it had acknowledged must be there each time. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { checkAuditLog } from '../../../src/audit/checker.ts'
import { openAuditLog } from '../../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../../audit/fixtures.ts'
import { checkpointsOf } from '../../audit/signer.ts'

const WRITER = fileURLToPath(new URL('audit-writer.ts', import.meta.url))

/** Runs until so many records were acknowledged, then SIGKILL; returns all acknowledgements that came out. */
async function runAndKill(folder: string, after: number): Promise<readonly string[]> {
  const child = spawn(process.execPath, ['--import', 'tsx', WRITER, folder], { stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let errors = ''
  child.stderr.on('data', (chunk) => {
    errors += String(chunk)
  })
  child.stdout.on('data', (chunk) => {
    out += String(chunk)
    if (out.split('\n', after + 2).length > after + 1) child.kill('SIGKILL')
  })
  const signal = await new Promise<string | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (_code, signal) => resolve(signal))
  })
  if (signal !== 'SIGKILL') throw new Error(`the writer ended by itself: ${errors}`)
  return out.split('\n').slice(1, -1)
}

export async function killLoop(rounds: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-kill-'))
  const acknowledged = new Map<number, string>()
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const line of await runAndKill(folder, 1 + ((round * 379) % 1500))) {
        const [index = '', jti = ''] = line.split(' ')
        expect(acknowledged.has(Number(index))).toBe(false)
        acknowledged.set(Number(index), jti)
      }
      const log = await openAuditLog({
        folder,
        now: () => Date.now(),
        subjectVault: vaultOver(memorySubjectKeys()),
        every: manualTimer().every,
      })
      const found = new Map<number, unknown>()
      for (let at = 0; at < log.size; at += 5_000) for (const { i, jti } of await log.from(at, 5_000)) found.set(i, jti)
      const lost = [...acknowledged].filter(([index, jti]) => found.get(index) !== jti)
      expect({ round, lost }).toEqual({ round, lost: [] })
      // Whatever the process had signed when it was killed is the beginning of what is there now.
      const checkpoints = checkpointsOf(log)
      await checkpoints.tick()
      expect({ round, damage: checkpoints.damage(), size: checkpoints.newest()?.checkpoint.size }).toEqual({
        round,
        damage: undefined,
        size: log.size,
      })
      await log.close()
      expect(await checkAuditLog({ folder })).toMatchObject({ ok: true, damage: [] })
    }
    expect(acknowledged.size).toBeGreaterThan(rounds)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
