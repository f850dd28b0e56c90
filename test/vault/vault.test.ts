/** The double against what OpenBao was seen to answer; and the same against a real server, where one is named. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answersAsOpenBao, ask } from './contract.ts'
import { SEALED } from './facts.ts'
import { prepareDouble, prepareServer, type Prepared } from './prepare.ts'
import { worksWithTransit } from './signing.ts'

describe('the double of Vault', () => {
  let vault: Awaited<ReturnType<typeof prepareDouble>>
  beforeAll(async () => {
    vault = await prepareDouble()
  })
  afterAll(() => vault.close())
  worksWithTransit('the double', () => vault)

  describe('asked by itself', () => {
    let fresh: Awaited<ReturnType<typeof prepareDouble>>
    beforeAll(async () => {
      fresh = await prepareDouble()
    })
    afterAll(() => fresh.close())
    answersAsOpenBao('the double', () => fresh)

    it('N1 is sealed as OpenBao is', async () => {
      fresh.double.world = { status: SEALED.status }
      const [method, path, body] = SEALED.ask
      const { status, body: said } = await ask(fresh, fresh.tokens.root, method, path, body)
      expect([status, said.errors]).toEqual([SEALED.status, SEALED.errors])
    })
  })
})

const { VAULT_ADDR: address, VAULT_TOKEN: token } = process.env

describe('the server named by VAULT_ADDR', () => {
  if (address === undefined || token === undefined) {
    it('is not there: VAULT_ADDR and VAULT_TOKEN name none, so only the double was asked', () => {
      console.warn('VAULT_ADDR and VAULT_TOKEN are not set: no real Vault or OpenBao was asked')
    })
    return
  }
  const prepared: Prepared[] = []
  beforeAll(async () => {
    // One for the facts, which rotate and narrow its keys, and one to work with.
    prepared.push(await prepareServer(address, token), await prepareServer(address, token))
  }, 30_000)
  afterAll(() => Promise.all(prepared.map((each) => each.close())))
  worksWithTransit('the server at VAULT_ADDR', () => prepared[0]!)
  answersAsOpenBao('the server at VAULT_ADDR', () => prepared[1]!)
})
