import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { formatProblems } from '../../src/config/check.ts'
import { listMaterial } from '../../src/config/first-start.ts'
import { createConfigLoader } from '../../src/config/load.ts'
import { createReadings } from '../../src/config/readings.ts'
import { prepareMaterial } from '../../src/keys/material.ts'

it('what a first start makes is what the sample configuration wants', async () => {
  const keysDir = await mkdtemp(join(tmpdir(), 'errand-keys-'))
  try {
    const { mode, agents, tools, issuers } = await listMaterial('config')
    await prepareMaterial({
      keysDir,
      mode,
      agents: agents.map(({ clientId }) => clientId),
      tools: tools.map(({ name }) => name),
      userIssuer: issuers.length > 0,
    })
    const load = createConfigLoader({ dir: 'config', keysDir, now: () => 1 })
    const [loaded, again] = [await load(), await load()]
    if (!loaded.ok || !again.ok)
      throw new Error(loaded.ok ? 'the second reading differs' : formatProblems(loaded.problems))
    const { snapshot } = loaded
    expect(snapshot.agents.all.map(({ keys }) => keys.length)).toEqual([1, 1, 1])
    expect(snapshot.tools.all.map(({ keys }) => keys.length)).toEqual([1, 1, 1, 1, 1])
    expect(snapshot.machines.byClientId('admin')).toMatchObject({ kind: 'admin', keys: [{ alg: 'ES256' }] })
    expect(snapshot.machines.byClientId('tool:payments')).toMatchObject({ kind: 'tool' })
    expect(snapshot.agents.byClientId('payments')!.keys).not.toEqual(
      snapshot.machines.byClientId('tool:payments')!.keys,
    )
    expect(again.snapshot.digest).toBe(snapshot.digest)
  } finally {
    await rm(keysDir, { recursive: true })
  }
})

it('what was read ahead is used once, and only for the same text of the same kind', () => {
  const readings = createReadings()
  const text = 'name: crm\naudience: https://crm.example\noperations: {}\n'
  const ahead = readings.readAhead('tool', 'config/tools/crm.yaml', text)
  expect(readings.read('tool', 'config/tools/crm.yaml', text)).toBe(ahead)
  expect(readings.read('tool', 'config/tools/crm.yaml', text)).not.toBe(ahead)

  readings.readAhead('tool', 'config/tools/crm.yaml', text)
  expect(readings.read('tool', 'config/tools/crm.yaml', `${text}nmae: x\n`)).toMatchObject({
    ok: false,
    problems: [{ code: 'unknown_key', line: 4 }],
  })
  readings.readAhead('tool', 'config/tools/crm.yaml', text)
  expect(readings.read('agent', 'config/tools/crm.yaml', text)).toMatchObject({ ok: false })
})
