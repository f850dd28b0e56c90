import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compactVerify, importJWK } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/audit/log.ts'
import type { PartContainments } from '../../src/revoke/component-containments.ts'
import type { Containment } from '../../src/revoke/containment.ts'
import { statementOf } from '../../src/revoke/receipt.ts'
import { checkReceipt, type ReceiptFault } from '../../src/revoke/receipt-check.ts'
import { createReceipts } from '../../src/revoke/receipts.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'
import { type OpenedLog, openAuditLog } from '../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../audit/fixtures.ts'
import { checkpointsOf, ISSUER, signerOf } from '../audit/signer.ts'

const ID = 'rev_AAAAAAAAAAAAAAAAAAAAAA'
const TASKS = ['task_AAAAAAAAAAAAAAAAAAAAAA', 'task_BBBBBBBBBBBBBBBBBBBBBB']
const entry: Revocation = {
  id: ID,
  match: { client_id: 'research', sub: 'corp|alice' },
  mode: 'ban',
  reason: 'key leaked',
  by: 'admin',
  at: 1_000,
  expiresAt: 2_000,
  epoch: { generation: 1, sequence: 7 },
}

type Part = { [name: string]: unknown }
interface Payload extends Part {
  revocation: Part
  tasks: { ended: string[] }
  log: { id: string; size: number; checkpoint: string; records: { index: number; record: string; path: string[] }[] }
}

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const payloadOf = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[1]!, 'base64url').toString()) as Payload

/** As the service's key `number` would sign it. */
function sign(header: object, payload: object, number = 1): string {
  const input = `${base64url({ alg: 'EdDSA', kid: `key-${number}`, ...header })}.${base64url(payload)}`
  return `${input}.${signerOf(number).signature('', input).signature.toString('base64url')}`
}

describe('a receipt', () => {
  let folder: string
  let log: OpenedLog
  let checkpoints: ReturnType<typeof checkpointsOf>
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'errand-receipt-'))
    log = await openAuditLog({
      folder,
      logId: '0a1b2c3d',
      now: () => 1_000_000,
      subjectVault: vaultOver(memorySubjectKeys()),
      every: manualTimer().every,
    })
    checkpoints = checkpointsOf(log)
    for (let n = 0; n < 5; n += 1) await log.append({ type: 'task.heartbeat', task: `task_${n}` })
    await log.append({
      type: 'revocation.added',
      cause: ID,
      by: 'admin',
      epoch: '1.7',
      subject: 'corp|alice',
      details: { match: { client_id: 'research', sub: '(subject)' }, mode: 'ban', reason: 'key leaked', added: true },
    })
    receipt = await issue()
  })
  afterAll(async () => {
    await log.close()
    await rm(folder, { recursive: true, force: true })
  })

  let receipt: string
  const issue = async (
    more: { readonly named?: boolean; readonly recorded?: boolean; readonly waiting?: boolean } = {},
  ) => {
    const state = { tool: 'tickets', audience: 'https://tickets.example.com/', by: 'feed' as const, bound_seconds: 30 }
    const containments: PartContainments = {
      of: async () => ({
        contained: !more.waiting,
        contained_by: 1_030,
        verifiers: [{ ...state, state: more.waiting ? 'waiting' : 'acknowledged', until: 1_030 }],
        residual: more.waiting ? [{ audience: state.audience, until: 1_030, by: 'feed' }] : [],
        pending_downstream: 0,
      }),
      recordOf: async () => (more.recorded === false ? undefined : log.get(5)),
      tasksOf: async () => ({ ended: TASKS, suspended: [], contained: [] }),
      find: async () => entry,
      releasesOf: async () => undefined,
      close: () => undefined,
    }
    const receipts = createReceipts({
      issuer: ISSUER,
      now: () => 1_010,
      containments,
      audit: log,
      reader: log,
      tree: log.tree,
      checkpoints,
      sign,
    })
    const issuing = receipts.issue(entry, { by: 'admin', named: more.named ?? false })
    const ticking = setInterval(() => void checkpoints.tick(), 10)
    return issuing.then(({ receipt }) => receipt).finally(() => clearInterval(ticking))
  }
  const keys = (...numbers: number[]) => ({ keys: numbers.map((number) => signerOf(number).jwk) })

  it('verifies offline by the public keys alone, and names every task', () => {
    const checked = checkReceipt(receipt, keys(2, 1))
    expect(checked).toMatchObject({
      ok: true,
      recorded: true,
      log: { id: '0a1b2c3d', indexes: [5, 6] },
      statement: {
        iss: ISSUER,
        revocation: { id: ID, epoch: '1.7', match: { client_id: 'research', sub: '(subject)' }, mode: 'ban' },
        tasks: { ended: TASKS, suspended: [], contained: [] },
        contained: true,
        downstream: [],
      },
    })
  })

  it('says what was taken and before which mark also where no record could be written, and how many names there are', () => {
    const operations = Array.from({ length: 70 }, (_, at) => `crm:op${at}`)
    const facts = { issuer: ISSUER, now: 1_010, tasks: { ended: [], suspended: [], contained: [] }, named: false }
    const containment: Containment = {
      contained: true,
      contained_by: 1_010,
      verifiers: [],
      residual: [],
      pending_downstream: 0,
    }
    const taking = {
      ...entry,
      mode: 'contain' as const,
      taken: { tools: ['github'], operations },
      before: { generation: 1, sequence: 4 },
    }
    const { revocation } = statementOf({ ...facts, entry: taking, record: undefined, containment })
    expect(revocation).toMatchObject({
      taken: ['github', ...operations].slice(0, 64),
      taken_total: 71,
      before: '1.4',
    })
    // What the log holds counts: the two are held against one another.
    const record = { details: { taken: ['github'] } } as unknown as AuditRecord
    const recorded = statementOf({ ...facts, entry: taking, record, containment }).revocation as object
    expect(recorded).toMatchObject({ taken: ['github'] })
    expect(recorded).not.toHaveProperty('taken_total')
  })

  it('jose verifies its signature', async () => {
    const key = await importJWK(signerOf(1).jwk, 'EdDSA')
    const { protectedHeader } = await compactVerify(receipt, key)
    expect(protectedHeader).toEqual({ alg: 'EdDSA', kid: 'key-1', typ: 'errand-receipt+jwt' })
  })

  it('has the subject as a keyed hash, and in the clear where that is asked for', async () => {
    expect(Buffer.from(receipt.split('.')[1]!, 'base64url').toString()).not.toContain('alice')
    expect(payloadOf(receipt).revocation['subject']).toEqual((await log.get(5))!['subject'])
    const named = await issue({ named: true })
    expect(payloadOf(named).revocation['subject_name']).toBe('corp|alice')
    expect(checkReceipt(named, keys(1)).ok).toBe(true)
  })

  it('before it is contained it says what remains, and until when', async () => {
    expect(checkReceipt(await issue({ waiting: true }), keys(1))).toMatchObject({
      ok: true,
      statement: { contained: false, residual: [{ until: 1_030 }], verifiers: [{ state: 'waiting' }] },
    })
  })

  it('one of a revocation whose record could not be written says so', async () => {
    expect(checkReceipt(await issue({ recorded: false }), keys(1))).toMatchObject({ ok: true, recorded: false })
  })

  it('giving it is recorded, with the digest of what it says', async () => {
    const [record] = await log.search({ type: 'receipt.issued', cause: ID, limit: 1 })
    expect(record).toMatchObject({ by: 'admin', details: { contained: true } })
  })

  /** Changed, and signed again by the issuer's own key: what a service that lies could make. */
  const resigned = (change: (payload: Payload) => void) => {
    const payload = payloadOf(receipt)
    change(payload)
    return sign({ typ: 'errand-receipt+jwt' }, payload)
  }
  const flipped = (text: string, at: number) => text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)
  const record = (payload: Payload, at: number, from: string, to: string) => {
    const each = payload.log.records[at]!
    expect(each.record).toContain(from)
    each.record = each.record.replace(from, to)
  }

  it.each<[string, ReceiptFault, () => string, unknown?]>([
    ['nothing', 'not_a_receipt', () => ''],
    ['JSON', 'not_a_receipt', () => '{"receipt":"x"}'],
    ['another kind of token', 'not_a_receipt', () => sign({ typ: 'at+jwt' }, payloadOf(receipt))],
    ['no algorithm', 'not_a_receipt', () => sign({ typ: 'errand-receipt+jwt', alg: 'none' }, payloadOf(receipt))],
    ['a key set without keys', 'no_keys', () => receipt, { keys: [] }],
    ['keys for tokens', 'no_keys', () => receipt, { keys: [{ ...signerOf(1).jwk, errand_use: 'token' }] }],
    ['no key set', 'no_keys', () => receipt, 'keys'],
    ['another issuer’s keys', 'unknown_kid', () => receipt, keys(2)],
    ['another key by its name', 'bad_signature', () => receipt, { keys: [{ ...signerOf(2).jwk, kid: 'key-1' }] }],
    [
      'a key that was given up',
      'key_compromised',
      () => receipt,
      { keys: [{ ...signerOf(1).jwk, errand_state: 'compromised' }] },
    ],
    ['a byte of its payload', 'bad_signature', () => flipped(receipt, receipt.indexOf('.') + 20)],
    ['a byte of its signature', 'bad_signature', () => flipped(receipt, receipt.lastIndexOf('.') + 10)],
    ['no log', 'incomplete', () => resigned((payload) => void delete (payload as Part)['log'])],
    ['no revocation', 'incomplete', () => resigned((payload) => void delete (payload as Part)['revocation'])],
    [
      'records that are none',
      'incomplete',
      () => resigned((payload) => void Object.assign(payload.log, { records: [1] })),
    ],
    [
      'another issuer',
      'bad_checkpoint',
      () => resigned((payload) => void Object.assign(payload, { iss: 'https://other.example' })),
    ],
    ['another log', 'bad_checkpoint', () => resigned((payload) => void Object.assign(payload.log, { id: 'ffffffff' }))],
    [
      'another size',
      'bad_checkpoint',
      () => resigned((payload) => void Object.assign(payload.log, { size: payload.log.size + 1 })),
    ],
    [
      'a checkpoint that nobody signed',
      'bad_checkpoint',
      () => resigned(({ log }) => void Object.assign(log, { checkpoint: log.checkpoint.replace(/\n\d+\n/, '\n9\n') })),
    ],
    ['another reason in the record', 'not_in_log', () => resigned((it) => record(it, 0, 'key leaked', 'key leaker'))],
    ['another place', 'not_in_log', () => resigned(({ log }) => void Object.assign(log.records[0]!, { index: 4 }))],
    ['a shorter path', 'not_in_log', () => resigned(({ log }) => void log.records[0]!.path.pop())],
    [
      'records in each other’s place',
      'not_in_log',
      () =>
        resigned(({ log }) => {
          const [one, two] = log.records
          const path = one!.path
          one!.path = two!.path
          two!.path = path
        }),
    ],
    ['one task less', 'statement_changed', () => resigned(({ tasks }) => void tasks.ended.pop())],
    [
      'that it is not contained',
      'statement_changed',
      () => resigned((it) => void Object.assign(it, { contained: false })),
    ],
    ['no record of its own', 'statement_changed', () => resigned(({ log }) => void log.records.pop())],
    ['another match', 'statement_changed', () => resigned((it) => void Object.assign(it.revocation, { match: {} }))],
  ])('refuses %s as %s', (_, fault, made, jwks) => {
    const checked = checkReceipt(made(), jwks ?? keys(1))
    expect(checked).toMatchObject({ ok: false, fault, detail: expect.stringMatching(/./) })
  })

  it('refuses one whose statement was recorded so, and is not what the revocation’s own record says', async () => {
    const other: Revocation = { ...entry, reason: 'something else' }
    const before = { ...entry }
    Object.assign(entry, other)
    const lying = await issue().finally(() => Object.assign(entry, before))
    expect(checkReceipt(lying, keys(1))).toMatchObject({ ok: false, fault: 'differs_from_log', detail: /reason/ })
  })
})
