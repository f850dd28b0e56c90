import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { formatProblems } from '../../src/config/check.ts'
import { renderConfigSchemas } from '../../src/config/json-schemas.ts'
import { listMaterial } from '../../src/config/first-start.ts'
import { loadConfig } from '../../src/config/load.ts'
import { renderPolicySchemaOf } from '../../src/config/policy-schema.ts'
import { edit, GOOD, load, problemsOf, publicJwk } from './folder.ts'

const ERRAND = 'config/errand.yaml'
const AGENT = 'config/agents/research.yaml'
const TOOL = 'config/tools/tickets.yaml'
const ISSUER = 'config/issuers/company.yaml'
const sample = () =>
  loadConfig({ dir: 'config', keysDir: 'keys-that-are-not-there', now: () => 1, allowMissingKeys: true })

describe('the sample company', () => {
  it('loads, and says which development shortcuts are in force', async () => {
    const loaded = await sample()
    if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
    const { snapshot } = loaded
    expect(snapshot.settings).toMatchObject({
      issuer: 'http://127.0.0.1:4460',
      mode: 'development',
      listen: { host: '127.0.0.1', port: 4460 },
      store: { kind: 'embedded' },
    })
    expect(snapshot.settings.developmentShortcuts).toEqual([
      'the issuer http://127.0.0.1:4460 is served over http',
      'the development issuer "dev" vouches for users',
    ])
    expect(snapshot.agents.all.map(({ clientId, stage }) => [clientId, stage])).toEqual([
      ['payments', 'irreversible_write'],
      ['research', 'reversible_write'],
      ['triage', 'read'],
    ])
    expect(snapshot.tools.all.map(({ name }) => name)).toEqual(['crm', 'github', 'payments', 'tickets', 'warehouse'])
    expect(snapshot.tools.byAudience('https://payments.example.com/')?.operations.get('refund')).toMatchObject({
      effect: 'irreversible_write',
      budgeted: { cost: 1 },
      routes: [{ method: 'POST', path: '/payments/:payment_id/refunds' }],
      mcpTools: ['refund_payment'],
    })
    expect([...snapshot.issuers.byIss('http://127.0.0.1:4460/dev-issuer')!.disabledSubjects]).toEqual(['carol'])
  })

  it('says plainly which key files the first start has still to make', async () => {
    const loaded = await loadConfig({ dir: 'config', keysDir: 'keys-that-are-not-there', now: () => 1 })
    expect(loaded.ok).toBe(false)
    if (loaded.ok) return
    expect(loaded.problems.every(({ code }) => code === 'file_missing')).toBe(true)
    expect(formatProblems(loaded.problems)).toContain(
      'config/agents/research.yaml:8:12  keys-that-are-not-there/agents/research.pub.jwk does not exist',
    )
  })

  it('lists what the first start makes', async () => {
    const material = await listMaterial('config')
    expect(material.mode).toBe('development')
    expect(material.administrators).toEqual([{ clientId: 'admin', keysFile: 'admin.pub.jwk' }])
    expect(material.agents.map(({ keysFile }) => keysFile)).toEqual(
      ['payments', 'research', 'triage'].map((name) => `agents/${name}.pub.jwk`),
    )
    expect(material.tools.map(({ name }) => name)).toEqual(['crm', 'github', 'payments', 'tickets', 'warehouse'])
    expect(material.issuers).toMatchObject([
      {
        name: 'dev',
        jwksFile: 'users/dev-issuer.jwks.json',
        users: { alice: { groups: ['support', 'finance'], claims: { department: 'customer-care' } } },
      },
    ])
    expect(await listMaterial('config/no-such-folder')).toMatchObject({
      mode: 'production',
      agents: [],
      tools: [],
      issuers: [],
    })
  })

  it('has schemas for editors that say what the service checks', async () => {
    for (const [path, text] of renderConfigSchemas())
      expect(readFileSync(path, 'utf8'), `${path}: run npm run generate`).toBe(text)
    expect(readFileSync('config/policies/schema.cedarschema', 'utf8')).toBe(await renderPolicySchemaOf('config'))
  })

  it('gives a member of several groups the rights of each, and a non-member none', async () => {
    const loaded = await sample()
    if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
    const { rights } = loaded.snapshot.issuers.all[0]!
    const refunds = (groups: string[]) => rights({ sub: 'x', groups }).filter(({ operation }) => operation === 'refund')
    expect(refunds(['engineering'])).toEqual([])
    expect(refunds(['support'])).toMatchObject([{ constraints: { properties: { amount_cents: { maximum: 5000 } } } }])
    // What one group may is within what the other may: one grant is left, the wider.
    expect(refunds(['support', 'finance'])).toMatchObject([
      { constraints: { properties: { amount_cents: { maximum: 100_000 } } } },
    ])
    expect(rights({ sub: 'x', groups: ['*', 'toString', 'Support', 'support '] })).toEqual([])
  })
})

describe('constraints on arguments that an operation does not have', () => {
  const REFUND = `name: payments
audience: https://payments.example.com/
operations:
  read:
    effect: read
  refund:
    effect: irreversible_write
    routes: [POST /payments/:payment_id/refunds]
    arguments:
      type: object
      required: [reason]
      properties:
        amount_cents: { type: integer, maximum: 500000 }
        note: {}
        lines: { type: array, items: { type: object, properties: { sku: { type: string } } } }
        payee: { type: object, properties: { iban: { type: string } } }
        free: { type: object }
`
  const bounded = (operation: string, constraints: string) => ({
    'config/tools/payments.yaml': REFUND,
    ...edit(
      AGENT,
      '  - tickets:*\n',
      `  - tickets:*\n  - operation: payments:${operation}\n    constraints:\n${constraints}`,
    ),
  })
  const properties = (text: string) => `      properties:\n${text.replace(/^/gm, '        ')}\n`

  it.each([
    ['a misspelt one', 'refund', properties('amount_cent:\n  maximum: 5'), 'amount_cent', 'amount_cents', 11, 9],
    ['one required', 'refund', '      required: [note, amout_cents]\n', 'amout_cents', 'amount_cents', 10, 24],
    [
      'one in a nested object',
      'refund',
      properties('payee: { properties: { ibn: { maxLength: 3 } } }'),
      'ibn',
      'iban',
      11,
      32,
    ],
    [
      'one in the items of a list',
      'refund',
      properties('lines: { items: { properties: { skuu: { maxLength: 3 } } } }'),
      'skuu',
      'sku',
      11,
      41,
    ],
    [
      'one that no operation of the tool has',
      '*',
      properties('amount_cent: { maximum: 5 }'),
      'amount_cent',
      'amount_cents',
      11,
      9,
    ],
  ] as const)('are refused: %s', async (_, operation, constraints, name, meant, line, column) => {
    expect(await problemsOf(bounded(operation, constraints))).toEqual([
      {
        file: AGENT,
        line,
        column,
        code: 'unknown_reference',
        message: `payments:${operation} declares no argument "${name}" in config/tools/payments.yaml: this would bound nothing`,
        suggestion: `did you mean "${meant}"?`,
      },
    ])
  })

  it('are refused in the rights of users as well', async () => {
    const changed = edit(
      ISSUER,
      '  readers: [tickets:read]\n',
      '  readers:\n    - operation: tickets:comment\n      constraints: { properties: { txt: { maxLength: 5 } } }\n',
    )
    expect(await problemsOf(changed)).toMatchObject([
      { file: ISSUER, line: 11, code: 'unknown_reference', suggestion: 'did you mean "text"?' },
    ])
  })

  it.each([
    [
      'what it declares, also freely or as required',
      'refund',
      properties('note: { maxLength: 5 }\nreason: { enum: [x] }'),
    ],
    ['what its routes name', 'refund', properties('payment_id: { enum: [p1] }')],
    [
      'what is inside an argument that does not say',
      'refund',
      properties('free: { properties: { any: { enum: [1] } } }'),
    ],
    ['what an operation without declared arguments may have', 'read', properties('payment: { enum: [p1] }')],
    ['what one of all its operations declares', '*', properties('amount_cents: { maximum: 5 }')],
  ])('are none: %s', async (_, operation, constraints) => {
    expect(await problemsOf(bounded(operation, constraints))).toEqual([])
  })
})

describe('a configuration', () => {
  it('is one snapshot, found by every name it has', async () => {
    const loaded = await load()
    if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
    const { snapshot } = loaded
    expect(snapshot.settings).toMatchObject({ mode: 'production', developmentShortcuts: [] })
    const research = snapshot.agents.byClientId('research')
    expect(research).toMatchObject({
      spiffeId: 'spiffe://company.example/agents/research',
      file: AGENT,
      autonomous: false,
    })
    expect(snapshot.agents.bySpiffeId('spiffe://company.example/agents/research')).toBe(research)
    expect(research!.keys).toMatchObject([{ kid: 'research-1', alg: 'ES256' }])
    expect(research!.ceiling.map(({ operation }) => operation)).toEqual(['comment', 'read'])
    expect(snapshot.agents.byClientId('toString')).toBeUndefined()
    expect(snapshot.tools.byName('tickets')!.stalenessSeconds).toEqual({
      read: 30,
      reversible_write: 5,
      irreversible_write: 2,
      external_communication: 2,
      privileged: 2,
    })
    const issuer = snapshot.issuers.byIss('https://login.example.com/')!
    expect(await issuer.keys('company-1')).toMatchObject({ kid: 'company-1', alg: 'ES256' })
    expect(await issuer.keys('other')).toBeUndefined()
    expect(snapshot.digest).toMatch(/^[0-9a-f]{64}$/)
    const other = await load(edit(AGENT, 'stage: reversible_write', 'stage: read'))
    expect(other.ok && other.snapshot.digest).not.toBe(snapshot.digest)
    expect(other.ok && other.snapshot.policyDigest).toBe(snapshot.policyDigest)
  })

  it('lets a tool and an agent have one name, and their clients not', async () => {
    const loaded = await load({
      'config/tools/research.yaml': `name: research\naudience: https://research.example.com/\nkeys: [${JSON.stringify(publicJwk('tool-1'))}]\n`,
    })
    if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
    expect(loaded.snapshot.machines.byClientId('research')).toBeUndefined()
    expect(loaded.snapshot.machines.byClientId('tool:research')).toMatchObject({
      kind: 'tool',
      audience: 'https://research.example.com/',
    })
  })

  it('B6 a user issuer is found by its exact string, so another spelling is another issuer', async () => {
    const loaded = await load()
    if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
    for (const iss of [
      'https://login.example.com',
      'https://LOGIN.example.com/',
      'https://login.example.com:443/',
      'https://a@login.example.com/',
      '__proto__',
    ]) {
      expect(loaded.snapshot.issuers.byIss(iss), iss).toBeUndefined()
    }
  })

  it('takes issuer, addresses and store from its caller where that says so', async () => {
    const loaded = await load(
      {},
      { overrides: { issuer: 'https://other.example.com', port: 9999, redisUrl: 'redis://127.0.0.1:6379' } },
    )
    expect(loaded.ok && loaded.snapshot.settings).toMatchObject({
      issuer: 'https://other.example.com',
      listen: { port: 9999 },
      store: { kind: 'redis', url: 'redis://127.0.0.1:6379', prefix: 'errand' },
    })
  })

  it('G7 tools empty, missing or null all mean none', async () => {
    for (const ceiling of ['ceiling: []', 'ceiling:', 'ceiling: null', 'ceiling: ~', '']) {
      const loaded = await load(edit(AGENT, 'ceiling:\n  - tickets:*', ceiling))
      expect(loaded.ok && loaded.snapshot.agents.byClientId('research')!.ceiling, ceiling).toEqual([])
    }
    const noOperations = await load({
      [TOOL]: 'name: tickets\naudience: https://tickets.example.com/\noperations:\n',
      [ISSUER]: undefined,
      [AGENT]: undefined,
      'config/policies/base.cedar': undefined,
    })
    expect(noOperations.ok && noOperations.snapshot.tools.all[0]!.operations.size).toBe(0)
    const noRights = await load(edit(ISSUER, '  support: [tickets:*]', '  support:'))
    expect(noRights.ok && noRights.snapshot.issuers.all[0]!.rights({ sub: 'a', groups: ['support'] })).toEqual([])
  })

  it('reports everything that is wrong at once, each in its place', async () => {
    const problems = await problemsOf({
      ...edit(AGENT, 'stage: reversible_write', 'stag: read'),
      ...edit(TOOL, 'effect: read', 'effect: reed'),
      [ERRAND]: 'issuer: https://errand.example.com\nmodes: development\ndpop:\n  require_nonse: false\n',
    })
    expect(formatProblems(problems)).toBe(`config/agents/research.yaml:5:1  unknown key "stag"  [unknown_key]
    did you mean "stage"?
config/errand.yaml:2:1  unknown key "modes"  [unknown_key]
    did you mean "mode"?
config/errand.yaml:4:3  dpop: unknown key "require_nonse"  [unknown_key]
    did you mean "require_nonce"?
config/tools/tickets.yaml:5:13  operations.read.effect: "reed" is not one of read, reversible_write, irreversible_write, external_communication, privileged  [bad_value]
    did you mean "read"?
4 problems`)
  })

  it('shows what stands in a file without letting it steer a terminal', async () => {
    const problems = await problemsOf(edit(AGENT, 'stage: reversible_write', 'stage: "\\e[2Jread\\n"'))
    // eslint-disable-next-line no-control-characters
    expect(formatProblems(problems)).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/)
  })
})

describe('a configuration is refused', () => {
  type Row = [
    name: string,
    files: Record<string, string | undefined>,
    code: string,
    place: string,
    says: RegExp,
    suggests?: RegExp,
  ]
  const table: Row[] = [
    ['without errand.yaml', { [ERRAND]: undefined }, 'file_missing', ERRAND, /does not exist/],
    [
      'with a misspelt stage',
      edit(AGENT, 'stage: reversible_write', 'stage: reversible_wirte'),
      'bad_value',
      `${AGENT}:5:8`,
      /reversible_wirte/,
      /"reversible_write"/,
    ],
    [
      'with a misspelt kind of evidence',
      edit(AGENT, '[private_key_jwt]', '[private_key_jtw]'),
      'bad_value',
      `${AGENT}:3:12`,
      /private_key_jtw/,
      /private_key_jwt/,
    ],
    [
      'with a ceiling that names an unknown operation',
      edit(AGENT, '- tickets:*', '- tickets:raed'),
      'unknown_reference',
      `${AGENT}:7:5`,
      /no operation "raed"/,
      /"read"/,
    ],
    [
      'with a ceiling that names an unknown tool',
      edit(AGENT, '- tickets:*', '- ticket:*'),
      'unknown_reference',
      `${AGENT}:7:5`,
      /no tool "ticket"/,
      /"tickets"/,
    ],
    [
      'with rights of an unknown operation',
      edit(ISSUER, '[tickets:read]', '[tickets:reads]'),
      'unknown_reference',
      `${ISSUER}:9:13`,
      /no operation "reads"/,
      /"read"/,
    ],
    [
      'with a ceiling in no form',
      edit(AGENT, '- tickets:*', '- tickets'),
      'bad_identifier',
      `${AGENT}:7:5`,
      /tool:operation/,
    ],
    [
      'with constraints that cannot be enforced',
      edit(AGENT, '- tickets:*', '- { operation: "tickets:comment", constraints: { pattern: x } }'),
      'bad_value',
      `${AGENT}:7:50`,
      /not a keyword/,
    ],
    [
      'with constraints that admit nothing',
      edit(AGENT, '- tickets:*', '- { operation: "tickets:comment", constraints: { minimum: 2, maximum: 1 } }'),
      'bad_value',
      `${AGENT}:7:50`,
      /admits nothing/,
    ],
    [
      'with a misspelt key in an entry of the ceiling',
      edit(AGENT, '- tickets:*', '- { operation: "tickets:*", constraint: {} }'),
      'unknown_key',
      `${AGENT}:7:31`,
      /"constraint"/,
      /"constraints"/,
    ],
    [
      'with a hand-over to an unknown agent',
      edit(AGENT, 'delegates_to: []', 'delegates_to: [reserch]'),
      'unknown_reference',
      `${AGENT}:8:16`,
      /"reserch"/,
      /"research"/,
    ],
    [
      'with an id that is no SPIFFE id',
      edit(AGENT, 'spiffe://company.example/agents/research', 'spiffe://company.example/agents/../admin'),
      'bad_identifier',
      `${AGENT}:2:12`,
      /not a SPIFFE id/,
    ],
    [
      'with evidence of a trust domain that is not configured',
      edit(AGENT, '[private_key_jwt]', '[private_key_jwt, jwt_svid]'),
      'unknown_reference',
      `${AGENT}:3:29`,
      /trust domain "company.example"/,
    ],
    [
      'without the key that its evidence needs',
      edit(AGENT, 'keys_file: agents/research.pub.jwk\n', ''),
      'missing_key',
      `${AGENT}:3:11`,
      /needs a public key/,
    ],
    [
      'with a key file that is not there',
      { 'keys/agents/research.pub.jwk': undefined },
      'file_missing',
      `${AGENT}:4:12`,
      /does not exist/,
    ],
    [
      'with a key file outside the keys folder',
      edit(AGENT, 'agents/research.pub.jwk', '../config/errand.yaml'),
      'bad_identifier',
      `${AGENT}:4:12`,
      /inside the keys folder/,
    ],
    [
      'with a tier that it cannot reach',
      edit(AGENT, 'stage: reversible_write', 'stage: read\nminimum_tier: platform'),
      'bad_value',
      `${AGENT}:6:15`,
      /reaches the tier platform/,
    ],
    [
      'with two agents of one client_id',
      { 'config/agents/second.yaml': GOOD[AGENT]!.replace('agents/research\n', 'agents/second\n') },
      'duplicate',
      'config/agents/second.yaml:1:12',
      /client_id research is already taken by config\/agents\/research.yaml/,
    ],
    [
      'with two agents of one SPIFFE id',
      { 'config/agents/second.yaml': GOOD[AGENT]!.replace('client_id: research', 'client_id: second') },
      'duplicate',
      'config/agents/second.yaml:2:12',
      /spiffe_id .* already taken/,
    ],
    [
      'with two tools of one audience',
      { 'config/tools/second.yaml': 'name: second\naudience: https://tickets.example.com/\n' },
      'duplicate',
      `${TOOL}:2:11`,
      /already taken by config\/tools\/second.yaml/,
    ],
    [
      'with two issuers of one iss',
      { 'config/issuers/second.yaml': GOOD[ISSUER]!.replace('name: company', 'name: second') },
      'duplicate',
      'config/issuers/second.yaml:3:9',
      /already taken/,
    ],
    [
      'with two tools of one name',
      { 'config/tools/zweite.yaml': 'name: tickets\naudience: https://second.example.com/\n' },
      'duplicate',
      'config/tools/zweite.yaml:1:7',
      /the name tickets is already taken by config\/tools\/tickets.yaml/,
    ],
    [
      'with two issuers of one name',
      { 'config/issuers/second.yaml': GOOD[ISSUER]!.replace('https://login.', 'https://other.') },
      'duplicate',
      'config/issuers/second.yaml:2:7',
      /the name company is already taken by config\/issuers\/company.yaml/,
    ],
    [
      'with a tool whose operations would be called like effects',
      { 'config/tools/effect.yaml': GOOD[TOOL]!.replaceAll('tickets', 'effect') },
      'bad_identifier',
      'config/tools/effect.yaml:1:7',
      /policies say "effect:…"/,
    ],
    [
      'with an abbreviated mode',
      { [ERRAND]: `${GOOD[ERRAND]}mode: dev\n` },
      'bad_value',
      `${ERRAND}:2:7`,
      /"dev" is not one of/,
      /development/,
    ],
    [
      'with a misspelt folder',
      { 'config/tool/crm.yaml': 'name: crm\naudience: https://crm.example.com/\n' },
      'unknown_key',
      'config/tool',
      /nothing reads this folder/,
      /"tools"/,
    ],
    [
      'with a folder of another kind',
      { 'config/connections/bank.yaml': 'name: bank\n' },
      'unknown_key',
      'config/connections',
      /nothing reads this folder/,
      /agents, tools, issuers, policies, releases, schemas/,
    ],
    [
      'with a policy outside its folder',
      { 'config/guardrails.cedar': '@id("none") forbid (principal, action, resource);\n' },
      'unknown_key',
      'config/guardrails.cedar',
      /nothing reads this file/,
      /config\/policies\//,
    ],
    [
      'with an agent outside its folder',
      { 'config/payments.yaml': GOOD[AGENT]! },
      'unknown_key',
      'config/payments.yaml',
      /nothing reads this file/,
      /config\/agents\//,
    ],
    [
      'with one MCP tool name for two operations',
      edit(TOOL, '  comment:', '  other:\n    effect: read\n    mcp_tools: [read_ticket]\n  comment:'),
      'duplicate',
      `${TOOL}:10:17`,
      /already maps to "read"/,
    ],
    [
      'with one route for two operations',
      edit(TOOL, '  comment:', '  other:\n    effect: read\n    routes: ["GET /tickets/:ticket"]\n  comment:'),
      'duplicate',
      `${TOOL}:10:14`,
      /already maps to "read"/,
    ],
    [
      'with an operation without a label',
      edit(TOOL, '    effect: reversible_write\n', ''),
      'missing_key',
      `${TOOL}:9:5`,
      /effect: is missing/,
    ],
    [
      'with a tool that claims to be an unknown agent',
      edit(TOOL, 'operations:', 'agent: recearch\noperations:'),
      'unknown_reference',
      `${TOOL}:3:8`,
      /recearch/,
      /research/,
    ],
    [
      'with an issuer of no known kind',
      edit(ISSUER, 'kind: user', 'kind: users'),
      'bad_value',
      `${ISSUER}:1:7`,
      /"users" is not one of user, workload/,
      /"user"/,
    ],
    [
      'with a misspelt key of an issuer',
      edit(ISSUER, 'algorithms:', 'algoritms:'),
      'unknown_key',
      `${ISSUER}:5:1`,
      /algoritms/,
      /algorithms/,
    ],
    [
      'with an issuer without keys',
      edit(ISSUER, 'jwks_file: users/company.jwks.json\n', ''),
      'missing_key',
      `${ISSUER}:1:7`,
      /jwks_file and jwks_uri/,
    ],
    [
      'with an issuer with two sets of keys',
      edit(ISSUER, 'jwks_file:', 'jwks_uri: https://login.example.com/jwks\njwks_file:'),
      'bad_value',
      `${ISSUER}:1:7`,
      /exactly one/,
    ],
    [
      'with a trust bundle that is none',
      {
        'config/issuers/w.yaml': 'kind: workload\ntrust_domain: company.example\nbundle_file: b.json\n',
        'keys/b.json': '{}',
      },
      'bad_key',
      'config/issuers/w.yaml:3:14',
      /"keys" must be an array/,
    ],
    [
      'with a file that is not read',
      { 'config/agents/other.yml': 'x: 1' },
      'bad_value',
      'config/agents/other.yml',
      /only .yaml files/,
      /other.yaml/,
    ],
    [
      'with a proxy header that nobody may send',
      { [ERRAND]: 'issuer: https://errand.example.com\nlisten:\n  client_certificate_header: Client-Cert\n' },
      'bad_value',
      `${ERRAND}:3:30`,
      /trusted_proxies/,
    ],
    [
      'with an open listener without TLS in production',
      { [ERRAND]: 'issuer: https://errand.example.com\nlisten:\n  host: 0.0.0.0\n' },
      'missing_key',
      `${ERRAND}:3:3`,
      /needs tls/,
    ],
    [
      'U5 with a development issuer in production',
      edit(ISSUER, 'kind: user', 'kind: user\ndevelopment: true'),
      'dev_material',
      `${ISSUER}:2:14`,
      /refused in production/,
    ],
    [
      'G6 with a policy that does not load',
      { 'config/policies/base.cedar': '@id("p")\npermit (principal' },
      'policy_rejected',
      'config/policies/base.cedar:2:18',
      /unexpected end/,
    ],
    [
      'G5 with a policy that is too large',
      { 'config/policies/base.cedar': `// ${'x'.repeat(500_000)}` },
      'policy_too_large',
      'config/policies/base.cedar:1:1',
      /above 262144 bytes/,
    ],
  ]
  it.each(table)('%s', async (_, files, code, place, says, suggests) => {
    const problems = await problemsOf(files)
    expect(problems).not.toEqual([])
    const [first] = problems
    const { file, line, column } = first!
    expect([first!.code, line === undefined ? file : `${file}:${line}:${column}`, first!.message]).toEqual([
      code,
      place,
      expect.stringMatching(says),
    ])
    if (suggests) expect(first!.suggestion).toMatch(suggests)
  })

  it('G1 G2 ids that are not lower-case ASCII are refused, never mended: bad_identifier', async () => {
    for (const id of [
      'Admin',
      'ＡＤＭＩＮ',
      'admin\u200b',
      '\u212aevin',
      ' root',
      'root ',
      '',
      'a b',
      '../x',
      'a'.repeat(65),
    ]) {
      const text = JSON.stringify(id)
      const written = [
        await problemsOf(edit(AGENT, 'client_id: research', `client_id: ${text}`)),
        await problemsOf(edit(TOOL, 'name: tickets', `name: ${text}`)),
        await problemsOf(edit(TOOL, '  comment:', `  ${text}:`)),
        await problemsOf(edit(ISSUER, 'name: company', `name: ${text}`)),
      ]
      for (const [index, problems] of written.entries())
        expect(
          problems.map(({ code }) => code),
          `${text} ${index}`,
        ).toContain('bad_identifier')
    }
  })

  it('G8 limits that are not whole numbers in their range are refused: bad_limit', async () => {
    for (const limit of [
      '"300"',
      "'1'",
      '1e400',
      '-1',
      '0',
      '1.5',
      'true',
      '"false"',
      '[600]',
      '{}',
      '301',
      '.inf',
      '.nan',
      '0x12d',
      '1_0',
    ]) {
      const problems = await problemsOf({
        [ERRAND]: `issuer: https://errand.example.com\ntokens:\n  max_lifetime_seconds: ${limit}\n`,
      })
      expect(
        problems.map(({ code, line }) => [code, line]),
        limit,
      ).toEqual([['bad_limit', 3]])
    }
    const flags = await problemsOf({
      [ERRAND]: 'issuer: https://errand.example.com\ndpop:\n  require_nonce: "false"\n',
    })
    expect(flags).toMatchObject([{ code: 'bad_value', line: 3 }])
  })

  it('D5 an audience that is not in its one canonical form is refused: resource_not_canonical', async () => {
    const spellings = [
      'https://tickets.example.com',
      'https://TICKETS.example.com/',
      'https://tickets.example.com:443/',
      'https://a@tickets.example.com/',
      'https://tickets.example.com/#x',
      'https://tickets.example.com/a/../b',
      'https://tickets.example.com/%61',
      'https://tickets.example.com/%2f',
      'http://tickets.example.com/',
      '/tickets',
      'tickets',
      'https://tickets.example.com\\x',
      'https://127.1/',
    ]
    for (const audience of spellings) {
      const problems = await problemsOf(edit(TOOL, 'https://tickets.example.com/', audience))
      expect(
        problems.map(({ code, line }) => [code, line]),
        audience,
      ).toEqual([['resource_not_canonical', 2]])
    }
    expect(
      await problemsOf(edit(TOOL, 'https://tickets.example.com/', 'https://tickets.example.com/a%2Fb?x=1')),
    ).toEqual([])
  })

  it('I1 I4 I6 destinations and issuers other than plain https are refused: url_forbidden', async () => {
    const urls = [
      'http://login.example.com/jwks',
      'https://127.0.0.1/jwks',
      'https://169.254.169.254/',
      'https://0x7f.1/',
      'https://2130706433/',
      'https://[::ffff:a9fe:a9fe]/',
      'https://localhost./',
      'https://[::1]/',
      'https://10.0.0.8/',
      'file:///etc/passwd',
      'gopher://x/',
      'javascript:alert(1)',
      'https://a@b@c/',
      'https://a\\b/',
      'login.example.com',
    ]
    for (const url of urls) {
      const destination = await problemsOf(
        edit(ISSUER, 'jwks_file: users/company.jwks.json', `jwks_uri: ${JSON.stringify(url)}`),
      )
      expect(
        destination.map(({ code, line }) => [code, line]),
        url,
      ).toEqual([['url_forbidden', 4]])
      const issuer = await problemsOf({ [ERRAND]: `issuer: ${JSON.stringify(url)}\n` })
      expect(
        issuer.map(({ code }) => code),
        url,
      ).toEqual(['url_forbidden'])
    }
    for (const url of [
      'https://errand.example.com/',
      'https://errand.example.com?x=1',
      'https://errand.example.com/a/',
      'https://ERRAND.example.com',
    ]) {
      expect(
        (await problemsOf({ [ERRAND]: `issuer: ${url}\n` })).map(({ code }) => code),
        url,
      ).toEqual(['url_forbidden'])
    }
  })

  it('development mode admits one loopback host over http, and says so; production does not', async () => {
    const development = (issuer: string) => load({ [ERRAND]: `issuer: ${issuer}\nmode: development\n` })
    const loaded = await development('http://127.0.0.1:4460')
    expect(loaded.ok && loaded.snapshot.settings.developmentShortcuts).toEqual([
      'the issuer http://127.0.0.1:4460 is served over http',
    ])
    for (const issuer of [
      'http://127.0.0.2:4460',
      'http://10.0.0.1',
      'http://127.1:4460',
      'http://errand.example.com',
      'http://localhost.example.com',
    ]) {
      expect((await development(issuer)).ok, issuer).toBe(false)
    }
    expect(await problemsOf({ [ERRAND]: 'issuer: http://127.0.0.1:4460\n' })).toMatchObject([
      { code: 'url_forbidden', line: 1 },
    ])
  })

  it('B8 a set of keys with one that is not a sound public key is refused whole', async () => {
    const good = publicJwk('a')
    const sets: Record<string, unknown> = {
      'a symmetric key': { keys: [good, { kty: 'oct', kid: 'b', k: 'AAAA' }] },
      'a private key': { keys: [good, { ...publicJwk('b'), d: good.x }] },
      'one kid twice': { keys: [good, publicJwk('a')] },
      'no kid': { keys: [{ ...good, kid: undefined }] },
      'a thousand keys': { keys: Array.from({ length: 1000 }, (_, index) => ({ ...good, kid: `k${index}` })) },
      'A17 a point off the curve': { keys: [{ ...good, x: publicJwk('b').x }] },
      'A17 ES256 with a P-384 key': { keys: [{ ...good, crv: 'P-384', alg: 'ES256' }] },
      'A2 an algorithm of another kind of key': { keys: [{ ...good, alg: 'HS256' }] },
      'A16 an Ed25519 key of small order': {
        kty: 'OKP',
        crv: 'Ed25519',
        kid: 'e',
        x: 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
      },
      nothing: { keys: [] },
      'no set': 'x',
    }
    for (const [name, set] of Object.entries(sets)) {
      const problems = await problemsOf({ 'keys/agents/research.pub.jwk': JSON.stringify(set) })
      expect(problems, name).toMatchObject([{ file: AGENT, line: 4, code: 'bad_key' }])
    }
  })
})
