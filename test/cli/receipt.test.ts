import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'
import { type Double, NOW, serviceDouble } from './double.ts'

const REV = 'rev_AAAAAAAAAAAAAAAAAAAAAA'

describe('errand receipt', () => {
  let service: Double
  let folder: string
  beforeEach(async () => {
    service = await serviceDouble()
    folder = service.keysDir
  })
  afterEach(() => service.close())

  it('get writes the receipt to a file, and says what is not contained yet', async () => {
    service.answers.set(`GET /revocations/${REV}/receipt`, {
      receipt: 'a.b.c',
      contained: false,
      contained_by: NOW + 20,
    })
    const out = join(folder, 'out.json')
    const { exit, out: told, err } = await service.cli('receipt', 'get', REV, '--out', out)
    expect([exit, told]).toEqual([0, `${out} is the receipt of ${REV}\n`])
    expect(err).toContain('not contained yet: what cannot be reached refuses by itself from 2027-01-15 08:00:20Z')
    expect(JSON.parse(await readFile(out, 'utf8'))).toEqual({ receipt: 'a.b.c' })
    await service.cli('receipt', 'get', REV, '--name-subject')
    expect(service.received.at(-1)?.query).toEqual({ subject: 'clear' })
  })

  it.each([
    [['get', 'rev_x'], 'no id of a revocation'],
    [['get', REV, '--out', '/no/such/folder/out.json'], '/no/such/folder/out.json cannot be written (ENOENT)'],
    [['verify', '/no/such/file', '--jwks', '/no/such/keys'], 'cannot be read (ENOENT)'],
    [['verify', '/no/such/file'], 'jwks'],
  ])('%j is refused with what is wrong', async (argv, message) => {
    service.answers.set(`GET /revocations/${REV}/receipt`, { receipt: 'a.b.c', contained: true, contained_by: NOW })
    const { exit, err } = await service.cli('receipt', ...argv)
    expect(exit).toBe(2)
    expect(err).toContain(message)
  })

  it('verify shows what it says, by keys from a file and no service; one changed byte is named', async () => {
    const house: House = await openHouse()
    const { body } = await house.admin('POST', '/revocations', { match: { client_id: 'triage' }, reason: 'key leaked' })
    for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
      await (await house.tool(name)).call('POST', '/revocations/acks', { epoch: body['epoch'] })
    const given = await house.admin('GET', `/revocations/${body['id']}/receipt`)
    const keys = await house.admin('GET', '/keys/jwks')
    await house.close()
    const [receipt, jwks] = [join(folder, 'receipt.json'), join(folder, 'keys.json')]
    await writeFile(receipt, JSON.stringify({ receipt: given.body['receipt'] }))
    await writeFile(jwks, keys.text)
    service.world.reachable = false
    const good = await service.cli('receipt', 'verify', receipt, '--jwks', jwks)
    expect([good.exit, good.err]).toEqual([0, ''])
    expect(good.out).toMatch(/^good: signed by the issuer, and in its log\n/)
    expect(good.out).toMatch(/match +client_id=triage\n/)
    expect(good.out).toMatch(/contained +2026-11-23 10:00:00Z\n/)
    expect(good.out).toMatch(/tickets +acknowledged +2026-11-23 10:00:00Z +1\n/)

    const text = String(given.body['receipt'])
    const at = text.indexOf('.') + 100
    await writeFile(receipt, `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`)
    const bad = await service.cli('receipt', 'verify', receipt, '--jwks', jwks)
    expect([bad.exit, bad.out]).toEqual([1, ''])
    expect(bad.err).toMatch(/^errand: bad_signature: it is not what key \S+ signed\n$/)
    const asJson = await service.cli('receipt', 'verify', receipt, '--jwks', jwks, '--json')
    expect([asJson.exit, JSON.parse(asJson.out)]).toMatchObject([1, { ok: false, fault: 'bad_signature' }])
    await writeFile(jwks, 'not JSON')
    expect((await service.cli('receipt', 'verify', receipt, '--jwks', jwks)).err).toContain('is no JSON')
  })
})
