import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { proveInclusion } from '../../src/audit/log-proof.ts'
import { openAuditLog } from '../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../audit/fixtures.ts'
import { JWKS, makeLog } from '../audit/harmed-log.ts'
import { LOG } from '../audit/log-file.ts'
import { checkpointsOf, signerOf } from '../audit/signer.ts'
import { type Double, serviceDouble } from './double.ts'

let service: Double
let folder: string
let at: (name: string) => string
beforeAll(async () => {
  service = await serviceDouble()
  folder = await makeLog()
  at = (name) => join(folder, name)
  await writeFile(at('keys.json'), JWKS)
  await writeFile(at('other.json'), JSON.stringify({ keys: [signerOf(9).jwk] }))
  const log = await openAuditLog({
    folder,
    now: () => 0,
    subjectVault: vaultOver(memorySubjectKeys()),
    every: manualTimer().every,
  })
  const checkpoints = checkpointsOf(log)
  await checkpoints.tick()
  const { note, checkpoint } = checkpoints.newest()!
  service.answers.set('GET /log/proof', {
    ...(await proveInclusion(log.tree, LOG, 77, checkpoint.size, checkpoint.root)),
    checkpoint: note,
  })
  service.answers.set('GET /audit/records', { records: [await log.get(77)] })
  await log.close()
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await service.close()
})

type Proof = { readonly record: object; readonly path: readonly string[]; readonly checkpoint: string }

describe('the log as evidence, on the command line', () => {
  it('writes a record with its proof, which verifies with the public keys and without the service', async () => {
    const made = await service.cli('audit', 'prove', '77', '--out', at('proof.json'))
    expect([made.exit, made.out]).toEqual([0, ''])
    expect(made.err).toContain(`record 77 of ${LOG}, proven in a tree of 300`)
    expect(service.received.map(({ path, query }) => [path, query])).toEqual([
      ['/log/proof', { index: '77' }],
      ['/audit/records', { from: '77', limit: '1' }],
    ])
    service.world.reachable = false
    const { exit, out } = await service.cli('audit', 'verify-proof', at('proof.json'), '--jwks', at('keys.json'))
    expect(exit).toBe(0)
    expect(out).toContain(`proven: record 77 of errand.example/log/${LOG}, in a tree of 300`)
    service.world.reachable = true
    service.received.length = 0
    const jti = 'x'.repeat(27)
    expect((await service.cli('audit', 'prove', jti)).out).toContain('errand-log-proof/1')
    expect(service.received[0]).toMatchObject({ path: '/log/proof', query: { jti } })
    expect((await service.cli('audit', 'prove', '77', '--out', at('proof.json'))).err).toContain('is there already')
  })

  it.each<[string, (proof: Proof) => object, string]>([
    ['another record', (proof) => ({ record: { ...proof.record, agent: 'payments' } }), 'not the one'],
    ['another index', () => ({ index: 78 }), 'not about one place'],
    ['another size', () => ({ size: 299 }), 'not about one place'],
    ['another log', () => ({ log: '99999999' }), 'not of log 99999999'],
    ['a shorter path', (proof) => ({ path: proof.path.slice(1) }), 'does not lead to the root'],
    ['a path of anything', () => ({ path: [1, null, 'x'] }), 'does not lead to the root'],
    ['a larger tree', (proof) => ({ checkpoint: proof.checkpoint.replace('\n300\n', '\n301\n') }), 'none of'],
    ['no checkpoint', () => ({ checkpoint: 'x' }), 'none'],
    ['no record', () => ({ record: null }), 'not whole'],
    ['another format', () => ({ format: 'errand-log-proof/2' }), 'its format'],
  ])('Q3 refuses a proof with %s', async (_, change, why) => {
    const proof = JSON.parse(await readFile(at('proof.json'), 'utf8')) as Proof
    await writeFile(at('bent.json'), JSON.stringify({ ...proof, ...change(proof) }))
    const { exit, out, err } = await service.cli('audit', 'verify-proof', at('bent.json'), '--jwks', at('keys.json'))
    expect([exit, out]).toEqual([1, ''])
    expect(err).toContain('the proof does not hold')
    expect(err).toContain(why)
  })

  it('Q3 refuses a proof that the issuer did not sign, and keys that sign no checkpoints', async () => {
    const by = (keys: string) => service.cli('audit', 'verify-proof', at('proof.json'), '--jwks', at(keys))
    expect((await by('other.json')).err).toContain('none of the keys has signed the checkpoint')
    await writeFile(at('token-keys.json'), JSON.stringify({ keys: [{ kty: 'EC', crv: 'P-256' }] }))
    expect(await by('token-keys.json')).toMatchObject({ exit: 2, err: expect.stringContaining('export-jwks') })
    expect((await by('nowhere.json')).exit).toBe(2)
  })

  it('Q1 Q3 says of a folder how far it is signed and by whose keys, and names what was changed', async () => {
    const verify = (...more: readonly string[]) => service.cli('audit', 'verify', folder, ...more)
    const whole = await verify('--jwks', at('keys.json'))
    expect(whole.exit).toBe(0)
    expect(whole.out).toContain(`whole: 300 records, segments: 2, log ${LOG}`)
    expect(whole.out).toContain('signed: the first 300; checkpoints: 2, signatures good')
    expect((await verify()).out).toContain('by the keys beside the log')
    expect((await verify('--jwks', at('other.json'))).exit).toBe(2)
    const newest = join(folder, LOG, 'checkpoint')
    await writeFile(at('seen.txt'), await readFile(newest))
    expect((await verify('--jwks', at('keys.json'), '--checkpoint', at('seen.txt'))).exit).toBe(0)
    await rm(newest)
    const { exit, out } = await verify('--json')
    expect([exit, JSON.parse(out)]).toMatchObject([2, { ok: false, damage: [{ kind: 'bad_checkpoint', index: 0 }] }])
  })
})
