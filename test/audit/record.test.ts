import { describe, expect, it } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import type { AuditEvent, AuditRecord, Json } from '../../src/audit/log.ts'
import { toLine } from '../../src/audit/print.ts'
import {
  assemble,
  createDraftMemory,
  draftRecord,
  sealedFor,
  sealedUnder,
  unsealRecord,
} from '../../src/audit/record.ts'
import { issuing, memorySubjectKeys, vaultOver } from './fixtures.ts'

const LOG = '0a1b2c3d'

async function write(event: AuditEvent, vault = vaultOver(memorySubjectKeys())) {
  const whom = sealedFor(event)
  const seal = whom === undefined ? undefined : await vault.of(whom)
  const text = assemble(draftRecord(event, LOG, seal), 12, 1_800_000_000_000)
  return { text, record: JSON.parse(text) as AuditRecord, seal }
}

const everything: AuditEvent = {
  ...issuing(LOG, 0),
  reason: 'policy_denied',
  parentTask: 'task_B',
  root: 'task_C',
  rules: ['base', 'tickets/read'],
  attestation: { tier: 'platform', kind: 'jwt_svid', release: 'r1' },
  risk: 'low',
  correlation: 'req_1',
  cause: 'rev_1',
  epoch: '1.2',
  by: 'admin',
  source: '192.0.2.1',
  count: 3,
  details: { z: 1, a: [true, null, { b: 'x' }] },
}

describe('record', () => {
  it('is canonical as it is assembled, with every member an event can have', async () => {
    const { text, record } = await write(everything)
    expect(text).toBe(canonicalize(record as Json))
    expect(Object.keys(record)).toEqual([
      'agent',
      'att',
      'by',
      'cause',
      'claims',
      'correlation',
      'count',
      'decision',
      'decision_id',
      'details',
      'epoch',
      'i',
      'jti',
      'log',
      'operations',
      'parent',
      'reason',
      'risk',
      'root',
      'rules',
      'sealed',
      'source',
      'subject',
      't',
      'task',
      'tool',
      'type',
      'v',
    ])
  })

  it('is canonical with as little as an event can have', async () => {
    const { text } = await write({ type: 'service.started' })
    expect(text).toBe('{"i":12,"log":"0a1b2c3d","t":1800000000000,"type":"service.started","v":1}')
  })

  it('K2 holds allowlisted members only: what else an event carries never gets in', async () => {
    const canary = 'CANARY-7f3a'
    const stuffed = {
      ...everything,
      token: canary,
      secret: { deep: [canary] },
      headers: { authorization: canary },
      toJSON: () => ({ canary }),
      error: new Error(canary),
      attestation: { kind: 'key', tier: 'key', evidence: canary },
    } as AuditEvent
    expect((await write(stuffed)).text).not.toContain('CANARY')
  })

  it.each([
    ['CRLF', 'a\r\nb'],
    ['ANSI escapes', '\u001b[2J\u001b]0;x\u0007'],
    ['a forged record', '"}\n{"code":"ok"'],
    ['U+2028', 'a\u2028b'],
    ['C1 controls and bidirectional marks', '\u009b31m\u202eevil\u2066'],
    ['a lone surrogate', 'a\ud800'],
    ['NUL', 'a\u0000b'],
  ])('K1 an agent name with %s is one valid record, and safe on a terminal', async (_, agent) => {
    const { text, record } = await write({
      type: 'token.refused',
      reason: 'unknown_client',
      agent,
      correlation: agent,
      rules: [agent],
      details: { [agent]: agent },
    })
    expect(canonicalize(record as Json)).toBe(text)
    expect(record.agent).toBe(agent.replace('\ud800', '\ufffd'))
    const line = toLine(record)
    expect(line).toMatch(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+$/u)
    expect(JSON.parse(line)).toEqual(record)
  })

  it('K1 bounds what a stranger can write', async () => {
    const long = 'x'.repeat(1_000_000)
    const { text } = await write({ type: 'token.refused', agent: long, correlation: long, details: { note: long } })
    expect(text.length).toBeLessThan(4_000)
  })

  it('shows neither subject nor purpose, and opens both under the key of the subject alone', async () => {
    const vault = vaultOver(memorySubjectKeys())
    const { text, record, seal } = await write(everything, vault)
    expect(text).not.toMatch(/alice|answer the open/)
    expect(record['claims']).not.toHaveProperty('sub')
    if (seal === undefined || seal === 'erased') throw new Error('no seal')
    expect(unsealRecord(record, seal)).toEqual({
      subject: 'corp|alice',
      purpose: everything.purpose,
      claims: everything.claims,
    })
    const bob = await vault.of('corp|bob')
    if (bob === 'erased') throw new Error('no seal')
    expect(unsealRecord(record, bob)).toBeUndefined()
    expect(unsealRecord({ ...record, type: 'token.reissued' }, seal)).toBeUndefined()
  })

  it('seals what names the subject and nothing else once for all its records, and another purpose each time', async () => {
    const vault = vaultOver(memorySubjectKeys())
    const seal = await vault.of('corp|alice')
    if (seal === 'erased') throw new Error('no seal')
    const memory = createDraftMemory()
    const recordOf = (event: AuditEvent) =>
      JSON.parse(assemble(draftRecord(event, LOG, seal, memory), 0, 0)) as AuditRecord
    const { purpose, ...bare } = everything
    const first = recordOf(bare)
    const second = recordOf({ ...bare, type: 'token.reissued', jti: 'another' })
    expect(second['sealed']).toBe(first['sealed'])
    for (const record of [first, second])
      expect(unsealRecord(record, seal)).toEqual({ subject: 'corp|alice', claims: everything.claims })
    const refused = recordOf({ type: 'token.refused', subject: 'corp|alice' })
    expect(refused['sealed']).not.toBe(first['sealed'])
    expect(unsealRecord(refused, seal)).toEqual({ subject: 'corp|alice' })
    const [one, other] = [recordOf(everything), recordOf(everything)]
    expect(one['sealed']).not.toBe(other['sealed'])
    expect(unsealRecord(one, seal)).toMatchObject({ purpose })
  })

  it('leaves the SPIFFE id of an autonomous agent in the claims, and seals its purpose', async () => {
    const sub = 'spiffe://company.example/agents/triage'
    const { record } = await write({ type: 'token.issuing', claims: { sub }, purpose: 'tidy up' })
    expect(record['claims']).toEqual({ sub })
    expect(JSON.stringify(record)).not.toContain('tidy up')
    expect(record).toHaveProperty('sealed')
  })

  it('seals a purpose that comes without a subject', async () => {
    const { record, seal } = await write({ type: 'task.opened', agent: 'triage', purpose: 'tidy up' })
    expect(JSON.stringify(record)).not.toContain('tidy up')
    expect(record).not.toHaveProperty('subject')
    if (seal === undefined || seal === 'erased') throw new Error('no seal')
    expect(sealedUnder(record)).toBe(seal.hash)
    expect(unsealRecord(record, seal)).toEqual({ purpose: 'tidy up' })
  })

  it('hides a person whose key was erased, sub in the claims included', () => {
    const text = assemble(draftRecord(everything, LOG, 'erased'), 0, 0)
    expect(text).not.toMatch(/alice|answer the open/)
    expect(JSON.parse(text)).toMatchObject({ subject: 'erased' })
  })
})

describe('subject vault', () => {
  it('gives one person one hash across restarts, and different people different ones', async () => {
    const keys = memorySubjectKeys()
    const seals = await Promise.all([
      vaultOver(keys).of('corp|alice'),
      vaultOver(keys).of('corp|alice'),
      vaultOver(keys).of('corp|bob'),
    ])
    const hashes = seals.map((seal) => (seal === 'erased' ? seal : seal.hash))
    expect(hashes[0]).toBe(hashes[1])
    expect(hashes[0]).not.toBe(hashes[2])
  })

  it('gives the same person another hash under other keys: it cannot be guessed from the name', async () => {
    const [one, two] = await Promise.all(
      [memorySubjectKeys(), memorySubjectKeys()].map((keys) => vaultOver(keys).of('corp|alice')),
    )
    expect(one).not.toMatchObject({ hash: (two as { hash: string }).hash })
  })

  it('asks the store once for many at the same time, and again after a minute', async () => {
    const clock = { ms: 0 }
    const keys = memorySubjectKeys()
    const vault = vaultOver(keys, () => clock.ms)
    expect(vault.peek('corp|alice')).toBeUndefined()
    await Promise.all(Array.from({ length: 50 }, () => vault.of('corp|alice')))
    expect(keys.asked()).toBe(2)
    expect(vault.peek('corp|alice')).toBeDefined()
    clock.ms += 60_000
    expect(vault.peek('corp|alice')).toBeUndefined()
  })

  it('sees an erasure by another replica within that minute, and at once when opening', async () => {
    const clock = { ms: 0 }
    const keys = memorySubjectKeys()
    const here = vaultOver(keys, () => clock.ms)
    const seal = await here.of('corp|alice')
    if (seal === 'erased') throw new Error('no seal')
    expect(await vaultOver(keys).erase('corp|alice')).toBe(true)
    expect(await here.byHash(seal.hash)).toBeUndefined()
    clock.ms += 60_001
    expect(here.peek('corp|alice')).toBeUndefined()
    expect(await here.of('corp|alice')).toBe('erased')
  })
})
