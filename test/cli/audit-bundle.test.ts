/** A task as evidence, taken over HTTP and judged on the command line. */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import { originOf } from '../../src/audit/checkpoint.ts'
import { checkEvidence, type Evidence } from '../../src/audit/evidence.ts'
import { createGatherEvidence } from '../../src/audit/gather-evidence.ts'
import { formatNote } from '../../src/audit/note.ts'
import { policyDigestOf } from '../../src/policy/kept-policies.ts'
import { openAuditLog } from '../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../audit/fixtures.ts'
import { checkpointsOf, ISSUER as SIGNED_FOR, signerOf } from '../audit/signer.ts'
import { decode, type House, openHouse } from '../house.ts'
import { type Double, serviceDouble } from './double.ts'

let house: House
let service: Double
let bundle: Evidence
let task: string
let jti: string
let at: (name: string) => string

beforeAll(async () => {
  house = await openHouse()
  service = await serviceDouble()
  at = (name) => join(house.folder, name)
  const research = await house.agent('research')
  await research.exchange({ form: { audience: 'tickets' } })
  const issued = await research.exchange({ form: { audience: 'tickets' } })
  task = String(issued.body['task_id'])
  jti = String(decode(String(issued.body['access_token'])).payload['jti'])
  await research.exchange({ form: { audience: 'payments', task_id: task } })
  const revoked = await house.admin('POST', '/revocations', {
    match: { client_id: 'research' },
    mode: 'ban',
    reason: 'it went astray',
  })
  expect(revoked.status, revoked.text).toBe(201)
  const answer = await house.admin('GET', `/audit/tasks/${task}/bundle`)
  expect(answer.status, answer.text).toBe(200)
  bundle = answer.body as unknown as Evidence
  await writeFile(at('keys.json'), (await house.admin('GET', '/keys/jwks')).text)
  await writeFile(at('other.json'), JSON.stringify({ keys: [signerOf(9).jwk] }))
})
afterAll(async () => {
  await house.close()
  await service.close()
})

const verify = async (evidence: object | string, ...more: readonly string[]) => {
  await rm(at('judged.json'), { force: true })
  await writeFile(at('judged.json'), typeof evidence === 'string' ? evidence : JSON.stringify(evidence))
  return service.cli('audit', 'verify-bundle', at('judged.json'), ...more)
}
const byKeys = (evidence: object | string, ...more: readonly string[]) =>
  verify(evidence, '--jwks', at('keys.json'), ...more)

describe('a task as evidence', () => {
  it('holds every record that names it, why it ended, and the policies that decided; who it was for is a keyed hash', async () => {
    const types = bundle.records.map(({ record }) => record.type)
    expect(types).toEqual(expect.arrayContaining(['config.loaded', 'token.issuing', 'revocation.added', 'task.ended']))
    expect(bundle.records.filter(({ record }) => record['jti'] === jti)).toHaveLength(1)
    expect(bundle.records.at(-1)?.record).toMatchObject({
      type: 'admin.acted',
      by: 'admin',
      task,
      details: { action: 'audit.bundle' },
    })
    const text = JSON.stringify(bundle)
    expect(text).not.toContain('alice')
    expect(text).not.toMatch(/eyJ[A-Za-z0-9_-]{20}/)
    expect(bundle.policies.map(({ digest }) => digest)).toEqual([house.service.snapshot().policyDigest])
    expect(bundle.policies[0]?.policies?.length).toBeGreaterThan(0)
    // Another task's records are not in it.
    const others = bundle.records.filter(({ record }) => record['task'] !== undefined && record['task'] !== task)
    expect(others).toEqual([])
  })

  it('is written to a file that verifies without the service, by keys from elsewhere or by its own, which it says', async () => {
    service.answers.set(`GET /audit/tasks/${task}/bundle`, bundle)
    const made = await service.cli('audit', 'export', '--task', task, '--out', at('bundle.json'))
    expect(made).toMatchObject({ exit: 0, out: '' })
    expect(made.err).toContain(`${bundle.records.length} records of ${task}`)
    service.world.reachable = false
    const given = await service.cli('audit', 'verify-bundle', at('bundle.json'), '--jwks', at('keys.json'))
    expect(given.exit, given.err).toBe(0)
    expect(given.out).toContain(`whole: ${bundle.records.length} records of ${task}`)
    expect(given.out).toContain('what the issuer signed')
    expect(given.out).not.toContain('see --jwks')
    const own = await service.cli('audit', 'verify-bundle', at('bundle.json'))
    expect(own).toMatchObject({ exit: 0, out: expect.stringContaining('see --jwks') })
    service.world.reachable = true
    expect((await service.cli('audit', 'export', '--task', task, '--out', at('bundle.json'))).err).toContain('already')
    expect((await service.cli('audit', 'export', '--task', 'task_x')).exit).toBe(2)
  })

  const mended = (change: (evidence: Evidence) => object) => ({ ...bundle, ...change(bundle) })
  it.each<[string, (evidence: Evidence) => object, string]>([
    [
      'a record changed',
      ({ records }) => ({
        records: records.map((each, n) =>
          n === 2 ? { ...each, record: { ...each.record, agent: 'payments' } } : each,
        ),
      }),
      'record_changed',
    ],
    [
      'a path of another record',
      ({ records }) => ({ records: records.map((each, n) => (n === 2 ? { ...each, path: records[3]!.path } : each)) }),
      'record_changed',
    ],
    ['a record taken out', ({ records }) => ({ records: records.filter((_, n) => n !== 2) }), 'record_left_out'],
    ['a record twice', ({ records }) => ({ records: [...records, records[0]!] }), 'record_added'],
    ['two records in another order', ({ records }) => ({ records: [...records].reverse() }), 'record_added'],
    [
      'a policy changed',
      ({ policies: [first] }) => ({
        policies: [
          {
            ...first,
            policies: first?.policies?.map((each) => ({ ...each, text: each.text.replace('permit', 'forbid') })),
          },
        ],
      }),
      'policy_swapped',
    ],
    [
      'a comment in a policy changed',
      ({ policies: [first] }) => ({
        policies: [
          { ...first, policies: first?.policies?.map((each) => ({ ...each, text: `// fine\n${each.text}` })) },
        ],
      }),
      'policy_swapped',
    ],
    ['no policies', () => ({ policies: [] }), 'policy_left_out'],
    ['policies withheld', ({ policies: [first] }) => ({ policies: [{ digest: first!.digest }] }), 'policy_swapped'],
    ['a key more', ({ jwks }) => ({ jwks: { keys: [...jwks.keys, signerOf(9).jwk] } }), 'keys_changed'],
    ['another task', () => ({ task: `task_${'A'.repeat(22)}` }), 'bad_statement'],
    ['another size', () => ({ size: 3 }), 'bad_statement'],
    ['another log', () => ({ log: '99999999' }), 'bad_statement'],
    ['another statement', ({ statement }) => ({ statement: statement.replace('records ', 'records 1') }), 'wrong_key'],
    ['another checkpoint', ({ checkpoint }) => ({ checkpoint: checkpoint.replace('\n', '/x\n') }), 'wrong_key'],
    ['its checkpoint as its statement', ({ checkpoint }) => ({ statement: checkpoint }), 'bad_statement'],
    ['no statement', () => ({ statement: '' }), 'not_whole'],
    ['no records', () => ({ records: undefined }), 'not_whole'],
    ['a record that is none', () => ({ records: [{ record: null, path: [] }] }), 'not_whole'],
    ['another format', () => ({ format: 'errand-task-evidence/2' }), 'not_whole'],
  ])('Q1 Q3 refuses one with %s, by its name', async (_, change, fault) => {
    const { exit, out, err } = await byKeys(mended(change))
    expect([exit, out]).toEqual([1, ''])
    expect(err).toContain(`${fault}: `)
    expect(JSON.parse((await byKeys(mended(change), '--json')).out)).toMatchObject({ ok: false, fault })
  })

  it('Q3 refuses one that other keys have signed, also where it brings those keys itself', async () => {
    expect((await verify(bundle, '--jwks', at('other.json'))).err).toContain('wrong_key')
    const { jwk, signature } = signerOf(9)
    const { records, policies } = bundle
    const forged = { ...bundle, records: records.slice(1), policies, jwks: { keys: [jwk] } }
    const text = bundle.statement.slice(0, bundle.statement.indexOf('\n\n') + 1)
    const origin = text.split('\n')[1]!
    const statement = formatNote({ text, signatures: [signature(origin, text)] })
    expect((await byKeys({ ...forged, statement })).err).toContain('wrong_key')
    expect((await verify({ ...forged, statement })).err).toContain('wrong_key')
    expect((await verify('[]')).exit).toBe(1)
    expect((await verify('{')).exit).toBe(2)
    expect((await verify(bundle, '--jwks', at('nowhere.json'))).exit).toBe(2)
  })

  it('Q1 beside a copy of the log, finds what the issuer itself left out, and a log that is not that one', async () => {
    const [folder, name] = [at('own'), `task_${'B'.repeat(22)}`]
    const log = await openAuditLog({
      folder,
      now: () => 1_800_000_000_000,
      subjectVault: vaultOver(memorySubjectKeys()),
      every: manualTimer().every,
    })
    for (const each of [name, 'task_x', name, name]) await log.append({ type: 'task.heartbeat', task: each })
    const checkpoints = checkpointsOf(log)
    await checkpoints.tick()
    const origin = originOf(SIGNED_FOR, log.logId)
    const { jwk, signature } = signerOf(1)
    const gather = (search: typeof log.search) =>
      createGatherEvidence({
        logId: log.logId,
        reader: { search },
        tree: log.tree,
        checkpoints,
        policies: async () => undefined,
        keys: () => [jwk],
        sign: (text) => signature(origin, text),
      })(name, 3)
    const honest = await gather(log.search)
    const lying = await gather(async (query) => (await log.search(query)).filter(({ i }) => i !== 2))
    await log.close()
    if (!honest.ok || !lying.ok) throw new Error('too many')
    await writeFile(at('signer.json'), JSON.stringify({ keys: [jwk] }))
    const beside = (evidence: Evidence, ...more: readonly string[]) =>
      verify(evidence, '--jwks', at('signer.json'), ...more)
    expect(await beside(honest.evidence, '--log', folder)).toMatchObject({
      exit: 0,
      out: expect.stringContaining('no other record of the first 4 names it'),
    })
    expect(await beside(lying.evidence)).toMatchObject({ exit: 0 })
    const compared = await beside(lying.evidence, '--log', folder)
    expect([compared.exit, compared.err]).toEqual([1, expect.stringContaining('record_left_out: record 2')])

    const segment = join(folder, log.logId, '0000000000000000.seg')
    const bytes = await readFile(segment)
    bytes[bytes.length - 1]! ^= 1
    await writeFile(segment, bytes)
    expect((await beside(honest.evidence, '--log', folder)).err).toContain('log_damaged')
    expect((await beside(honest.evidence, '--log', at('nowhere'))).exit).toBe(2)
  })

  it('is for administrators, and of a task that there was', async () => {
    const research = await house.agent('payments')
    const before = house.service.log.size
    expect(await research.call('GET', `/audit/tasks/${task}/bundle`)).toMatchObject({ status: 403 })
    for (const id of [`task_${'A'.repeat(22)}`, 'task_x', `rev_${'A'.repeat(22)}`])
      expect(await house.admin('GET', `/audit/tasks/${id}/bundle`)).toMatchObject({
        status: 404,
        body: { reason: 'not_found' },
      })
    const acted = await house.service.log.search({ type: 'admin.acted', limit: 100 })
    expect(acted.filter(({ i }) => i >= before)).toEqual([])
  })

  it('keeps the policies of every set that was in force, and what they meant', async () => {
    const kept = JSON.parse(
      await readFile(join(house.folder, 'data', 'policies', `${house.service.snapshot().policyDigest}.json`), 'utf8'),
    ) as { readonly policies: Parameters<typeof policyDigestOf>[0] }
    expect(policyDigestOf(kept.policies)).toBe(house.service.snapshot().policyDigest)
    expect(policyDigestOf([{ text: 'permit' }])).toBeUndefined()
    expect(checkEvidence(bundle, { policyDigest: () => 'another' })).toMatchObject({ fault: 'policy_swapped' })
    expect(canonicalize(bundle.jwks)).toContain('errand_state')
  })
})
