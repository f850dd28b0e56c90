/** What OCSF 1.3 requires of each class we use, of every kind of record; and syslog's form of it. */
import { describe, expect, it } from 'vitest'
import { type AuditRecord, EVENT_TYPES } from '../../src/audit/log.ts'
import { toOcsf } from '../../src/audit/ocsf.ts'
import { syslogFrame } from '../../src/audit/syslog-message.ts'

const of = (type: AuditRecord['type'], more: object = {}): AuditRecord =>
  ({ i: 7, log: '0a1b2c3d', t: 1_800_000_000_123, type, v: 1, ...more }) as AuditRecord

/** Required attributes by class, and how many activities it has (99 is Other). */
const CLASSES: Readonly<Record<number, readonly [required: readonly string[], activities: number]>> = {
  3002: [['user'], 6],
  3003: [['user', 'privileges'], 2],
  3004: [['entity'], 4],
  6002: [['app'], 8],
  6003: [['actor', 'api', 'src_endpoint'], 4],
}

describe('OCSF', () => {
  it.each(EVENT_TYPES)('%s has what its class requires, its numbers agree, and the record is whole in it', (type) => {
    const record = of(type)
    const event = toOcsf(record)
    const { class_uid, category_uid, activity_id, type_uid } = event as Record<string, number>
    const [required, activities] = CLASSES[class_uid!]!
    for (const name of required) expect(event).toHaveProperty(name)
    expect(category_uid).toBe(Math.floor(class_uid! / 1000))
    expect(activity_id === 99 || (activity_id! >= 1 && activity_id! <= activities)).toBe(true)
    expect(type_uid).toBe(class_uid! * 100 + activity_id!)
    expect(event).toMatchObject({
      time: 1_800_000_000_123,
      metadata: { version: '1.3.0', product: { vendor_name: 'Errand' }, uid: '0a1b2c3d/7', event_code: type },
      unmapped: record,
    })
    expect(JSON.parse(JSON.stringify(event))).toEqual(event)
  })

  it('tells an issue as privileges for a subject who is a hash, and a refusal as a failure with its reason', () => {
    const issued = of('token.issuing', {
      agent: 'research',
      subject: 'kX3',
      jti: 'AAA',
      tool: 'tickets',
      operations: ['read_ticket'],
      decision: 'permit',
    })
    expect(toOcsf(issued)).toMatchObject({
      class_uid: 3003,
      type_uid: 300301,
      status_id: 1,
      user: { uid: 'kX3' },
      actor: { user: { name: 'research' } },
      session: { uid: 'AAA' },
      privileges: ['tickets:read_ticket'],
    })
    const refused = of('token.refused', { agent: 'research', decision: 'refuse', reason: 'scope_not_granted' })
    expect(toOcsf(refused)).toMatchObject({ status_id: 2, severity_id: 2, status_detail: 'scope_not_granted' })
    expect(toOcsf(of('strangers.refused', { source: '192.0.2.7', count: 12 }))).toMatchObject({
      class_uid: 3002,
      status_id: 2,
      count: 12,
      src_endpoint: { ip: '192.0.2.7' },
    })
    expect(toOcsf(of('strangers.refused', { source: '2001:db8::/64' }))).toMatchObject({
      src_endpoint: { name: '2001:db8::/64' },
    })
    expect(toOcsf(of('revocation.added', { by: 'admin', cause: 'rev_x' }))).toMatchObject({
      type_uid: 300401,
      entity: { type: 'revocation', uid: 'rev_x' },
    })
  })
})

describe('syslog', () => {
  const payload = (more = '') =>
    Buffer.from(`{"agent":"r",${more}"i":7,"log":"0a1b2c3d","t":1800000000123,"type":"token.issuing","v":1}`)

  it('RFC 5424: facility, severity, time, names and the record; RFC 6587: its length in octets before it', () => {
    const frame = syslogFrame(payload(), payload().toString(), { host: 'errand.example.com' }).toString('latin1')
    const [, length, message] = /^([1-9][0-9]*) (.*)$/s.exec(frame)!
    expect(Number(length)).toBe(Buffer.byteLength(message!))
    expect(message).toBe(
      `<110>1 2027-01-15T08:00:00.123Z errand.example.com errand - token.issuing - ${payload().toString()}`,
    )
    expect(syslogFrame(payload('"decision":"refuse",'), '{}', { host: 'e' }).toString()).toMatch(/^[0-9]+ <109>1 /)
  })

  it('is ASCII, whatever a record says: no line is broken and no length is wrong', () => {
    const text = JSON.stringify({ purpose: 'Grüße 🎫\n<1>1 - ' })
    const frame = syslogFrame(payload(), text, { host: 'e' })
    const at = frame.indexOf(' ')
    expect(Number(frame.subarray(0, at).toString())).toBe(frame.length - at - 1)
    expect(frame.every((byte) => byte >= 0x20 && byte < 0x7f)).toBe(true)
    expect(JSON.parse(frame.toString().slice(frame.indexOf('{')))).toEqual(JSON.parse(text))
  })
})
