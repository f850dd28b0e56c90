import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Double, NOW, serviceDouble } from './double.ts'

let service: Double
beforeEach(async () => {
  service = await serviceDouble()
})
afterEach(() => service.close())

const TASK = 'task_AAECAwQFBgcICQoLDA0ODw'
const CHILD = 'task_BBECAwQFBgcICQoLDA0ODw'

describe('revoking', () => {
  it('revokes by a conjunction, with the tool’s audience looked up, and prints the epoch', async () => {
    service.answers.set('GET /tools', { tools: [{ name: 'tickets', audience: 'https://tickets.example.com/' }] })
    service.answers.set('POST /revocations', ({ body }: { body: { match: object } }) => ({
      id: 'rev_AAECAwQFBgcICQoLDA0ODw',
      epoch: '0.8',
      match: body.match,
      mode: 'ban',
      tasks_ended: [TASK, CHILD],
    }))
    const { out, err } = await service.cli(
      'revoke',
      '--agent',
      'research',
      '--tool',
      'tickets',
      '--reason',
      'key leaked',
    )
    expect(service.received.at(-1)?.body).toEqual({
      match: { client_id: 'research', aud: 'https://tickets.example.com/' },
      reason: 'key leaked',
    })
    expect(out).toBe(
      `revocation       rev_AAECAwQFBgcICQoLDA0ODw
epoch            0.8
match            client_id=research and aud=https://tickets.example.com/
mode             ban
tasks ended      2
`,
    )
    expect(err).toBe('until: errand readmit rev_AAECAwQFBgcICQoLDA0ODw --reason …\n')
    expect((await service.cli('revoke', '--tool', 'ticket', '--reason', 'why')).err).toContain('did you mean tickets?')
  })

  it('revokes everything only when that is said in as many words', async () => {
    service.answers.set('POST /revocations', { id: 'rev_x', epoch: '0.9', match: {}, mode: 'ban' })
    expect(await service.cli('revoke', '--reason', 'why')).toMatchObject({ exit: 2, out: '' })
    expect(await service.cli('revoke', '--all', '--agent', 'a', '--reason', 'why')).toMatchObject({ exit: 2 })
    expect(await service.cli('revoke', '--agent', '', '--reason', 'why')).toMatchObject({ exit: 2 })
    expect(await service.cli('revoke', '--agent=', '--reason', 'why')).toMatchObject({ exit: 2 })
    expect(service.received).toEqual([])
    expect((await service.cli('revoke', '--all', '--reason', 'why')).exit).toBe(0)
    expect(service.received.at(-1)?.body).toEqual({ match: {}, reason: 'why', everything: true })
  })

  it('previews a revocation, re-admits, lists bans, rotates and ends tasks', async () => {
    service.answers.set('POST /revocations', {
      dry_run: true,
      match: { client_id: 'research' },
      mode: 'ban',
      tasks: { total: 4, ids: [TASK, TASK, TASK, TASK], effect: 'end' },
      subjects: { total: 1, names: ['dev|alice'] },
      agents: { total: 1, names: ['research'] },
      tools: { total: 1, names: ['tickets'] },
      live_tokens: { count: 7, exact: false, latest_expiry: NOW + 300 },
      verifiers: [{ tool: 'tickets', by: 'feed', bound_seconds: 30 }],
      bulk_token: 'bulk_AbC',
    })
    service.answers.set('POST /revocations/rev_1/readmit', { id: 'rev_1' })
    service.answers.set('GET /revocations/bans', {
      bans: [
        { id: 'rev_1', epoch: '0.3', match: { sub: 'dev|bob' }, mode: 'ban', at: NOW, by: 'admin', reason: 'left' },
      ],
    })
    service.answers.set('POST /keys/rotate', { purpose: 'token', kid: 'k2', state: 'prepared', activates_at: NOW + 60 })
    service.answers.set(`GET /tasks/${TASK}`, { id: TASK, state: 'active' })
    service.answers.set(`POST /tasks/${TASK}/cancel`, { id: TASK, state: 'cancelled' })
    const preview = await service.cli('revoke', '--agent', 'research', '--reason', 'why', '--dry-run')
    expect(preview.out).toContain(`tasks that would end  4          ${TASK} ${TASK} ${TASK} …\n`)
    expect(preview.out).toContain('live tokens           7 at most  the last expires 2027-01-15 08:05:00Z\n')
    expect(preview.out).toContain('refused at tickets               follows the feed; within 30 s in any case')
    expect(preview.err).toBe(
      'nothing was changed\nexactly this, once, within 15 minutes: errand revoke --bulk-token bulk_AbC --reason …\n',
    )
    await service.cli('revoke', '--bulk-token', 'bulk_AbC', '--reason', 'as shown')
    expect(service.received.at(-1)?.body).toEqual({ bulk_token: 'bulk_AbC', reason: 'as shown' })
    const before = service.received.length
    for (const beside of [['--agent', 'research'], ['--dry-run'], ['--mode', 'cut'], ['--all']])
      expect((await service.cli('revoke', '--bulk-token', 'bulk_AbC', '--reason', 'why', ...beside)).exit).toBe(2)
    expect((await service.cli('revoke', '--bulk-token', 'rev_1', '--reason', 'why')).exit).toBe(2)
    expect(service.received.length).toBe(before)
    expect((await service.cli('readmit', 'rev_1', '--reason', 'new key')).out).toBe('rev_1 readmitted\n')
    for (const verb of [['bans'], ['ban', 'list']])
      expect((await service.cli(...verb)).out).toContain('rev_1  0.3    ban   sub=dev|bob')
    expect((await service.cli('keys', 'rotate')).out).toBe(
      'token: k2 is published, and signs from 2027-01-15 08:01:00Z\n',
    )
    expect((await service.cli('task', 'cancel', TASK)).out).toBe(`${TASK} cancelled\n`)
  })

  it('suspends and resumes, and says what came of it', async () => {
    service.answers.set('POST /revocations', {
      id: 'rev_1',
      epoch: '0.9',
      match: { client_id: 'research' },
      mode: 'suspend',
      tasks_suspended: [TASK],
    })
    service.answers.set('POST /revocations/rev_1/resume', { id: 'rev_1', tasks_resumed: [TASK] })
    const done = await service.cli('suspend', '--agent', 'research', '--reason', 'looks odd')
    expect(service.received.at(-1)?.body).toEqual({
      match: { client_id: 'research' },
      mode: 'suspend',
      reason: 'looks odd',
    })
    expect(done.out).toMatch(/tasks suspended +1/)
    expect(done.err).toBe('until: errand resume rev_1 --reason …\n')
    expect((await service.cli('resume', 'rev_1', '--reason', 'it was nothing')).out).toBe(
      'rev_1 resumed\ntasks that go on  1\n',
    )
  })

  it('revokes by a window of issue, however its time is written', async () => {
    service.answers.set('POST /revocations', { id: 'rev_1', mode: 'cut', match: { client_id: 'research' } })
    for (const time of ['1800000000', '2027-01-15T08:00:00Z']) {
      await service.cli('revoke', '--agent', 'research', '--checked-before', time, '--reason', 'why', '--anyway')
      expect(service.received.at(-1)?.body).toEqual({
        match: { client_id: 'research' },
        checked_before: 1_800_000_000,
        reason: 'why',
      })
    }
    const wrong = await service.cli('revoke', '--agent', 'research', '--checked-before', 'noon', '--reason', 'why')
    expect(wrong).toMatchObject({ exit: 2 })
  })

  it('contains, and says from how many tasks something was taken', async () => {
    service.answers.set('POST /revocations', {
      id: 'rev_1',
      mode: 'contain',
      match: { task: TASK },
      tasks_contained: [TASK],
    })
    const done = await service.cli(
      ...[
        'contain',
        '--task',
        TASK,
        '--take',
        'crm,payments:refund',
        '--max-effect',
        'read',
        '--reason',
        'why',
        '--anyway',
      ],
    )
    expect(done.out).toMatch(/tasks contained +1/)
    expect(service.received.at(-1)?.body).toEqual({
      match: { task: TASK },
      mode: 'contain',
      take: { tools: ['crm'], operations: ['payments:refund'], max_effect: 'read' },
      reason: 'why',
    })
    expect(await service.cli('contain', '--task', TASK, '--reason', 'why')).toMatchObject({ exit: 2 })
  })
})
