import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { frame } from '../../src/cli/top-frame.ts'
import { NOW, serviceDouble } from './double.ts'

const plain = { colors: pc.createColors(false) }
const reading = (more: object = {}) => ({
  at: NOW,
  issuer: 'http://127.0.0.1:4460',
  uptime_seconds: 7300,
  cpu_seconds: 10,
  resident_mib: 141.2,
  in_flight: 3,
  requests: [
    {
      route: '/token',
      method: 'POST',
      statuses: { 200: 100, 400: 10 },
      within: { '0.005': 50, '0.01': 110, '+Inf': 110 },
    },
    { route: '/health', method: 'GET', statuses: { 200: 5 }, within: { '0.001': 5, '+Inf': 5 } },
  ],
  issued: { access: 100 },
  refused: { scope_not_granted: 10, proof_replayed: 0 },
  revoked: { cut: 2, ban: 1 },
  epoch: '1.3',
  verifiers: [
    { verifier: 'tool:tickets', epoch: '1.3', behind: 0, at: NOW - 4 },
    { verifier: 'tool:crm', epoch: '1.1', behind: 2, at: NOW - 600 },
  ],
  audit_records: 204,
  checks: { store: 'ok', audit: 'ok', keys: 'ok', config: 'degraded' },
  ...more,
})
const later = reading({
  at: NOW + 2,
  cpu_seconds: 10.5,
  requests: [
    {
      route: '/token',
      method: 'POST',
      statuses: { 200: 300, 400: 30, 503: 1 },
      within: { '0.005': 250, '0.01': 330, '0.025': 331, '+Inf': 331 },
    },
    { route: '/health', method: 'GET', statuses: { 200: 5 }, within: { '0.001': 5, '+Inf': 5 } },
  ],
  issued: { access: 300 },
  refused: { scope_not_granted: 30, proof_replayed: 1 },
})

describe('errand top', () => {
  it('tells rates between two readings, latency by bucket, and who is behind', () => {
    expect(frame(plain, reading(), later).join('\n')).toMatchInlineSnapshot(`
      "errand top  http://127.0.0.1:4460  up 2 h  08:00:02Z
      store ok  audit ok  keys ok  config degraded
      tokens 100/s   refused 10.5/s   exchange p50 ≤5 ms, p99 ≤10 ms   in flight 3   cpu 25 %   resident 141.2 MiB
      epoch 1.3   audit records 204   revocations 3

      ROUTE        /S   P50    P99     4XX/S  5XX/S
      POST /token  111  ≤5 ms  ≤10 ms  10     0.5

      REFUSED FOR        /S   SINCE START
      scope_not_granted  10   30
      proof_replayed     0.5  1

      VERIFIER      EPOCH  BEHIND  SAID
      tool:tickets  1.3    0       6 s ago
      tool:crm      1.1    2       10 min ago"
    `)
  })

  it('a service that began anew counts from nothing, not below it', () => {
    const again = reading({ at: NOW + 2, requests: [], issued: { access: 4 }, refused: {} })
    expect(frame(plain, reading(), again).join('\n')).toContain('tokens 2/s   refused 0/s')
  })

  it('draws what came from elsewhere as text', () => {
    const evil = reading({
      issuer: 'x\u001b[2J',
      verifiers: [{ verifier: '\u001b]0;x', epoch: '1.1', behind: 0, at: NOW }],
    })
    expect(frame(plain, evil, evil).join('\n')).not.toContain('\u001b')
  })

  it('prints one picture to a pipe, and the counters as JSON', async () => {
    const service = await serviceDouble()
    try {
      let asked = 0
      service.answers.set('GET /stats', () => (asked++ === 0 ? reading() : later))
      const once = await service.cli('top', '--once')
      expect([once.exit, once.out]).toEqual([0, expect.stringContaining('tokens 100/s')])
      const raw = await service.cli('top', '--json')
      expect(JSON.parse(raw.out)).toEqual(later)
      expect((await service.cli('top', '--interval', '0')).exit).toBe(2)
    } finally {
      await service.close()
    }
  })
})
