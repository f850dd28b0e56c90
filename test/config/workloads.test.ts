/** Issuers of workload tokens and attesters, and the rules by which agents name them. */
import { describe, expect, it } from 'vitest'
import { GOOD, load, problemsOf, publicJwk } from './folder.ts'

const CLUSTER = `kind: workload_oidc
name: cluster
issuer: https://kubernetes.default.svc.cluster.local
jwks_file: trust/cluster.jwks.json
algorithms: [ES256]
`
const FLEET = `kind: attester
name: fleet
jwks_file: trust/fleet.jwks.json
algorithms: [ES256]
tier: platform
`
const agentFile = (name: string, evidence: string, more: string) =>
  `client_id: ${name}
spiffe_id: spiffe://company.example/agents/${name}
evidence: [${evidence}]
stage: read
ceiling: []
${more}`
const RULES = `workload:
  - issuer: cluster
    claims:
      kubernetes.io: { namespace: agents, serviceaccount: { name: [bot, bot-canary] } }
  - issuer: cluster
    claims: { project: 7, protected: true }
`
const FILES: Readonly<Record<string, string>> = {
  ...GOOD,
  'config/issuers/cluster.yaml': CLUSTER,
  'config/issuers/fleet.yaml': FLEET,
  'keys/trust/cluster.jwks.json': JSON.stringify({ keys: [publicJwk('cluster-1')] }),
  'keys/trust/fleet.jwks.json': JSON.stringify({ keys: [publicJwk('fleet-1')] }),
  'config/agents/bot.yaml': agentFile('bot', 'workload_oidc', RULES),
}
const withFiles = (files: Readonly<Record<string, string>>) => ({ ...FILES, ...files })
const told = async (files: Readonly<Record<string, string>>): Promise<string> =>
  (await problemsOf(withFiles(files)))
    .map(({ file, code, message, suggestion }) => `${file} ${code} ${message} (${suggestion})`)
    .join('\n')
const BOT = 'config/agents/bot.yaml'
const bot = (more: string, evidence = 'workload_oidc') => ({ [BOT]: agentFile('bot', evidence, more) })

describe('issuers of workload tokens', () => {
  it('are read with our issuer identifier as audience, and rules as paths and values', async () => {
    const loaded = await load(FILES)
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    const { workloadIssuers, agents, issuers } = loaded.snapshot
    const cluster = workloadIssuers.byIss('https://kubernetes.default.svc.cluster.local')
    expect(cluster).toMatchObject({
      name: 'cluster',
      audiences: ['https://errand.example.com'],
      maxLifetimeSeconds: 3600,
    })
    expect((await cluster?.keys('cluster-1'))?.kid).toBe('cluster-1')
    expect(await cluster?.keys('company-1')).toBeUndefined()
    // Whoever speaks for workloads does not speak for users, and the reverse.
    expect(issuers.byIss('https://kubernetes.default.svc.cluster.local')).toBeUndefined()
    expect(workloadIssuers.byIss('https://login.example.com/')).toBeUndefined()
    expect(agents.byClientId('bot')?.workload?.[0]).toEqual({
      issuer: 'https://kubernetes.default.svc.cluster.local',
      conditions: [
        { path: ['kubernetes.io', 'namespace'], oneOf: ['agents'] },
        { path: ['kubernetes.io', 'serviceaccount', 'name'], oneOf: ['bot', 'bot-canary'] },
      ],
    })
    const match = (payload: object) =>
      agents.byWorkload('https://kubernetes.default.svc.cluster.local', payload as never)?.agent.clientId
    expect(match({ 'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'bot-canary' } } })).toBe('bot')
    expect(match({ project: 7, protected: true })).toBe('bot')
    expect(match({ project: '7', protected: true })).toBeUndefined()
  })

  const faults: readonly [string, Record<string, string>, string][] = [
    ['an agent without rules', bot(''), 'bot.yaml missing_key workload_oidc needs workload'],
    [
      'rules that nothing uses',
      {
        ...bot(RULES, 'private_key_jwt'),
        [BOT]: `${agentFile('bot', 'private_key_jwt', RULES)}keys_file: agents/research.pub.jwk\n`,
      },
      'bad_value workload needs workload_oidc in evidence',
    ],
    [
      'an issuer that is misspelt',
      bot(RULES.replace('issuer: cluster', 'issuer: clutser')),
      'unknown_reference there is no issuer of kind workload_oidc called "clutser" (did you mean',
    ],
    [
      'an issuer of another kind',
      bot(RULES.replace('issuer: cluster', 'issuer: company')),
      'unknown_reference there is no issuer of kind workload_oidc called "company"',
    ],
    ['a rule without claims', bot('workload: [{ issuer: cluster, claims: {} }]\n'), 'names no claim'],
    ['an empty list of values', bot('workload: [{ issuer: cluster, claims: { ref: [] } }]\n'), 'workload.0.claims.ref'],
    [
      'values inside a list of lists',
      bot('workload: [{ issuer: cluster, claims: { ref: [[a]] } }]\n'),
      'workload.0.claims.ref',
    ],
    [
      'more combinations than anybody reads',
      bot(
        `workload: [{ issuer: cluster, claims: { a: [${[...Array(17).keys()]}], b: [${[...Array(17).keys()]}] } }]\n`,
      ),
      'bad_limit its lists make more than 256 combinations',
    ],
    [
      'B7 an issuer of users that is one of workloads too',
      {
        'config/issuers/cluster.yaml': CLUSTER.replace(
          'https://kubernetes.default.svc.cluster.local',
          'https://login.example.com/',
        ),
      },
      'duplicate the issuer https://login.example.com/ is already taken by',
    ],
    [
      'a name that is taken',
      { 'config/issuers/cluster.yaml': CLUSTER.replace('name: cluster', 'name: company') },
      'duplicate the name company is already taken by',
    ],
    [
      'our own issuer identifier',
      {
        'config/issuers/cluster.yaml': CLUSTER.replace(
          'https://kubernetes.default.svc.cluster.local',
          'https://errand.example.com',
        ),
      },
      'bad_value this is our own issuer identifier',
    ],
    [
      'no keys',
      { 'config/issuers/cluster.yaml': CLUSTER.replace('jwks_file: trust/cluster.jwks.json\n', '') },
      'missing_key exactly one of jwks_file and jwks_uri names the keys',
    ],
    [
      'keys that would be fetched from inside',
      {
        'config/issuers/cluster.yaml': CLUSTER.replace(
          'jwks_file: trust/cluster.jwks.json',
          'jwks_uri: https://10.0.0.1/jwks',
        ),
      },
      'url_forbidden jwks_uri https://10.0.0.1/jwks names a private or loopback address',
    ],
    [
      'a review over plain HTTP',
      {
        'config/issuers/cluster.yaml': `${CLUSTER}token_review: { api_server: 'http://10.0.0.1', ca_file: trust/ca.pem, token_file: trust/token }\n`,
        'keys/trust/ca.pem': 'x',
        'keys/trust/token': 'x',
      },
      'url_forbidden http://10.0.0.1 must begin with https://',
    ],
    [
      'a review without its files',
      {
        'config/issuers/cluster.yaml': `${CLUSTER}token_review: { api_server: 'https://10.0.0.1', ca_file: trust/ca.pem, token_file: trust/token }\n`,
      },
      'file_missing trust/token cannot be read',
    ],
    [
      'an agent whose token another could be taken by',
      {
        'config/agents/other.yaml': agentFile(
          'other',
          'workload_oidc',
          'workload: [{ issuer: cluster, claims: { kubernetes.io: { namespace: agents } } }]\n',
        ),
      },
      'duplicate one token could be evidence of this agent and of bot',
    ],
  ]
  it.each(faults)('%s is refused at load', async (_title, files, expected) => {
    expect(await told(files)).toContain(expected)
  })

  it('a private address is no fault for the server that reviews its own tokens', async () => {
    const problems = await problemsOf(
      withFiles({
        'config/issuers/cluster.yaml': `${CLUSTER}token_review: { api_server: 'https://10.0.0.1:6443', ca_file: trust/ca.pem, token_file: trust/token }\n`,
        'keys/trust/ca.pem': 'x',
        'keys/trust/token': 'x',
      }),
    )
    expect(problems).toEqual([])
  })
})

describe('attesters', () => {
  const attested = (more = 'attested_by: [{ attester: fleet }]\n') =>
    bot(`minimum_tier: platform\n${more}`, 'client_attestation')

  it('are found by the subject that agents register, and raise the tier where their word is worth it', async () => {
    const loaded = await load(withFiles(attested()))
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    const { attesters, agents } = loaded.snapshot
    expect(attesters.byName('fleet')).toMatchObject({ tier: 'platform', maxLifetimeSeconds: 86_400 })
    expect(agents.byAttestedSubject('bot')).toMatchObject({ attester: 'fleet', agent: { clientId: 'bot' } })
    expect(agents.byAttestedSubject('research')).toBeUndefined()
  })

  const faults: readonly [string, Record<string, string>, string][] = [
    ['an agent without one', attested(''), 'missing_key client_attestation needs attested_by'],
    [
      'an attester that nobody configured',
      attested('attested_by: [{ attester: flete }]\n'),
      'unknown_reference there is no issuer of kind attester called "flete" (did you mean',
    ],
    [
      'a tier that the attester does not reach',
      { ...attested(), 'config/issuers/fleet.yaml': FLEET.replace('tier: platform', 'tier: key') },
      'bad_value none of its kinds of evidence reaches the tier platform',
    ],
    [
      'a subject that is what another agent is called',
      attested('attested_by: [{ attester: fleet, subject: research }]\n'),
      'duplicate the subject research is already taken by research',
    ],
    [
      'one subject for two agents',
      {
        ...attested('attested_by: [{ attester: fleet, subject: shared }]\n'),
        'config/agents/other.yaml': agentFile(
          'other',
          'client_attestation',
          'attested_by: [{ attester: fleet, subject: shared }]\n',
        ),
      },
      'duplicate the subject shared is already taken by bot',
    ],
  ]
  it.each(faults)('%s is refused at load', async (_title, files, expected) => {
    expect(await told(files)).toContain(expected)
  })
})
