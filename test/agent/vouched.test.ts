import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { clientAttestation, type Evidence, witSvid, workloadToken } from '@errand/agent'
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import { agentAt, details } from './house.ts'
import { decode, serveErrand } from './service-double.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})
const using = async (evidence: Evidence) => {
  const service = await serveErrand()
  closing.push(service.close)
  const { agent, clock } = agentAt(service.url, { evidence })
  const task = await agent.task(details)
  await task.token({ tool: 'tickets' })
  return { service, task, clock }
}
const newKey = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { jwk: { ...privateKey.export({ format: 'jwk' }), kty: 'EC' }, publicJwk: publicKey.export({ format: 'jwk' }) }
}

describe('a workload token', () => {
  it('is read from its file for each request, as the platform renews it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'errand-agent-'))
    closing.push(() => rm(folder, { recursive: true }))
    const file = join(folder, 'token')
    await writeFile(file, 'first.token.x\n')
    const evidence = workloadToken({ file })
    const { service, task } = await using(evidence)
    await writeFile(file, 'second.token.x\n')
    await task.token({ tool: 'crm' })
    expect(service.at('/tasks')[0]!.headers.authorization).toBe('ClientAssertion first.token.x')
    const [first, second] = service.at('/token')
    expect([first!.form.get('client_assertion'), first!.form.get('client_assertion_type')]).toEqual([
      'first.token.x',
      'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    ])
    expect(second!.form.get('client_assertion')).toBe('second.token.x')
    expect(inspect(evidence)).toBe('Evidence {"kind":"workload_oidc"}')
  })

  it('may come from anywhere else', async () => {
    const { service } = await using(workloadToken({ token: async () => ' a.b.c ' }))
    expect(service.at('/tasks')[0]!.headers.authorization).toBe('ClientAssertion a.b.c')
  })
})

describe('a client attestation', () => {
  it('comes with DPoP proofs by the key that it attests, and with no assertion', async () => {
    const { jwk, publicJwk } = newKey()
    const evidence = clientAttestation({ attestation: () => 'a.b.c\n', key: jwk })
    const { service } = await using(evidence)
    const thumbprint = await calculateJwkThumbprint(publicJwk)
    for (const path of ['/tasks', '/token']) {
      const { headers, form } = service.at(path)[0]!
      expect(headers['oauth-client-attestation']).toBe('a.b.c')
      expect([headers.authorization, form.get('client_assertion')]).toEqual([undefined, null])
      expect(await calculateJwkThumbprint(decode(String(headers['dpop'])).header['jwk'] as never)).toBe(thumbprint)
    }
    expect(inspect(evidence)).toBe(`Evidence {"kind":"client_attestation","thumbprint":"${thumbprint}"}`)
    expect(inspect(evidence)).not.toContain(jwk.d)
  })

  it('refuses a key that makes no proofs, without quoting it', () => {
    expect(() => clientAttestation({ attestation: 'a.b.c', key: 'canary' })).toThrow(/private key/)
    expect(() => clientAttestation({ attestation: 'a.b.c', key: 'canary' })).not.toThrow(/canary/)
  })
})

describe('a WIT-SVID', () => {
  it('comes with a proof token for the endpoint, by a key that may rotate while the DPoP key stays', async () => {
    const keys = [newKey(), newKey()]
    let current = 0
    const evidence = witSvid({ read: async () => ({ svid: `svid.${current}.x\n`, key: keys[current]!.jwk }) })
    const { service, task, clock } = await using(evidence)
    current = 1
    await task.token({ tool: 'crm' })
    const proofs = new Set<string>()
    for (const [request, index] of [
      [service.at('/tasks')[0]!, 0],
      [service.at('/token')[0]!, 0],
      [service.at('/token')[1]!, 1],
    ] as const) {
      const { headers } = request
      expect(headers['workload-identity-token']).toBe(`svid.${index}.x`)
      expect(headers.authorization).toBeUndefined()
      const jwks = createLocalJWKSet({ keys: [{ ...keys[index]!.publicJwk, kty: 'EC', alg: 'ES256' }] })
      const { payload } = await jwtVerify(String(headers['workload-proof-token']), jwks, {
        typ: 'wpt+jwt',
        audience: `${service.url}${request.path}`,
        currentDate: new Date(clock.now * 1000),
      })
      expect(payload.exp! - clock.now).toBeLessThanOrEqual(60)
      expect(payload['wth']).toBe(
        Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(`svid.${index}.x`))).toString('base64url'),
      )
      proofs.add(await calculateJwkThumbprint(decode(String(headers['dpop'])).header['jwk'] as never))
    }
    expect(proofs.size).toBe(1)
    expect(inspect(evidence)).toBe('Evidence {"kind":"wit_svid"}')
  })
})
