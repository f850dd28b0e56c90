/** Every kind of evidence in which a platform can name the image, and those whose word is not enough. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE } from '../../src/oauth/words.ts'
import { type SigningKey, signingKey } from '../attest/house.ts'
import { createTestTrustDomain, NOW } from '../attest/pki.ts'
import { attestation, CLUSTER, serviceAccountToken, witSvid } from '../attest/vouched.ts'
import { decode, type House, ISSUER, type KeyPair, newKeyPair, openHouse } from '../house.ts'
import { idOf, imageOf, manifestOf, newSigner, releaseSection, signRelease } from '../releases.ts'

const SUB = 'https://research.example.com'
const [cluster, fleet, desk, wit] = ['cluster-1', 'fleet-1', 'desk-1', 'wit-1'].map((kid) => signingKey(kid)) as [
  SigningKey,
  SigningKey,
  SigningKey,
  SigningKey,
]
const asPair = ({ jwk, privateKey }: SigningKey): KeyPair => {
  const { kid: _, alg: __, ...publicJwk } = jwk
  return { privateKey, publicJwk }
}
const jwks = ({ jwk }: SigningKey) => JSON.stringify({ keys: [jwk] })
const manifest = manifestOf()
const id = idOf(manifest)
const good = { image: manifest.image }

describe('evidence in which the platform names the image', () => {
  let house: House
  const signer = newSigner()
  beforeAll(async () => {
    const bundle = await (await createTestTrustDomain('company.example')).bundle()
    const claim = 'image_digest_claim: [image]\n'
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': (text) =>
          `${text.replace('[private_key_jwt]', '[workload_oidc, client_attestation, wit_svid]')}workload:
  - issuer: cluster
    claims: { kubernetes.io: { namespace: agents } }
attested_by: [{ attester: fleet, subject: ${SUB} }, { attester: desk, subject: ${SUB}/desk }]
${releaseSection()}`,
        'issuers/company.yaml': `kind: workload\ntrust_domain: company.example\nbundle_file: trust/company.json\n${claim}`,
        'issuers/cluster.yaml': `kind: workload_oidc\nname: cluster\nissuer: ${CLUSTER}\njwks_file: trust/cluster.json\nalgorithms: [ES256]\n${claim}`,
        'issuers/fleet.yaml': `kind: attester\nname: fleet\njwks_file: trust/fleet.json\nalgorithms: [ES256]\ntier: platform\n${claim}`,
        'issuers/desk.yaml': `kind: attester\nname: desk\njwks_file: trust/desk.json\nalgorithms: [ES256]\n${claim}`,
        'releases/1.jws': signRelease(manifest, signer),
        '../keys/releases/ci.pub.jwk': signer.file,
        '../keys/trust/cluster.json': jwks(cluster),
        '../keys/trust/fleet.json': jwks(fleet),
        '../keys/trust/desk.json': jwks(desk),
        '../keys/trust/company.json': JSON.stringify({
          ...bundle,
          keys: [...bundle.keys, { ...wit.jwk, use: 'wit-svid' }],
        }),
      },
    })
  })
  afterAll(() => house.close())

  const ask = async (form: object, headers: Record<string, string>, proofKey: KeyPair) => {
    await house.learnNonce('research')
    const research = await house.agent('research')
    return research.exchange({
      headers,
      proofKey,
      form: {
        audience: 'tickets',
        scope: 'tickets:read_ticket',
        client_assertion: undefined,
        client_assertion_type: undefined,
        ...form,
      },
    })
  }
  const attested = async (by: SigningKey, sub: string, claims: Record<string, unknown>) => {
    const holder = signingKey('instance')
    return ask({}, { 'oauth-client-attestation': await attestation(by, holder, { sub, ...claims }) }, asPair(holder))
  }
  const kinds: readonly [
    string,
    string,
    (claims: Record<string, unknown>) => Promise<Awaited<ReturnType<typeof ask>>>,
  ][] = [
    [
      'workload_oidc',
      'measured',
      async (claims) => {
        const token = await serviceAccountToken(cluster, { aud: ISSUER, ...claims })
        return ask({ client_assertion_type: ASSERTION_TYPE.jwtBearer, client_assertion: token }, {}, newKeyPair())
      },
    ],
    [
      'wit_svid',
      'measured',
      async (claims) => {
        const holder = signingKey('workload')
        return ask({}, { 'workload-identity-token': await witSvid(wit, holder, claims) }, asPair(holder))
      },
    ],
    ['client_attestation', 'measured', (claims) => attested(fleet, SUB, claims)],
    // What its attester saw is a key, so its word of an image is no platform's.
    ['client_attestation', 'key', (claims) => attested(desk, `${SUB}/desk`, claims)],
  ]

  for (const [kind, tier, present] of kinds) {
    it(`F15 ${kind} reaches ${tier}, and no swapped image gets anything`, async () => {
      const answer = await present(good)
      expect(answer.status, answer.text).toBe(200)
      expect(decode(String(answer.body['access_token'])).payload['att']).toEqual({ kind, tier, release: id })
      const error = kind === 'client_attestation' ? 'invalid_client_attestation' : 'invalid_client'
      const swapped = await present({ image: imageOf('swapped') })
      expect([swapped.status, swapped.body['error'], swapped.body['reason']]).toEqual([
        401,
        error,
        'measurement_changed',
      ])
      const tag = await present({ image: 'research:1.0.0' })
      expect([tag.status, tag.body['error']]).toEqual([401, error])
      const none = await present({})
      expect(none.status, none.text).toBe(200)
      expect(decode(String(none.body['access_token'])).payload['att']).toEqual({
        kind,
        tier: tier === 'measured' ? 'platform' : 'key',
      })
    })
  }
})
