/** The agent SDK with what others vouch for it, against the service on its port; keys are fetched from their issuers. */
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Agent, clientAttestation, createAgent, workloadToken } from '@errand/agent'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type SigningKey, signingKey } from '../attest/house.ts'
import { attestation, CLUSTER, serviceAccountToken, sign } from '../attest/vouched.ts'
import { decode } from '../house.ts'
import { openRunning, type Running } from '../running.ts'

const cluster = signingKey('cluster-1')
const fleet = signingKey('fleet-1')
let fetched: string[]
let issuers: Server
let running: Running
let folder: string
beforeAll(async () => {
  fetched = []
  issuers = createServer((request, response) => {
    fetched.push(request.url ?? '')
    const { jwk }: SigningKey = request.url === '/cluster' ? cluster : fleet
    response.end(JSON.stringify({ keys: [jwk] }))
  })
  issuers.listen(0, '127.0.0.1')
  await once(issuers, 'listening')
  const keys = `http://127.0.0.1:${(issuers.address() as AddressInfo).port}`
  folder = await mkdtemp(join(tmpdir(), 'errand-vouched-'))
  running = await openRunning(undefined, {
    'agents/research.yaml': (text) =>
      text.replace(
        'evidence: [private_key_jwt]\n',
        `evidence: [private_key_jwt, workload_oidc, client_attestation]
workload: [{ issuer: cluster, claims: { kubernetes.io: { namespace: agents, serviceaccount: { name: research } } } }]
attested_by: [{ attester: fleet }]
`,
      ),
    'issuers/cluster.yaml': `kind: workload_oidc\nname: cluster\nissuer: ${CLUSTER}\njwks_uri: ${keys}/cluster\nalgorithms: [ES256]\n`,
    'issuers/fleet.yaml': `kind: attester\nname: fleet\njwks_uri: ${keys}/fleet\nalgorithms: [ES256]\ntier: platform\n`,
  })
})
afterAll(async () => {
  await running.close()
  issuers.close()
  await rm(folder, { recursive: true, force: true })
})

const now = () => Math.floor(Date.now() / 1000)
const life = () => ({ iat: now() - 5, nbf: undefined, exp: now() + 300 })
const taskOf = async (agent: Agent) =>
  agent.task({
    subjectToken: await running.userToken('alice', ['support']),
    purpose: 'answer a question about an order',
    environment: 'staging',
    dataClassification: 'internal',
    deadlineSeconds: 900,
  })

it('a projected token that its platform renews serves for a whole task, with one key', async () => {
  const file = join(folder, 'token')
  const renew = async () => writeFile(file, await serviceAccountToken(cluster, { ...life(), aud: [running.issuer] }))
  await renew()
  const agent = createAgent({ issuer: running.issuer, evidence: workloadToken({ file }) })
  const task = await taskOf(agent)
  const first = await task.token({ tool: 'tickets' })
  await renew()
  const second = await task.token({ tool: 'crm' })
  const [one, two] = [first, second].map(({ accessToken }) => decode(accessToken).payload)
  expect(one).toMatchObject({ client_id: 'research', att: { kind: 'workload_oidc', tier: 'platform' } })
  expect(two!['cnf']).toEqual(one!['cnf'])
  // Another process that reads the same token is somebody else.
  const thief = createAgent({ issuer: running.issuer, evidence: workloadToken({ file }) })
  await expect(taskOf(thief)).rejects.toMatchObject({ code: 'invalid_dpop_proof' })
  await task.complete()
})

it('an attestation serves with DPoP proofs by its own key, to which tokens are bound', async () => {
  const holder = signingKey('instance')
  const jwk = holder.privateKey.export({ format: 'jwk' })
  const token = await attestation(fleet, holder, life())
  const agent = createAgent({
    issuer: running.issuer,
    evidence: clientAttestation({ attestation: () => token, key: { ...jwk, kty: 'EC' } }),
  })
  const task = await taskOf(agent)
  const { accessToken } = await task.token({ tool: 'tickets' })
  expect(decode(accessToken).payload).toMatchObject({ att: { kind: 'client_attestation', tier: 'platform' } })
  await task.complete()
  const other = signingKey('other').privateKey.export({ format: 'jwk' })
  const thief = createAgent({
    issuer: running.issuer,
    evidence: clientAttestation({ attestation: () => token, key: { ...other, kty: 'EC' } }),
  })
  await expect(taskOf(thief)).rejects.toMatchObject({ code: 'invalid_dpop_proof' })
})

it('B5 whatever kids strangers invent, each issuer is asked once', async () => {
  const before = fetched.length
  const claims = { iss: CLUSTER, sub: 'x', aud: running.issuer, ...life() }
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, index) => {
      const token = await sign(cluster, claims, { kid: `invented-${index}` })
      const headers = { authorization: `ClientAssertion ${token}` }
      return (await fetch(`${running.issuer}/agents/research`, { headers })).status
    }),
  )
  expect(new Set(answers)).toEqual(new Set([401]))
  expect(fetched.length - before).toBeLessThanOrEqual(1)
  expect(fetched.filter((path) => path === '/fleet').length).toBe(1)
})
