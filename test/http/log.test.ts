import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import { type Checkpoint, openCheckpoint, originOf } from '../../src/audit/checkpoint.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import type { Json } from '../../src/audit/log.ts'
import { verifyConsistency, verifyInclusion } from '../../src/audit/merkle.ts'
import { noteKey } from '../../src/audit/note.ts'
import { type Answer, decode, type House, ISSUER, openHouse } from '../house.ts'

let house: House
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

/** With the public key that the JWKS names for it, as anybody would. */
async function opened(note: unknown): Promise<Checkpoint> {
  const { keys } = (await house.fetch('GET', '/.well-known/jwks.json')).body as unknown as {
    keys: { readonly errand_use: string; readonly alg: string; readonly x: string }[]
  }
  const own = keys.filter(({ errand_use }) => errand_use === 'checkpoint')
  expect(own.map(({ alg }) => alg)).toEqual(['EdDSA'])
  const origin = originOf(ISSUER, house.service.log.logId)
  const checkpoint = openCheckpoint(
    String(note),
    own.map(({ x }) => noteKey(origin, Buffer.from(x, 'base64url'))),
  )
  expect(checkpoint).toBeDefined()
  return checkpoint!
}

const hashes = (answer: Answer) =>
  (answer.body['path'] as unknown as string[]).map((each) => Buffer.from(each, 'base64'))
const issued = async () => {
  const research = await house.agent('research')
  const { body } = await research.exchange({ form: { audience: 'tickets' } })
  const { index } = body['log'] as unknown as { readonly index: number }
  return { research, index, jti: String(decode(String(body['access_token'])).payload['jti']) }
}

describe('the transparency log over HTTP', () => {
  it('Q5 proves a token that was just issued, to its agent, by the index it was answered with and by its jti', async () => {
    const { research, index, jti } = await issued()
    const answer = await research.call('GET', `/log/proof?index=${index}`)
    expect(answer.status).toBe(200)
    const { origin, size, root } = await opened(answer.body['checkpoint'])
    expect(answer.body).toMatchObject({ log: house.service.log.logId, index, size })
    expect(origin).toBe(`127.0.0.1:4460/log/${house.service.log.logId}`)
    const record = (await house.service.log.get(index))!
    const leaf = leafHash(Buffer.from(canonicalize(record as Json)))
    expect(answer.body['leaf_hash']).toBe(leaf.toString('base64'))
    expect(verifyInclusion(leaf, index, size, hashes(answer), root)).toBe(true)
    expect((await research.call('GET', `/log/proof?jti=${jti}`)).body).toMatchObject({
      index,
      size: expect.any(Number),
    })
    // The hashes are for every caller that has proven who it is; the record is not.
    expect(answer.text).not.toMatch(/alice|research|token\.issuing/)
  })

  it('Q3 Inv8 proves to a tool that each checkpoint is the beginning of the next', async () => {
    const crm = await house.tool('crm')
    const before = await opened((await crm.call('GET', '/log/checkpoint')).text)
    const { index } = await issued()
    await house.admin('GET', `/log/proof?index=${index}`)
    const answer = await crm.call('GET', `/log/consistency?from=${before.size}`)
    const after = await opened(answer.body['checkpoint'])
    expect(after.size).toBeGreaterThan(before.size)
    expect(verifyConsistency(before.size, before.root, after.size, after.root, hashes(answer))).toBe(true)
    const earlier = await crm.call('GET', `/log/proof?index=1&size=${before.size}`)
    expect(earlier.body['checkpoint']).toBeUndefined()
    const leaf = Buffer.from(String(earlier.body['leaf_hash']), 'base64')
    expect(verifyInclusion(leaf, 1, before.size, hashes(earlier), before.root)).toBe(true)
    expect(verifyInclusion(leaf, 1, after.size, hashes(await crm.call('GET', '/log/proof?index=1')), after.root)).toBe(
      true,
    )
  })

  it('tlog-tiles: serves the tiles that a checkpoint needs, as bytes that may be kept for ever', async () => {
    const { size } = await opened((await house.admin('GET', '/log/checkpoint')).text)
    const answer = await house.admin('GET', `/log/tile/0/000.p/${size}`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('application/octet-stream')
    expect(answer.headers.get('cache-control')).toContain('immutable')
    for (const path of ['0/000', '0/001', '1/000', '0/000.p/0', '0/0', '0/x000/000', '0/000.p/255', '64/000', '0/..'])
      expect([path, (await house.admin('GET', `/log/tile/${path}`)).status]).toEqual([path, 404])
  })

  it.each([
    ['/log/proof', 400, 'bad_param'],
    ['/log/proof?index=1&jti=x', 400, 'bad_param'],
    ['/log/proof?index=-1', 400, 'bad_param'],
    ['/log/proof?index=1e3', 400, 'bad_param'],
    ['/log/proof?index=1&size=1', 400, 'bad_param'],
    ['/log/proof?index=1&size=999999', 400, 'bad_param'],
    ['/log/proof?index=999999', 404, 'not_found'],
    ['/log/proof?jti=AAAAAAAAAAAAAAAAAAAAAAAAAAA', 404, 'not_found'],
    ['/log/consistency', 400, 'bad_param'],
    ['/log/consistency?from=0', 400, 'bad_param'],
    ['/log/consistency?from=3&to=2', 400, 'bad_param'],
    ['/log/consistency?from=1&to=999999', 400, 'bad_param'],
  ])('refuses %s with %i %s', async (path, status, reason) => {
    const answer = await house.admin('GET', path)
    expect([answer.status, answer.body['reason']]).toEqual([status, reason])
  })

  it('Q3 signs nothing more beside a checkpoint that is not its own, says so in /ready, and goes on issuing', async () => {
    const own = await openHouse()
    await own.stop()
    const file = join(own.folder, 'data', 'audit', own.service.log.logId, 'checkpoint')
    await writeFile(file, (await readFile(file, 'utf8')).replace(/\n\d+\n/, '\n1\n'))
    const again = await openHouse({ folder: own.folder })
    const states = async () => (await again.fetch('GET', '/ready')).body
    await vi.waitFor(async () => expect(await states()).toMatchObject({ checks: { checkpoints: 'degraded' } }), 5_000)
    expect(await states()).toMatchObject({ status: 'degraded', checks: { audit: 'ok' } })
    const refused = await again.admin('GET', '/log/checkpoint')
    expect([refused.status, refused.body['error']]).toEqual([503, 'temporarily_unavailable'])
    expect((await again.admin('GET', '/log/proof?index=0')).status).toBe(503)
    const research = await again.agent('research')
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    await again.close()
  })
})
