/** Tokens signed in Vault: whole, slow, away, lying; and the way there and back. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importJWK, jwtVerify } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'
import { openVaultDouble, type VaultDouble } from '../vault/double.ts'

describe('a service whose token keys are in Vault', () => {
  let place: string
  let vault: VaultDouble
  const open: House[] = []
  beforeAll(async () => {
    place = await mkdtemp(join(tmpdir(), 'errand-signing-'))
  })
  afterAll(() => rm(place, { recursive: true }))
  beforeEach(async () => {
    vault = await openVaultDouble()
    await writeFile(join(place, 'token'), vault.limited, { mode: 0o600 })
  })
  afterEach(async () => {
    vault.world = {}
    for (const house of open.splice(0)) await house.close()
    await vault.close()
  })

  const signing = (keys = '{ token: errand-token, checkpoint: errand-checkpoint }') =>
    `\nkeys: { signing: { vault_transit: { address: "${vault.address}", token_file: ${place}/token, ` +
    `timeout_milliseconds: 400, keys: ${keys} } } }\n`
  const withVault = (text: string) => `${text}${signing()}`
  const opened = async (options: Parameters<typeof openHouse>[0] = {}) => {
    const house = await openHouse(options)
    open.push(house)
    return house
  }
  const tickets = { form: { audience: 'tickets' } }
  const keysOf = async (house: House) =>
    (await house.admin('GET', '/keys')).body['keys'] as unknown as {
      kid: string
      purpose: string
      state: string
      signer?: { kind: string; key: string; version: number }
    }[]
  const tokenKeys = async (house: House) =>
    (await keysOf(house))
      .filter(({ purpose }) => purpose === 'token')
      .map(({ state, signer }) => [state, signer?.key, signer?.version])
      .sort((a, b) => Number(a[2] ?? 0) - Number(b[2] ?? 0))
  const signedBy = async (house: House, token: string) => {
    const { keys } = (await house.fetch('GET', '/.well-known/jwks.json')).body as never as { keys: { kid: string }[] }
    const { protectedHeader } = await jwtVerify(token, async ({ kid }) =>
      importJWK(keys.find((key) => key.kid === kid) as never, 'ES256'),
    )
    return (await keysOf(house)).find(({ kid }) => kid === protectedHeader.kid)
  }

  it('gives tokens by them, each version under its kid, through rotation and compromise', async () => {
    const house = await opened({ config: { 'errand.yaml': withVault } })
    const agent = await house.agent('research')
    const first = await agent.exchange(tickets)
    expect(first.status).toBe(200)
    expect(await signedBy(house, String(first.body['access_token']))).toMatchObject({
      purpose: 'token',
      signer: { kind: 'vault_transit', mount: 'transit', key: 'errand-token', version: 1 },
    })
    expect((await keysOf(house)).find(({ purpose }) => purpose === 'feed')?.signer).toBeUndefined()
    // What tokens say stays here: Vault is given digests of them.
    expect(vault.asked.filter(({ line }) => line.includes('/sign/errand-token')).length).toBeGreaterThan(0)
    for (const { line, body } of vault.asked.filter((each) => each.line.includes('/sign/errand-token')))
      expect([line, Buffer.from(JSON.parse(body).input, 'base64').length]).toEqual([line, 32])

    const rotated = await house.admin('POST', '/keys/rotate', { purpose: 'token', immediately: true })
    expect(rotated.status).toBe(200)
    const second = await agent.exchange(tickets)
    expect((await signedBy(house, String(second.body['access_token'])))?.signer?.version).toBe(2)
    expect(await signedBy(house, String(first.body['access_token']))).toMatchObject({ state: 'retiring' })

    const { kid } = (await signedBy(house, String(second.body['access_token'])))!
    const given = await house.admin('POST', '/keys/compromise', { kid, reason: 'seen elsewhere' })
    expect(given.body).toMatchObject({ kid, purpose: 'token' })
    expect(await tokenKeys(house)).toEqual([
      ['retiring', 'errand-token', 1],
      ['compromised', 'errand-token', 2],
      ['active', 'errand-token', 3],
    ])
    const third = await agent.exchange(tickets)
    expect((await signedBy(house, String(third.body['access_token'])))?.signer?.version).toBe(3)
    for (const line of house.lines) expect(line).not.toContain(vault.limited)
  })

  it('O6 refuses while Vault is slow or away, by no other key, within its time, and says of each intent that nothing came of it', async () => {
    const house = await opened({ config: { 'errand.yaml': (text) => `${text}${signing('{ token: errand-token }')}` } })
    const agent = await house.agent('research')
    expect((await agent.exchange(tickets)).status).toBe(200)
    const since = house.service.log.size
    vault.world = { hang: true }
    for (let turn = 0; turn < 3; turn++) {
      const answer = await agent.exchange(tickets)
      expect([answer.status, answer.body['error']]).toEqual([503, 'temporarily_unavailable'])
      expect(answer.headers.get('retry-after')).toBe('1')
    }
    const told = (await house.service.log.from(since, 100)).filter(({ type }) => type.startsWith('token.'))
    const linesOf = (wanted: string) =>
      told.filter(({ type }) => type === wanted).map((record) => [record['jti'], record['task']].join(' '))
    expect(linesOf('token.issuing')).toHaveLength(3)
    expect(linesOf('token.unsigned')).toEqual(linesOf('token.issuing'))
    expect(told.find(({ type }) => type === 'token.unsigned')?.['reason']).toBe('signer_unavailable')
    // Now it is known to be away: nothing is written, charged or opened for what cannot be signed.
    const asked = vault.asked.length
    const left = async (): Promise<readonly unknown[]> => [
      house.service.log.size,
      await house.service.stores.tasks.list({ limit: 100 }),
    ]
    const before = await left()
    expect((await agent.exchange(tickets)).status).toBe(503)
    expect(await left()).toEqual(before)
    expect(vault.asked).toHaveLength(asked)
    expect((await house.fetch('GET', '/ready')).body).toMatchObject({
      status: 'degraded',
      checks: { keys: 'degraded' },
    })

    // What ends things does not wait for Vault.
    const revoked = await house.admin('POST', '/revocations', {
      match: { agent: 'research' },
      mode: 'cut',
      reason: 'test',
    })
    expect(revoked.status).toBe(201)
    expect((await house.fetch('GET', '/revocations')).status).toBe(200)

    vault.world = {}
    house.advance(2)
    const after = await agent.exchange(tickets)
    expect(after.status).toBe(200)
    expect(await signedBy(house, String(after.body['access_token']))).toMatchObject({ signer: { version: 1 } })
    expect((await house.fetch('GET', '/ready')).body).toMatchObject({ checks: { keys: 'ok' } })
  })

  it('D20 O6 gives the token that could not be signed to the retry, in the same task', async () => {
    const house = await opened({ config: { 'errand.yaml': withVault } })
    const agent = await house.agent('research')
    const asking = { ...tickets, user: 'alice', headers: { 'idempotency-key': 'signed-once' } }
    vault.world = { status: 503 }
    expect((await agent.exchange(asking)).status).toBe(503)
    vault.world = {}
    const answer = await agent.exchange(asking)
    expect(answer.status).toBe(200)
    const [unsigned] = await house.records({ type: 'token.unsigned' })
    const { task_id: task, decision_id: decision } = answer.body
    expect(unsigned?.['task']).toBe(task)
    // Its first decision can be explained, and gave no token.
    const explained = await house.admin('GET', `/explanations/${String(unsigned?.['cause'])}`)
    expect(explained.body).toMatchObject({ type: 'token.issuing', jti: unsigned?.['jti'] })
    const { tokens } = (await house.admin('GET', `/tasks/${String(task)}`)).body as never as {
      tokens: { decision_id: string }[]
    }
    expect(tokens.map((each) => each.decision_id)).toEqual([decision])
  })

  it('lets nothing out that the known key did not sign: a foreign signature, another version, none at all', async () => {
    const house = await opened({ config: { 'errand.yaml': withVault } })
    const agent = await house.agent('research')
    const lies: readonly ((data: Record<string, unknown>) => object)[] = [
      ({ signature, ...data }) => ({ ...data, signature: String(signature).replace(/.{6}$/, 'AAAAAA') }),
      ({ signature, ...data }) => ({ ...data, signature: String(signature).replace(':v1:', ':v2:') }),
      (data) => ({ ...data, signature: `vault:v1:${'A'.repeat(86)}` }),
      (data) => ({ ...data, signature: 'vault:v1:none' }),
      () => ({}),
    ]
    for (const instead of lies) {
      vault.world = { instead }
      const answer = await agent.exchange(tickets)
      expect([answer.status, answer.body['access_token']]).toEqual([503, undefined])
      vault.world = {}
      expect((await agent.exchange(tickets)).status).toBe(200)
    }
    expect(await house.records({ type: 'token.unsigned' })).toHaveLength(lies.length)
  })

  it('starts and revokes while Vault is away, and signs when it is back', async () => {
    const first = await openHouse({ config: { 'errand.yaml': withVault } })
    const { folder } = first
    await first.stop()
    vault.world = { status: 503 }
    const house = await opened({ folder })
    const agent = await house.agent('research')
    expect((await agent.exchange(tickets)).status).toBe(503)
    expect(
      (await house.admin('POST', '/revocations', { match: { agent: 'research' }, mode: 'cut', reason: 'test' })).status,
    ).toBe(201)
    vault.world = {}
    expect((await agent.exchange(tickets)).status).toBe(200)
  })

  it('does not begin without Vault: nothing is signed here instead', async () => {
    vault.world = { status: 503 }
    await expect(opened({ config: { 'errand.yaml': withVault } })).rejects.toMatchObject({
      reason: 'signer_unavailable',
      message: expect.stringMatching(/503: it is sealed/),
    })
  })

  it('moves to Vault by a successor that is published first, and back at once when Vault is not named any more', async () => {
    const local = await openHouse()
    const { folder } = local
    const research = await local.agent('research')
    const before = String((await research.exchange(tickets)).body['access_token'])
    const plain = await readFile(local.config('errand.yaml'), 'utf8')
    await local.stop()

    const moving = await openHouse({ folder, config: { 'errand.yaml': withVault } })
    expect(await tokenKeys(moving)).toEqual([
      ['active', undefined, undefined],
      ['prepared', 'errand-token', 1],
    ])
    expect((await signedBy(moving, before))?.state).toBe('active')
    moving.advance(3700)
    await moving.admin('POST', '/keys/rotate', { purpose: 'feed' })
    await expect.poll(() => tokenKeys(moving), { timeout: 8000 }).toContainEqual(['active', 'errand-token', 1])
    const agent = await moving.agent('research')
    expect((await signedBy(moving, String((await agent.exchange(tickets)).body['access_token'])))?.signer).toBeDefined()
    const startAt = moving.now()
    await moving.stop()

    const back = await opened({ folder, startAt, config: { 'errand.yaml': plain } })
    const again = await (await back.agent('research')).exchange(tickets)
    expect(again.status).toBe(200)
    expect((await signedBy(back, String(again.body['access_token'])))?.signer).toBeUndefined()
    expect(await tokenKeys(back)).toContainEqual(['retiring', 'errand-token', 1])
  }, 20_000)
})
