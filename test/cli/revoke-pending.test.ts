import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Double, NOW, serviceDouble } from './double.ts'

const ID = 'rev_9sQy3oQk2hYzR1bN5dWgTA'
const DIGEST = 'd'.repeat(43)
const PENDING = {
  id: ID,
  state: 'pending',
  digest: DIGEST,
  match: { domain: 'company.example' },
  mode: 'ban',
  reason: 'a breach',
  by: 'ann',
  at: NOW,
  expires_at: NOW + 900,
}
const members = { total: 0, names: [] }
const PREVIEW = {
  match: PENDING.match,
  mode: 'ban',
  tasks: { total: 0, ids: [], effect: 'end' },
  subjects: members,
  agents: { total: 1, names: ['research'] },
  tools: members,
  live_tokens: { count: 7, exact: true },
  verifiers: [],
}

describe('a revocation that takes two people', () => {
  let service: Double
  beforeAll(async () => {
    service = await serviceDouble()
  })
  afterAll(() => service.close())
  beforeEach(() => {
    service.received.length = 0
    service.answers.set(`GET /revocations/pending/${ID}`, { ...PENDING, preview: PREVIEW })
    service.answers.set(`POST /revocations/${ID}/confirm`, { id: ID, epoch: '1.9', match: PENDING.match, mode: 'ban' })
  })

  it('is shown as one that waits, and how another confirms it', async () => {
    service.answers.set('POST /revocations', PENDING)
    const flags = ['--domain', 'company.example', '--reason', 'a breach', '--wait', '--anyway']
    const { exit, out, err } = await service.cli('revoke', ...flags)
    expect(exit).toBe(0)
    expect(out).toContain('domain=company.example')
    expect(err).toBe(`nothing is revoked before another administrator confirms it: errand revoke confirm ${ID}\n`)
  })

  it('is listed', async () => {
    service.answers.set('GET /revocations/pending', { pending: [PENDING] })
    const { out } = await service.cli('revoke', 'pending')
    expect(out).toMatch(new RegExp(`^REVOCATION .*\\n${ID}  ban   domain=company.example  ann  .*a breach\\n$`))
    service.answers.set('GET /revocations/pending', { pending: [] })
    expect(await service.cli('revoke', 'pending')).toMatchObject({ exit: 0, out: '', err: 'nothing waits\n' })
  })

  it('is shown with what it would touch, and confirmed only where that is said', async () => {
    const shown = await service.cli('revoke', 'confirm', ID)
    expect(shown.exit).toBe(0)
    expect(shown.out).toMatch(/asked by +ann\n(?:.*\n)*live tokens +7/)
    expect(shown.err).toContain(`errand revoke confirm ${ID} --yes --digest ${DIGEST}`)
    expect(service.received.map(({ method }) => method)).toEqual(['GET'])

    const done = await service.cli('revoke', 'confirm', ID, '--yes', '--digest', DIGEST)
    expect([done.exit, done.out], done.err).toEqual([0, expect.stringMatching(/epoch +1\.9\n/)])
    expect(service.received.at(-1)).toMatchObject({ path: `/revocations/${ID}/confirm`, body: { digest: DIGEST } })
  })

  it('is not confirmed where it is not what was shown, or not said whole', async () => {
    const other = await service.cli('revoke', 'confirm', ID, '--yes', '--digest', 'e'.repeat(43))
    expect([other.exit, other.err]).toEqual([1, expect.stringContaining('nothing was revoked')])
    for (const flags of [['--wait'], ['--digest', DIGEST], ['--yes', '--timeout', '5']])
      expect((await service.cli('revoke', 'confirm', ID, ...flags)).exit).toBe(2)
    expect((await service.cli('revoke', 'confirm', 'task_1', '--yes')).exit).toBe(2)
    expect(service.received.filter(({ method }) => method === 'POST')).toEqual([])
  })

  it('is signed by the administrator that ERRAND_ADMIN names, with a key of their own', async () => {
    await copyFile(join(service.keysDir, 'agents/research.jwk'), join(service.keysDir, 'research.jwk'))
    service.answers.set('GET /revocations/pending', { pending: [] })
    const { env } = service.world
    service.world.env = { ...env, ERRAND_ADMIN: 'research' }
    expect((await service.cli('revoke', 'pending')).exit).toBe(0)
    expect(service.received.at(-1)?.clientId).toBe('research')
    for (const name of ['../admin', 'nobody']) {
      service.world.env = { ...env, ERRAND_ADMIN: name }
      expect((await service.cli('revoke', 'pending')).exit).toBe(2)
    }
    service.world.env = env
  })
})
