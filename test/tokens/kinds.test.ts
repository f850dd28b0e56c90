/**
 * C1: every kind of JWT in every slot of ours. The table of kinds says which belong together; everything else is
 * refused, as a wrong type or, where two kinds share a type, for whose key and words they are.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type Kind, KINDS, plainTyp, typFits } from '../../src/tokens/kinds.ts'
import { type Answer, DEV_ISSUER, decode, type House, ISSUER, newKeyPair, openHouse, signJws } from '../house.ts'
import { signingKey } from '../attest/house.ts'
import { NOW } from '../attest/pki.ts'
import {
  attestation,
  attestationProof,
  CLUSTER,
  publicOf,
  serviceAccountToken,
  witSvid,
  workloadProof,
} from '../attest/vouched.ts'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'
import { manifestOf, newSigner, signRelease } from '../releases.ts'

type Agent = Awaited<ReturnType<House['agent']>>
const SLOTS = [
  'subject_token',
  'actor_token',
  'client_assertion',
  'assertion',
  'attestation',
  'attestation_proof',
  'workload',
  'workload_proof',
  'dpop_header',
  'introspected',
  'revocation_order',
  'security_event',
  'acknowledgement',
] as const
type Slot = (typeof SLOTS)[number]

/** Kinds that others make and we take nowhere; signed by the issuer of users, whom we do trust. */
const FOREIGN = {
  logout_token: 'logout+jwt', // OpenID Connect Back-Channel Logout 1.0
  transaction_token: 'txntoken+jwt',
  introspection_jwt: 'token-introspection+jwt', // RFC 9701
  status_list: 'statuslist+jwt',
  attestation_result: 'eat+jwt',
  approval_receipt: 'errand-approval+jwt',
  checkpoint: 'errand-checkpoint+jwt',
} as const

describe('a kind of token in the slot of another', () => {
  let house: House
  let research: Agent
  let tool: Awaited<ReturnType<House['tool']>>
  let made: Map<string, () => Promise<string> | string>

  const cluster = signingKey('cluster-1')
  const fleet = signingKey('fleet-1')
  const wit = signingKey('wit-1')
  const holder = signingKey('instance')
  const acme = signingKey('acme-1')
  const ACME = 'https://acme.platform.example'
  const siem = { ...newKeyPair(), kid: 's' }
  const asReceiver = (path: string, json: object) =>
    house.fetch('POST', path, {
      headers: {
        authorization: `ClientAssertion ${house.assertionOf('receiver:siem', siem)}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify(json),
    })

  beforeAll(async () => {
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) =>
          `${text}\nsignal_receivers: [{ name: siem, audience: siem, keys: [${JSON.stringify({ ...siem.publicJwk, kid: 's', alg: 'ES256' })}] }]\n`,
        'agents/research.yaml': (text) =>
          text.replace('ceiling:\n', 'ceiling:\n  - chat:read\n  - trading:buy\n').replace(
            'evidence: [private_key_jwt]\n',
            `evidence: [private_key_jwt, workload_oidc, client_attestation, wit_svid]
workload: [{ issuer: cluster, claims: { sub: 'system:serviceaccount:agents:research' } }]
attested_by: [{ attester: fleet }]
default_task: { purpose: Kinds, environment: staging, data_classification: internal }
`,
          ),
        'issuers/cluster.yaml': `kind: workload_oidc\nname: cluster\nissuer: ${CLUSTER}\njwks_file: cluster.json\nalgorithms: [ES256]\n`,
        'issuers/fleet.yaml': 'kind: attester\nname: fleet\njwks_file: fleet.json\nalgorithms: [ES256]\n',
        'issuers/company.yaml': 'kind: workload\ntrust_domain: company.example\nbundle_file: company.json\n',
        'issuers/dev.yaml': (text) =>
          text
            .replace(
              'groups_claim: groups\n',
              'groups_claim: groups\nid_jag: {}\nglobal_token_revocation: true\nsignals: { delivery: push }\n',
            )
            .replace('  support:\n', '  support:\n    - chat:read\n    - trading:buy\n'),
        'issuers/acme.yaml': `kind: agent_platform\nname: acme\nissuer: ${ACME}\njwks_file: acme.json\nalgorithms: [ES256]\ntrust_domain: acme.example\nstage: read\nceiling: []\n`,
        'tools/crm.yaml': (text) => `${text}\nstatus_list: true\n`,
        'tools/chat.yaml':
          'name: chat\naudience: https://chat.example/\ntakes: { kind: id_jag, authorization_server: https://as.example/, clients: { research: r } }\noperations: { read: { effect: read } }\n',
        'tools/trading.yaml':
          'name: trading\naudience: https://trading.example/\ntakes: { kind: txn_token, trust_domain: trading.example }\noperations: { buy: { effect: read } }\n',
        '../keys/acme.json': JSON.stringify({ keys: [acme.jwk] }),
        '../keys/cluster.json': JSON.stringify({ keys: [cluster.jwk] }),
        '../keys/fleet.json': JSON.stringify({ keys: [fleet.jwk] }),
        '../keys/company.json': JSON.stringify({ keys: [{ ...wit.jwk, use: 'wit-svid' }] }),
      },
    })
    research = await house.agent('research')
    tool = await house.tool('tickets')
    const taken = async (form: object, from: 'exchange' | 'hand_over' = 'exchange') => {
      const first = await research.exchange({ form: { audience: 'tickets', ...form } })
      const token = first.body['access_token'] as unknown as string
      if (from === 'exchange') return token
      const answer = await research.handOver(token, 'payments', { audience: 'tickets' })
      return answer.body['access_token'] as unknown as string
    }
    const ticketsKey = await house.keyOf('tools/tickets.jwk')
    const claims = { iss: DEV_ISSUER, sub: 'alice', aud: ISSUER }
    const fresh = () => ({ ...claims, jti: randomBytes(9).toString('hex'), iat: house.now(), exp: house.now() + 60 })
    const feed = await house.fetch('GET', '/revocations')
    const now = await house.fetch('GET', '/revocations/now?nonce=abcdefghijklmnopqrstuv')
    const revoked = await house.admin('POST', '/revocations', { match: { jti: 'none' }, reason: 'for its receipt' })
    const receipt = await house.admin('GET', `/revocations/${revoked.body['id']}/receipt`)
    expect([feed.status, now.status, receipt.status]).toEqual([200, 200, 200])
    const stream = String((await asReceiver('/ssf/streams', {})).body['stream_id'])
    await asReceiver('/ssf/verify', { stream_id: stream })
    const { sets } = (await asReceiver(`/ssf/poll/${stream}`, { returnImmediately: true })).body
    const ownEvent = Object.values(sets as unknown as Record<string, string>)[0]!
    made = new Map<string, () => Promise<string> | string>([
      ['access_token', () => taken({})],
      ['hand_over', () => taken({}, 'hand_over')],
      ['user_id_token', () => house.userToken('alice')],
      ['user_access_token', () => house.userToken('alice', {}, { typ: 'at+jwt' })],
      ['client_assertion', () => research.assertion()],
      [
        'jwt_svid',
        () =>
          signJws(
            { kid: 'svid' },
            { sub: 'spiffe://company.example/agents/research', aud: ISSUER, exp: house.now() + 60 },
            research.key.privateKey,
          ),
      ],
      [
        'id_jag',
        () =>
          house.userToken(
            'alice',
            { client_id: 'research', jti: randomBytes(9).toString('hex') },
            { typ: 'oauth-id-jag+jwt' },
          ),
      ],
      [
        'workload_grant',
        () => signJws({ typ: 'JWT', kid: 'acme-1' }, { ...fresh(), iss: ACME, sub: 'agent/7' }, acme.privateKey),
      ],
      ['own_id_jag', () => taken({ audience: 'https://as.example/', requested_token_type: TOKEN_TYPE.idJag })],
      ['txn_token', () => taken({ audience: 'trading.example', requested_token_type: TOKEN_TYPE.txnToken })],
      ['workload_token', () => serviceAccountToken(cluster, { aud: ISSUER })],
      ['client_attestation', () => attestation(fleet, holder)],
      [
        'client_attestation_proof',
        async () => {
          const { body } = await house.fetch('POST', '/challenge')
          return attestationProof(holder, String(body['attestation_challenge']), { aud: ISSUER })
        },
      ],
      ['wit_svid', () => witSvid(wit, holder)],
      ['workload_proof', async () => workloadProof(holder, await workloadIdentity(), `${ISSUER}/token`)],
      ['dpop_proof', () => house.proof('research', '/token', { key: research.proofKey })],
      [
        'revocation_order',
        () =>
          signJws(
            { typ: 'global-token-revocation+jwt', kid: house.userKey.kid },
            { ...fresh(), aud: `${ISSUER}/global-token-revocation` },
            house.userKey.privateKey,
          ),
      ],
      [
        'security_event',
        () =>
          signJws(
            { typ: 'secevent+jwt', kid: house.userKey.kid },
            {
              ...fresh(),
              sub: undefined,
              exp: undefined,
              sub_id: { format: 'iss_sub', iss: DEV_ISSUER, sub: 'zoe' },
              events: { 'https://schemas.openid.net/secevent/caep/event-type/session-revoked': {} },
            },
            house.userKey.privateKey,
          ),
      ],
      ['own_security_event', () => ownEvent],
      [
        'introspection_response',
        async () => {
          const accept = 'application/token-introspection+jwt'
          return (await tool.form('/introspect', { token: await taken({}) }, { accept })).text
        },
      ],
      ['status_list', async () => (await house.fetch('GET', '/status-lists/1-1')).text],
      ['feed_frame', () => feed.body['frame'] as unknown as string],
      ['receipt', () => receipt.body['receipt'] as unknown as string],
      ['statement', () => now.body['statement'] as unknown as string],
      [
        'acknowledgement',
        () => {
          const said = { iss: 'tool:tickets', aud: ISSUER, iat: house.now(), epoch: '1.0', instance: 'one' }
          return signJws({ typ: 'errand-ack+jwt', kid: ticketsKey.kid }, said, ticketsKey.privateKey)
        },
      ],
      ['release_manifest', () => signRelease(manifestOf(), newSigner())],
      ...Object.entries(FOREIGN).map(
        ([kind, typ]) =>
          [kind, () => signJws({ typ, kid: house.userKey.kid }, fresh(), house.userKey.privateKey)] as const,
      ),
    ])
  })
  afterAll(() => house.close())

  /** One and the same, so that a proof that names it can be made apart. */
  let identity: Promise<string> | undefined
  const workloadIdentity = () => (identity ??= witSvid(wit, holder))

  const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
  /** Authenticated by these headers, and bound to the key that they are about. */
  const withHeaders = (headers: Record<string, string>) =>
    research.exchange({
      form: { ...form, client_assertion: undefined, client_assertion_type: undefined },
      headers,
      proofKey: { privateKey: holder.privateKey, publicJwk: publicOf(holder) },
    })
  const send = async (slot: Slot, token: string): Promise<Answer> => {
    switch (slot) {
      case 'attestation':
        return withHeaders({ 'oauth-client-attestation': token })
      case 'attestation_proof':
        return withHeaders({
          'oauth-client-attestation': await attestation(fleet, holder),
          'oauth-client-attestation-pop': token,
        })
      case 'workload':
        return withHeaders({ 'workload-identity-token': token })
      case 'workload_proof':
        return withHeaders({ 'workload-identity-token': await workloadIdentity(), 'workload-proof-token': token })
      case 'subject_token':
        return research.exchange({ form: { ...form, subject_token: token, subject_token_type: TOKEN_TYPE.jwt } })
      case 'client_assertion':
        return research.exchange({ form: { ...form, client_assertion: token } })
      case 'assertion':
        return research.post({
          grant_type: GRANT.jwtBearer,
          assertion: token,
          request_details: house.details(),
          ...form,
          // An agent of a platform has no other evidence than this.
          ...(plainTyp(decode(token).header['typ']) === 'oauth-id-jag+jwt'
            ? {}
            : { client_assertion: undefined, client_assertion_type: undefined }),
        })
      case 'actor_token':
        return research.exchange({
          user: 'bob', // not the very token that is presented as actor: that is another refusal (C5)
          form: {
            ...form,
            client_assertion: undefined,
            client_assertion_type: undefined,
            actor_token: token,
            actor_token_type: TOKEN_TYPE.jwt,
          },
        })
      case 'dpop_header':
        return research.exchange({ form, headers: { dpop: token } })
      case 'revocation_order':
        return house.fetch('POST', '/global-token-revocation', {
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ sub_id: { format: 'iss_sub', iss: DEV_ISSUER, sub: 'zoe' } }),
        })
      case 'security_event':
        return house.fetch('POST', '/ssf/events', {
          headers: { 'content-type': 'application/secevent+jwt' },
          body: token,
        })
      case 'acknowledgement':
        return house.fetch('POST', '/revocations/acks/relayed', {
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ack: token }),
        })
      case 'introspected':
        return tool.form('/introspect', { token })
    }
  }

  it('has a made example of every kind in the table, of the type that the table says', async () => {
    for (const [name, kind] of Object.entries(KINDS) as [string, Kind][]) {
      const example = await made.get(name)?.()
      expect(example, name).toBeDefined()
      const { typ } = decode(example!).header
      expect(kind.typ, name).toContain(typ === undefined ? undefined : plainTyp(typ))
    }
  })

  const kinds = [...Object.keys(KINDS), ...Object.keys(FOREIGN)]
  const slotsOf = (kind: string): readonly Slot[] => (KINDS as Record<string, Kind>)[kind]?.slots ?? []

  /** Off the diagonal, and for kinds that share their type with one that belongs there: who signed decides. */
  function reasonFor(kind: string, slot: Exclude<Slot, 'introspected'>): string {
    switch (`${kind} ${slot}`) {
      case 'jwt_svid subject_token': // no issuer at all
      case 'workload_token subject_token': // of an issuer that speaks for no users
      case 'workload_grant subject_token':
      case 'user_id_token assertion': // of issuers that speak for no agents of a platform
      case 'jwt_svid assertion':
      case 'workload_token assertion':
        return 'untrusted_issuer'
      case 'user_id_token client_assertion': // of somebody who is no client
      case 'user_id_token actor_token':
      case 'workload_grant client_assertion':
      case 'workload_grant actor_token':
        return 'unknown_client'
      default:
        return 'wrong_typ'
    }
  }

  for (const kind of kinds) {
    for (const slot of ['subject_token', 'introspected'] as const) {
      if (slotsOf(kind).includes(slot)) continue
      it(`C1 ${kind} is refused as ${slot}`, async () => {
        const token = await made.get(kind)!()
        if (slot === 'introspected') {
          const answer = await send(slot, token)
          expect([answer.status, answer.body]).toEqual([200, { active: false }])
          return
        }
        await refusedWithoutTrace(
          house,
          () => send(slot, token),
          { status: 400, error: 'invalid_request', reason: reasonFor(kind, slot) },
          () => send(slot, house.userToken('alice')),
        )
      })
    }
  }

  for (const [slot, answer] of [
    ['actor_token', { status: 400, error: 'invalid_request' }],
    ['client_assertion', { status: 401, error: 'invalid_client' }],
    ['attestation', { status: 401, error: 'invalid_client_attestation' }],
    ['attestation_proof', { status: 401, error: 'invalid_client_attestation' }],
    ['workload', { status: 401, error: 'invalid_client' }],
    ['workload_proof', { status: 401, error: 'invalid_client' }],
    ['assertion', { status: 400, error: 'invalid_grant' }],
    ['dpop_header', { status: 400, error: 'invalid_dpop_proof' }],
    ['revocation_order', { status: 401, error: 'invalid_token' }],
    ['acknowledgement', { status: 400, error: 'invalid_request' }],
  ] as const) {
    it(`C1 every kind but its own is refused as ${slot}`, async () => {
      // Our own ID-JAG shares its type with those of others: who brings it is known, and who made it is the next question.
      const known = slot === 'assertion' ? ['own_id_jag'] : []
      const others = kinds.filter((kind) => !slotsOf(kind).includes(slot) && !known.includes(kind))
      const tokens = new Map<string, string>()
      for (const kind of others) tokens.set(kind, await made.get(kind)!())
      await strangersWithoutTrace(
        house,
        others.map((kind) => ({
          ...answer,
          title: kind,
          reason: reasonFor(kind, slot),
          send: () => send(slot, tokens.get(kind)!),
        })),
        () => send('subject_token', house.userToken('alice')),
      )
    })
  }

  it('C1 every kind but its own is refused as security_event', async () => {
    const epoch = await house.service.stores.revocations.epoch()
    for (const kind of kinds.filter((each) => !slotsOf(each).includes('security_event'))) {
      const answer = await send('security_event', await made.get(kind)!())
      // Ours shares its type with theirs: who made it is the next question.
      const err = kind === 'own_security_event' ? 'invalid_issuer' : 'invalid_request'
      expect([kind, answer.status, answer.body['err']]).toEqual([kind, 400, err])
    }
    expect(await house.service.stores.revocations.epoch()).toEqual(epoch)
  })

  it('C1 an ID-JAG of ours is refused as one for us: we speak for no users here', async () => {
    const token = await made.get('own_id_jag')!()
    await refusedWithoutTrace(
      house,
      () => send('assertion', token),
      { status: 400, error: 'invalid_grant', reason: 'untrusted_issuer' },
      async () => send('assertion', await made.get('id_jag')!()),
    )
  })

  it('C1 each kind is taken in its own slots, where nothing but its kind is in question', async () => {
    expect((await send('subject_token', house.userToken('alice'))).status).toBe(200)
    expect((await send('client_assertion', research.assertion())).status).toBe(200)
    expect((await send('assertion', await made.get('id_jag')!())).status).toBe(200)
    expect((await send('assertion', await made.get('workload_grant')!())).body['error']).toBe('use_dpop_nonce')
    expect((await send('actor_token', research.assertion())).status).toBe(200)
    expect((await send('dpop_header', await made.get('dpop_proof')!())).status).toBe(200)
    for (const slot of ['client_assertion', 'actor_token'] as const) {
      expect((await send(slot, await made.get('workload_token')!())).status).toBe(200)
    }
    for (const [slot, kind] of [
      ['attestation', 'client_attestation'],
      ['attestation', 'wit_svid'],
      ['attestation_proof', 'client_attestation_proof'],
      ['workload', 'wit_svid'],
      ['workload_proof', 'workload_proof'],
    ] as const) {
      const answer = await send(slot, await made.get(kind)!())
      expect([kind, slot, answer.status], answer.text).toEqual([kind, slot, 200])
    }
    expect((await send('security_event', await made.get('security_event')!())).status).toBe(202)
    expect((await send('acknowledgement', await made.get('acknowledgement')!())).status).toBe(204)
    expect((await send('revocation_order', await made.get('revocation_order')!())).status).toBe(204)
    expect((await send('introspected', await made.get('access_token')!())).body['active']).toBe(true)
    const own = await made.get('access_token')!()
    expect((await research.from(own, form)).status).toBe(200)
    // In the table, and not ours to use: refused for what they say, not for what they are.
    expect((await send('subject_token', await made.get('hand_over')!())).body['reason']).toBe('may_act')
    expect((await send('subject_token', await made.get('user_access_token')!())).body['reason']).toBe('wrong_typ')
    expect((await send('introspected', await made.get('hand_over')!())).body).toEqual({ active: false })
  })

  it.each([
    ['at+jwt', true],
    ['AT+JWT', true],
    ['application/at+jwt', true],
    ['Application/AT+JWT', true],
    ['at+jwt;x=1', false],
    [['at+jwt'], false],
    ['text/at+jwt', false],
    [' at+jwt', false],
    ['', false],
    [7, false],
    [null, false],
    ['dpop+jwt', false],
    [undefined, true], // an id token
  ])('C2 typ %j in the slot of subject tokens: %s', (typ, fits) => {
    expect(typFits(typ, 'subject_token')).toBe(fits)
  })

  it('C2 a type without its case or with application/ is the same kind, another spelling is none', async () => {
    const own = await made.get('access_token')!()
    const claims = decode(own).payload
    const kid = decode(own).header['kid']
    // We cannot sign with the service's key: what fits the type goes on to fail for its signature.
    for (const [typ, reason] of [
      ['AT+JWT', 'bad_signature'],
      ['application/at+jwt', 'bad_signature'],
      ['at+jwt;x=1', 'wrong_typ'],
      [['at+jwt'], 'wrong_typ'],
      [undefined, 'wrong_typ'],
    ] as const) {
      await refusedWithoutTrace(
        house,
        () => research.from(signJws({ typ, kid }, claims, research.key.privateKey), form),
        { status: 400, error: 'invalid_request', reason },
        async () => research.from(await made.get('access_token')!(), form),
      )
    }
  })
})
