import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createConfigHolder } from '../../src/config/holder.ts'
import type { LoadResult } from '../../src/config/load.ts'
import { edit, load } from './folder.ts'

async function house(changed: Record<string, string | undefined> = {}) {
  const first = await load(changed)
  if (!first.ok) throw new Error(JSON.stringify(first.problems))
  let next: () => Promise<LoadResult> = async () => first
  let readings = 0
  const changes: string[] = []
  const failures: string[] = []
  const watched = new Map<string, () => void>()
  const holder = createConfigHolder({
    first: first.snapshot,
    now: () => 42,
    load: () => {
      readings++
      return next()
    },
    watchPath: (path, changedNow) => {
      watched.set(path, changedNow)
      return () => watched.delete(path)
    },
  })
  holder.onChange((now, before) =>
    changes.push(`${before.digest === first.snapshot.digest ? 'first' : 'later'} → ${now.agents.all.length}`),
  )
  holder.onFailure(({ problems }) => failures.push(problems))
  return {
    holder,
    first: first.snapshot,
    changes,
    failures,
    watched,
    readings: () => readings,
    nextIs: (files: Record<string, string | undefined>) => {
      next = () => load(files)
    },
    nextDoes: (what: () => Promise<LoadResult>) => {
      next = what
    },
  }
}

describe('the configuration in force', () => {
  it('is replaced as a whole, and a request that began with the old one keeps it', async () => {
    const { holder, first, changes, nextIs } = await house()
    const begun = holder.current()
    nextIs(edit('config/agents/research.yaml', 'stage: reversible_write', 'stage: read'))
    expect(await holder.reload()).toBe(true)
    expect(begun).toBe(first)
    expect(begun.agents.byClientId('research')!.stage).toBe('reversible_write')
    expect(holder.current().agents.byClientId('research')!.stage).toBe('read')
    expect(changes).toEqual(['first → 1'])
    expect(holder.failure()).toBeUndefined()
  })

  it('is in force when what must come before it is done, and not where that fails', async () => {
    const { holder, first, changes, failures, nextIs } = await house()
    const seen: unknown[] = []
    let away = true
    holder.beforeChange(async (next) => {
      seen.push(next.agents.byClientId('research')!.stage, holder.current() === first)
      await Promise.resolve()
      if (away) throw new Error('the store is away')
    })
    nextIs(edit('config/agents/research.yaml', 'stage: reversible_write', 'stage: read'))
    expect(await holder.reload()).toBe(false)
    expect(holder.current()).toBe(first)
    expect([changes, failures]).toEqual([[], ['the configuration cannot be used: the store is away']])
    away = false
    expect(await holder.reload()).toBe(true)
    expect(holder.current().agents.byClientId('research')!.stage).toBe('read')
    expect(seen).toEqual(['read', true, 'read', true])
    expect(holder.failure()).toBeUndefined()
  })

  it('stays the same object where nothing changed, and tells nobody', async () => {
    const { holder, first, changes } = await house()
    expect(await holder.reload()).toBe(true)
    expect(holder.current()).toBe(first)
    expect(changes).toEqual([])
  })

  it('G6 a policy file that is half-written or invalid leaves the old set in force, and shows until it is mended', async () => {
    const { holder, first, failures, nextIs } = await house()
    nextIs({ 'config/policies/base.cedar': '@id("all") permit (principal, acti' })
    expect(await holder.reload()).toBe(false)
    expect(holder.current()).toBe(first)
    expect(holder.failure()).toMatchObject({ at: 42, problems: expect.stringContaining('[policy_rejected]') })
    expect(failures).toHaveLength(1)
    nextIs({})
    expect(await holder.reload()).toBe(true)
    expect(holder.failure()).toBeUndefined()
  })

  it('G5 a policy that is too large leaves the old set in force', async () => {
    const { holder, first, nextIs } = await house()
    nextIs({ 'config/policies/base.cedar': `// ${'x'.repeat(5_000_000)}` })
    expect(await holder.reload()).toBe(false)
    expect(holder.current()).toBe(first)
    expect(holder.failure()!.problems).toContain('[policy_too_large]')
  })

  it('keeps the old one where the folder cannot be read, and says so', async () => {
    const { holder, first, nextDoes } = await house()
    nextDoes(async () => {
      throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
    })
    expect(await holder.reload()).toBe(false)
    expect(holder.current()).toBe(first)
    expect(holder.failure()!.problems).toMatch(/permission denied/)
  })

  it('does not take what needs a restart, half or whole', async () => {
    const { holder, first, nextIs } = await house()
    for (const [text, part] of [
      ['issuer: https://other.example.com\n', 'issuer'],
      ['issuer: https://errand.example.com\nmode: development\n', 'mode'],
      ['issuer: https://errand.example.com\nlisten: { port: 9 }\n', 'listen'],
    ] as const) {
      nextIs({ 'config/errand.yaml': text })
      expect(await holder.reload()).toBe(false)
      expect(holder.current()).toBe(first)
      expect(holder.failure()!.problems).toBe(`errand.yaml: a change of ${part} needs a restart`)
    }
  })

  it('reads once more for those who asked while it was reading, and never twice at one time', async () => {
    const { holder, readings, nextDoes } = await house()
    let release: (() => void) | undefined
    let reading = 0
    nextDoes(async () => {
      expect(++reading).toBe(1)
      await new Promise<void>((resolve) => {
        release = resolve
      })
      reading--
      return load()
    })
    const asked = [holder.reload(), holder.reload(), holder.reload()]
    release!()
    nextDoes(() => load())
    expect(await Promise.all(asked)).toEqual([true, true, true])
    expect(readings()).toBe(2)
  })

  it('reloads when a file below a watched folder changes, until it is told to stop', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'errand-watch-'))
    try {
      const first = await load()
      if (!first.ok) throw new Error(JSON.stringify(first.problems))
      const holder = createConfigHolder({
        first: first.snapshot,
        now: () => 1,
        load: () => load(edit('config/agents/research.yaml', 'stage: reversible_write', 'stage: read')),
      })
      const changed = new Promise<void>((resolve) => holder.onChange(() => resolve()))
      const stop = holder.watch([folder])
      // Again and again: the first may come before the first look, and then it is what was always there.
      let writes = 0
      const write = () => void writeFile(join(folder, 'x.yaml'), 'a: 1\n'.repeat(++writes))
      write()
      const writing = setInterval(write, 300)
      await changed
      clearInterval(writing)
      stop()
      expect(holder.current().agents.byClientId('research')!.stage).toBe('read')
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
