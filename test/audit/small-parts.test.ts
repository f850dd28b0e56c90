import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isDecisionId, newDecisionId, newJti, newLogId, timeOfId } from '../../src/audit/ids.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import { sourceBlock } from '../../src/audit/source.ts'
import { createStrangerFold } from '../../src/audit/strangers.ts'

describe('ids', () => {
  it('carry log and time, and are never the same twice', () => {
    const logId = newLogId()
    const ids = Array.from({ length: 1000 }, () => newJti(logId, 1_800_000_000_123))
    expect(new Set(ids).size).toBe(1000)
    for (const id of ids) expect(timeOfId(id)).toEqual({ logId, ms: 1_800_000_000_123 })
    const decision = newDecisionId(logId, 1_800_000_000_123)
    expect(decision).toMatch(/^dec_[A-Za-z0-9_-]{27}$/)
    expect(timeOfId(decision)).toEqual({ logId, ms: 1_800_000_000_123 })
  })

  it('of a log whose ids begin with dec_ are still told apart', () => {
    const jti = newJti('75e73f00', 5)
    expect(jti).toMatch(/^dec_/)
    expect(timeOfId(jti)).toEqual({ logId: '75e73f00', ms: 5 })
    expect(isDecisionId(jti)).toBe(false)
  })

  it.each([
    '',
    'x',
    'dec_',
    `${'A'.repeat(26)}B`,
    'A'.repeat(28),
    `${'A'.repeat(26)}=`,
    'dec_dec_AAAAAAAAAAAAAAAAAAAAAAAAAA',
  ])('an id like %j has no time', (id) => {
    expect(timeOfId(id)).toBeUndefined()
  })
})

describe('leaf', () => {
  it('hashes the empty record as RFC 9162 §2.1.1 says: SHA-256 of a zero byte', () => {
    expect(leafHash(new Uint8Array()).toString('hex')).toBe(
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    )
  })
})

describe('source of a stranger', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:c000:0207', '192.0.2.7'],
    ['0:0:0:0:0:ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002:0000:0000:0000:0001', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8::/64'],
    ['2001:db8:0:0:1::', '2001:db8::/64'],
    ['::1', '::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['1:2:3:4:5:6:192.0.2.7', '1:2:3:4::/64'],
    ['', 'unknown'],
    ['192.0.2.7.1', 'unknown'],
    ['x\n{"a":1}', 'unknown'],
  ])('H5 %j is counted under %s', (address, block) => {
    expect(sourceBlock(address)).toBe(block)
    expect(sourceBlock(block)).toBe(block)
  })

  it('H5 all spellings of all addresses of one /64 are one source', () => {
    const group = fc.integer({ min: 0, max: 0xffff })
    fc.assert(
      fc.property(
        fc.tuple(group, group, group, group),
        fc.array(group, { minLength: 4, maxLength: 4 }),
        (net, host) => {
          const long = [...net, ...host].map((part) => part.toString(16).padStart(4, '0').toUpperCase()).join(':')
          const short = [...net, ...host].map((part) => part.toString(16)).join(':')
          const other = [...net, 1, 2, 3, 4].map((part) => part.toString(16)).join(':')
          fc.pre(!(net.every((part) => part === 0) && host[0] === 0 && host[1] === 0xffff))
          expect(sourceBlock(long)).toBe(sourceBlock(short))
          expect(sourceBlock(other)).toBe(sourceBlock(short))
        },
      ),
    )
  })
})

describe('strangers', () => {
  it('are folded into one event per source, reason and second', () => {
    const fold = createStrangerFold()
    for (let n = 0; n < 1000; n += 1) fold.count(`2001:db8::${n.toString(16)}`, 'unknown_client', 5_000 + n)
    fold.count('192.0.2.1', 'expired', 5_100)
    expect(fold.take(5_999)).toEqual([])
    const events = fold.take(6_000)
    expect(events.map(({ source, reason, count }) => [source, reason, count])).toEqual([
      ['2001:db8::/64', 'unknown_client', 1000],
      ['192.0.2.1', 'expired', 1],
    ])
    expect(fold.take(7_000)).toEqual([])
  })

  it('are counted again when they could not be written', () => {
    const fold = createStrangerFold()
    fold.count('192.0.2.1', 'expired', 1_000)
    for (const event of fold.take(2_000)) fold.putBack(event)
    fold.count('192.0.2.1', 'expired', 1_500)
    expect(fold.take(3_000).map(({ count }) => count)).toEqual([2])
  })

  it('from a million addresses take bounded memory, and none goes uncounted', () => {
    const fold = createStrangerFold({ maxEntries: 100 })
    for (let n = 0; n < 20_000; n += 1) fold.count(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, 'bad_key', 1_000)
    const events = fold.take(2_000)
    expect(events.length).toBe(101)
    expect(events.reduce((sum, { count = 0 }) => sum + count, 0)).toBe(20_000)
    expect(events.at(-1)).toMatchObject({ source: '*', count: 19_900 })
  })
})
