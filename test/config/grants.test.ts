/** What the files say of grants: platforms, issuers of ID-JAGs, targets that take other tokens than ours. */
import { describe, expect, it } from 'vitest'
import { edit, load, problemsOf, publicJwk } from './folder.ts'

const AGENT = 'config/agents/research.yaml'
const ISSUER = 'config/issuers/company.yaml'
const PLATFORM = 'config/issuers/acme.yaml'
const TARGET = 'config/tools/chat.yaml'
const keys = { 'keys/acme.json': JSON.stringify({ keys: [publicJwk('acme-1')] }) }
const TASK = '{ purpose: Work, environment: staging, data_classification: internal, deadline_seconds: 600 }'

const platform = (more = '', name = 'acme', domain = 'acme.example'): string =>
  `kind: agent_platform
name: ${name}
issuer: https://acme.platform.example
jwks_file: acme.json
algorithms: [ES256]
trust_domain: ${domain}
stage: read
ceiling: [tickets:read]
default_task: ${TASK}
${more}`
const target = (takes: string): string =>
  `name: chat
audience: https://api.chat.example/
takes: ${takes}
operations:
  read: { effect: read }
  post: { effect: external_communication }
`
const idJag = (more = ''): string =>
  `{ kind: id_jag, authorization_server: "https://auth.chat.example/", clients: { research: r1 }${more} }`

describe('a platform', () => {
  it('is known by its issuer and, where it shares one, by its claim; policies may name it', async () => {
    const loaded = await load({
      ...keys,
      [PLATFORM]: platform('tenant: { value: a }\n'),
      'config/issuers/blue.yaml': platform('tenant: { value: b }\n', 'blue', 'blue.example'),
      'config/policies/acme.cedar': '@id("acme") permit (principal == Agent::"platform:acme", action, resource);\n',
    })
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    const { platforms } = loaded.snapshot
    const iss = 'https://acme.platform.example'
    expect(platforms.of({ iss, tenant: 'b' })?.name).toBe('blue')
    expect([platforms.of({ iss }), platforms.of({ iss, tenant: 'c' }), platforms.of({ tenant: 'a' })]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    expect(platforms.all[0]).toMatchObject({ name: 'acme', maxAgents: 100, forgetAfterSeconds: 30 * 86_400 })
  })

  it.each([
    [
      'shares its issuer with one of users',
      { ...edit(ISSUER, 'https://login.example.com/', 'https://acme.platform.example') },
      'duplicate',
      /another kind/,
    ],
    [
      'shares its issuer without saying which is which',
      { 'config/issuers/blue.yaml': platform('', 'blue', 'blue.example') },
      'duplicate',
      /need tenant/,
    ],
    [
      'has the trust domain of an agent',
      { [PLATFORM]: platform('', 'acme', 'company.example') },
      'duplicate',
      /company\.example is already taken/,
    ],
    [
      'has the trust domain of another',
      { 'config/issuers/blue.yaml': platform('tenant: { value: b }\n', 'blue') },
      'duplicate',
      /acme\.example is already taken/,
    ],
    ['has the name of another issuer', { [PLATFORM]: platform('', 'company') }, 'duplicate', /company/],
    [
      'caps by what there is not',
      { [PLATFORM]: platform().replace('tickets:read', 'tickets:raed') },
      'unknown_reference',
      /raed/,
    ],
    [
      'has tasks that outlast all others',
      { [PLATFORM]: platform().replace('600', '604800') },
      'bad_limit',
      /max_deadline_seconds/,
    ],
    ['has a misspelt key', { [PLATFORM]: platform('max_agent: 3\n') }, 'unknown_key', /max_agent/],
  ])('B7 that %s is refused', async (_, changed, code, message) => {
    const problems = await problemsOf({ ...keys, [PLATFORM]: platform(), ...changed })
    expect(problems).toContainEqual(expect.objectContaining({ code, message: expect.stringMatching(message) }))
  })
})

describe('a target of others’ tokens', () => {
  it('is a tool that says what it takes', async () => {
    const loaded = await load({ [TARGET]: target(idJag(', scopes: { read: chat.read }')) })
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
    expect(loaded.snapshot.tools.byName('chat')?.takes).toEqual({
      kind: 'id_jag',
      authorizationServer: 'https://auth.chat.example/',
      clients: new Map([['research', 'r1']]),
      scopes: new Map([['read', 'chat.read']]),
      act: false,
      details: false,
      lifetimeSeconds: 60,
    })
  })

  it.each([
    ['an unknown operation', idJag(', scopes: { raed: chat.read }'), 'unknown_reference', /raed/],
    ['one scope value for two operations', idJag(', scopes: { read: x, post: x }'), 'duplicate', /x stands for two/],
    ['another’s own scope value', idJag(', scopes: { read: "chat:post" }'), 'duplicate', /chat:post/],
    ['an unknown agent', idJag().replace('research', 'reserach'), 'unknown_reference', /reserach/],
    ['a server that is no https URL', idJag().replace('https://auth', 'http://auth'), 'url_forbidden', /http:\/\/auth/],
    ['a longer life than there is', idJag(', lifetime_seconds: 301'), 'bad_limit', /300/],
    ['another kind', '{ kind: saml }', 'bad_value', /saml/],
    ['a place in status lists', `${idJag()}\nstatus_list: true`, 'bad_value', /no other kind has a status/],
  ])('with %s is refused', async (_, takes, code, message) => {
    const problems = await problemsOf({ [TARGET]: target(takes) })
    expect(problems).toContainEqual(expect.objectContaining({ code, message: expect.stringMatching(message) }))
  })
})

describe('an agent', () => {
  it('is not registered for the grants of platforms, nor for tasks that outlast all others', async () => {
    expect(await problemsOf(edit(AGENT, '[private_key_jwt]', '[private_key_jwt, workload_grant]'))).toContainEqual(
      expect.objectContaining({ code: 'bad_value', message: expect.stringMatching(/agents of platforms/) }),
    )
    const long = edit(AGENT, 'delegates_to: []\n', `default_task: ${TASK.replace('600', '604800')}\n`)
    expect(await problemsOf(long)).toContainEqual(expect.objectContaining({ code: 'bad_limit' }))
  })
})
