import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { readPrivateJwkFile } from '../../src/keys/private-jwk.ts'
import { endOfLifeWarning } from '../../src/cli/serve.ts'
import { type Double, NOW, serviceDouble, URL_OF_SERVICE, VERDICTS } from './double.ts'

let service: Double
beforeEach(async () => {
  service = await serviceDouble()
})
afterEach(() => service.close())

const TASK = 'task_AAECAwQFBgcICQoLDA0ODw'
const CHILD = 'task_BBECAwQFBgcICQoLDA0ODw'
const DECISION = 'dec_AAECAwQFBgcICQoLDA0ODxAREhM'
const JTI = 'AAECAwQFBgcICQoLDA0ODxAREhM'
const STRAY = '\u001b[2J\u202e\n{"x":1}'

describe('administration', () => {
  it('proves possession of the admin key with a fresh assertion and proof each time, after learning the nonce', async () => {
    service.answers.set('GET /agents', { agents: [] })
    const { exit } = await service.cli('agent', 'list')
    expect(exit).toBe(0)
    expect(service.nonceRetries()).toBe(1)
    const admin = await readPrivateJwkFile(join(service.keysDir, 'admin.jwk'))
    expect(service.received).toEqual([
      {
        method: 'GET',
        path: '/agents',
        query: {},
        body: undefined,
        clientId: 'admin',
        jkt: jwkThumbprint(admin.publicJwk as never),
      },
    ])
  })

  it('lists agents as a table, and as JSON exactly as it came', async () => {
    const agents = [
      {
        client_id: 'research',
        stage: 'reversible_write',
        evidence: ['private_key_jwt'],
        display_name: 'Research assistant',
      },
      {
        client_id: 'triage',
        stage: 'read',
        evidence: ['private_key_jwt', 'jwt_svid'],
        autonomous: true,
        display_name: 'Triage',
      },
    ]
    service.answers.set('GET /agents', { agents })
    expect((await service.cli('agent', 'list')).out).toBe(
      `AGENT     STAGE             EVIDENCE                  STATE       NAME
research  reversible_write  private_key_jwt                       Research assistant
triage    read              private_key_jwt jwt_svid  autonomous  Triage
`,
    )
    expect(JSON.parse((await service.cli('agent', 'list', '--json')).out)).toEqual({ agents })
  })

  it('draws a task as a tree', async () => {
    const task = (id: string, agent: string) => ({
      id,
      agent,
      subject: 'dev|alice',
      purpose: 'find out why order 4711 was refunded twice',
      environment: 'production',
      data_classification: 'internal',
      state: 'active',
      deadline: NOW + 600,
      budget: { max_calls: 10 },
      spent: { calls: 3, exchanges: 1, cost: 0 },
      authority: [{ type: 'tool', tool: 'tickets', effect: 'read', operations: ['read_ticket'], constraints: {} }],
      tokens: [],
      refusals: [],
      children: [],
    })
    service.answers.set(`GET /tasks/${TASK}`, {
      ...task(TASK, 'research'),
      tokens: [{ jti: JTI, scope: 'tickets:read_ticket', expires_at: NOW + 100 }],
      refusals: [{ decision_id: DECISION, reason: 'scope_not_granted', missing: ['payments:refund'] }],
      children: [{ ...task(CHILD, 'payments'), state: 'completed', ended_reason: 'completed by payments' }],
    })
    expect((await service.cli('task', 'show', TASK)).out).toBe(
      `${TASK} active
research for dev|alice: find out why order 4711 was refunded twice
production · internal · until 2027-01-15 08:10:00Z (in 10 min) · calls 3 of 10
may tickets:read_ticket*
├─ token tickets:read_ticket ${JTI} expires in 100 s
├─ refused scope_not_granted: payments:refund ${DECISION}
└─ ${CHILD} completed, completed by payments
   payments for dev|alice: find out why order 4711 was refunded twice
   production · internal · until 2027-01-15 08:10:00Z (in 10 min) · calls 3 of 10
   may tickets:read_ticket*
`,
    )
  })

  it('explains a decision as operation by operand', async () => {
    service.answers.set(`GET /explanations/${DECISION}`, {
      decision: 'refuse',
      decision_id: DECISION,
      agent: 'research',
      att: { kind: 'private_key_jwt', tier: 'key' },
      subject: 'h:1234',
      subject_name: 'dev|alice',
      tool: 'payments',
      reason: 'scope_not_granted',
      rules: ['base.reads'],
      t: NOW * 1000,
      log: { id: '0a1b2c3d', index: 7 },
      details: {
        rule: 'stage',
        missing: ['payments:refund'],
        next: 'ask for payments:read_payment alone',
        verdicts: VERDICTS,
      },
    })
    const { out, exit } = await service.cli('explain', DECISION)
    expect(exit).toBe(0)
    expect(out).toBe(
      `refused ${DECISION}

agent     research
attested  private_key_jwt, tier key
for       dev|alice
tool      payments
reason    scope_not_granted
rule      stage
missing   payments:refund
next      ask for payments:read_payment alone
policies  base.reads
when      2027-01-15 08:00:00Z
record    7 of log 0a1b2c3d

OPERATION              EFFECT              tool  subject  ceiling  stage  task  parent  policy
payments:read_payment  read                yes   yes      yes      yes    yes   yes     yes     permitted
payments:refund        irreversible_write  yes   yes      yes      NO     ·     ·       ·       refused

payments:read_payment: by base.reads
payments:refund: stage reversible_write stops short of irreversible_write
payments:refund: to permit it, raise the stage of research to irreversible_write
`,
    )
  })

  it('draws the whole intersection, with constraints as notes, every loss, the next step and the page', async () => {
    const bound = (maximum: number) => ({ properties: { amount_cents: { maximum } }, type: 'object' })
    service.answers.set(`GET /explanations/${DECISION}`, {
      decision: 'refuse',
      decision_id: DECISION,
      reason: 'scope_not_granted',
      error_uri: 'https://errand.example/docs/refusals/scope_not_granted',
      details: {
        rule: 'subject',
        next: 'ask for less',
        next_action: 'ask_person',
        lost: [
          { tool: 'payments', operation: 'refund', operand: 'subject', least_change: 'widen its constraints' },
          { tool: 'payments', operation: 'refund', operand: 'stage', least_change: 'raise `stage`' },
        ],
      },
      intersection: {
        more: 3,
        rows: [
          {
            tool: 'payments',
            operation: 'refund',
            effect: 'irreversible_write',
            permitted: false,
            operands: {
              tool: 'yes',
              subject: 'no',
              ceiling: 'yes',
              stage: 'no',
              task: 'absent',
              parent: 'absent',
              policy: 'not_asked',
            },
            constraints: { tool: [bound(500_000)], subject: [bound(900)], ceiling: [bound(500_000)] },
            policies: [],
          },
        ],
      },
    })
    const { out } = await service.cli('explain', DECISION)
    expect(out).toBe(
      `refused ${DECISION}

reason  scope_not_granted
rule    subject
next    ask for less
action  ask_person
page    https://errand.example/docs/refusals/scope_not_granted

OPERATION        EFFECT              tool  subject  ceiling  stage  task  parent  policy
payments:refund  irreversible_write  yes¹  NO²      yes¹     NO     –     –       ·       refused
¹ {"amount_cents":{"maximum":500000}}
² {"amount_cents":{"maximum":900}}
… and 3 more

payments:refund: at subject, widen its constraints
payments:refund: at stage, raise \`stage\`
`,
    )
    const { out: whole } = await service.cli('explain', DECISION, '--json')
    expect(JSON.parse(whole)).toHaveProperty('intersection.rows')
  })

  it('notes the constraints that a token was granted with', async () => {
    service.answers.set(`GET /explanations/${JTI}`, {
      decision: 'permit',
      decision_id: DECISION,
      claims: {
        authorization_details: [
          {
            type: 'tool',
            tool: 'payments',
            operations: ['refund'],
            constraints: { properties: { amount_cents: { maximum: 5 } } },
          },
        ],
      },
      intersection: {
        rows: [
          {
            tool: 'payments',
            operation: 'refund',
            effect: 'irreversible_write',
            permitted: true,
            operands: { tool: 'yes', subject: 'yes', ceiling: 'yes', stage: 'yes', policy: 'yes' },
            policies: ['refunds'],
            reasons: ['refunds for users who may'],
          },
        ],
      },
    })
    const { out } = await service.cli('explain', JTI)
    expect(out).toContain(
      'permitted¹\n¹ {"amount_cents":{"maximum":5}}\n\npayments:refund: refunds for users who may\n',
    )
  })

  it('prints the published keys, and with --all every one there ever was', async () => {
    const now = await service.cli('keys', 'export-jwks')
    expect(JSON.parse(now.out)).toEqual(JSON.parse(service.ring.jwks().text))
    service.answers.set('GET /keys/jwks', { keys: service.ring.publicKeysEver() })
    const ever = JSON.parse((await service.cli('keys', 'export-jwks', '--all')).out) as { keys: object[] }
    expect(ever.keys).toEqual(service.ring.publicKeysEver())
    expect(ever.keys[0]).toMatchObject({ errand_state: 'active', prepared_at: NOW, activated_at: NOW })
  })

  it('lists by which version in Vault a key signs, where one does', async () => {
    const key = { purpose: 'token', state: 'active', prepared_at: NOW, activated_at: NOW }
    const signer = { kind: 'vault_transit', mount: 'transit', key: 'errand-token', version: 3 }
    service.answers.set('GET /keys', { keys: [{ ...key, kid: 'k1' }] })
    expect((await service.cli('keys', 'list')).out).not.toContain('SIGNED BY')
    service.answers.set('GET /keys', {
      keys: [
        { ...key, kid: 'k1', signer },
        { ...key, kid: 'k2', purpose: 'feed' },
      ],
    })
    const { out } = await service.cli('keys', 'list')
    expect(
      out
        .split('\n')
        .slice(0, 3)
        .map((line) => line.split(/ {2,}/).at(-1)?.trim()),
    ).toEqual(['SIGNED BY', 'transit/errand-token v3', 'errand'])
  })

  describe('aimed at a name that is not there', () => {
    const asked = () => service.received.filter(({ method }) => method === 'POST')
    beforeEach(() => {
      service.answers.set('POST /revocations', { id: 'rev_x', epoch: '0.9', match: {}, mode: 'ban' })
      service.answers.set('GET /agents', { agents: [{ client_id: 'research', spiffe_id: 'spiffe://a/research' }] })
      service.answers.set('GET /keys', { keys: [{ kid: 'key-one' }] })
      service.answers.set(`GET /tasks/${TASK}`, { id: TASK })
    })

    it.each([
      [['--agent', 'reserch'], 'there is no agent reserch, did you mean research?; nothing was changed'],
      [['--agent', 'spiffe://a/reserch'], 'did you mean spiffe://a/research?'],
      [['--sub', 'dve|alice'], 'there is no issuer dve, did you mean dev?'],
      [['--kid', 'key-onr'], 'there is no key key-onr, did you mean key-one?'],
      [['--task', CHILD], `there is no task ${CHILD}; nothing was changed`],
      [['--root', CHILD], `there is no task ${CHILD}`],
    ])('revoke %s is refused, unless it is meant all the same', async (flags, message) => {
      const { exit, out, err } = await service.cli('revoke', ...flags, '--reason', 'why')
      expect({ exit, out }).toEqual({ exit: 2, out: '' })
      expect(err).toContain(message)
      expect(err).toContain('--anyway')
      expect(asked()).toEqual([])
      expect((await service.cli('revoke', ...flags, '--reason', 'why', '--anyway')).exit).toBe(0)
      expect(asked()).toHaveLength(1)
    })

    it.each([
      [['--sub', 'alice'], '--sub is <issuer>|<user>, as in "dev|alice"'],
      [['--task', 'task_nope'], '--task is no task id'],
      [['--root', 'nope'], '--root is no task id'],
      [['--jti', 'nope'], '--jti is no jti'],
      [['--all', '--reason', 'x'], '--reason says why, in 3 to 500 characters'],
    ])('revoke %s can be nothing at all, and is refused without asking', async (flags, message) => {
      const reason = flags.includes('--reason') ? [] : ['--reason', 'why']
      const { exit, err } = await service.cli('revoke', ...flags, ...reason, '--anyway')
      expect(exit).toBe(2)
      expect(err).toContain(message)
      expect(service.received).toEqual([])
    })

    it('what is there is revoked, also where the service cannot list what there is', async () => {
      for (const flags of [
        ['--agent', 'research'],
        ['--agent', 'spiffe://a/research'],
        ['--sub', 'dev|alice'],
        ['--sub', 'spiffe://a/research'],
        ['--task', TASK],
      ])
        expect(await service.cli('revoke', ...flags, '--reason', 'why')).toMatchObject({ exit: 0 })
      for (const path of ['/agents', `/tasks/${TASK}`])
        service.answers.set(`GET ${path}`, { error: 'temporarily_unavailable', reason: 'overloaded' })
      expect((await service.cli('revoke', '--agent', 'reserch', '--reason', 'why')).exit).toBe(0)
      expect((await service.cli('revoke', '--task', TASK, '--reason', 'why')).exit).toBe(0)
    })

    it('says of looked-up names which one was meant', async () => {
      const shown = await service.cli('agent', 'show', 'reserch')
      expect(shown).toMatchObject({ exit: 1, out: '' })
      expect(shown.err).toContain('there is no agent reserch, did you mean research?')
      expect((await service.cli('task', 'show', CHILD)).err).toContain(`there is no task ${CHILD}`)
      expect(await service.cli('task', 'show', 'x')).toMatchObject({ exit: 2 })
      const get = await service.cli('token', 'get', '--agent', 'reserch', '--tool', 'tickets')
      expect(get.exit).toBe(2)
      expect(get.err).toContain('did you mean research?')
    })
  })

  it('ends no task twice, and says why it was over', async () => {
    service.answers.set(`GET /tasks/${TASK}`, { id: TASK, state: 'completed', ended_reason: 'completed by research' })
    const { exit, out, err } = await service.cli('task', 'cancel', TASK)
    expect({ exit, out }).toEqual({ exit: 0, out: `${TASK} completed\n` })
    expect(err).toBe('nothing was changed: the task was over (completed by research)\n')
    expect(service.received.map(({ method }) => method)).toEqual(['GET'])
  })

  it('says in one line what was done to a key, a revocation, and by an administrator', async () => {
    const record = (i: number, type: string, details: object) => ({ i, t: NOW * 1000, by: 'admin', type, details })
    service.answers.set('GET /audit/records', {
      records: [
        record(3, 'admin.acted', { action: 'keys.rotate', purpose: 'token', immediately: true }),
        { ...record(2, 'revocation.readmitted', { reason: 'cleared' }), cause: 'rev_1' },
        {
          ...record(1, 'revocation.added', { match: { client_id: 'a' }, mode: 'ban', reason: 'leak' }),
          cause: 'rev_1',
        },
        record(0, 'key.moved', { kid: 'k1', purpose: 'feed', from: 'prepared', to: 'active', cause: 'schedule' }),
      ],
    })
    const lines = (await service.cli('audit', 'tail')).out.split('\n').map((line) => line.slice(29))
    expect(lines.slice(0, 4)).toEqual([
      'key.moved  admin  feed key k1  prepared → active  schedule',
      'revocation.added  admin  ban  client_id=a  rev_1  leak',
      'revocation.readmitted  admin  rev_1  cleared',
      'admin.acted  admin  keys.rotate  purpose=token  immediately=true',
    ])
  })

  it('follows the audit log from where it was', async () => {
    const record = (i: number) => ({
      i,
      t: NOW * 1000,
      type: 'token.refused',
      decision: 'refuse',
      reason: 'banned',
      agent: 'research',
    })
    const turns = [[record(7)], [record(8), record(9)]]
    service.answers.set('GET /audit/records', ({ query }: { query: { from?: string } }) => ({
      records: query.from === undefined ? [record(6), record(5)] : (turns.shift() ?? []),
    }))
    let waits = 0
    service.world.wait = async () => {
      if (++waits === 3) throw new Error('enough')
    }
    const { out } = await service.cli('audit', 'tail', '-f', '-n', '2')
    expect(out.split('\n').map((line) => line.trim().split(' ')[0])).toEqual(['5', '6', '7', '8', '9', ''])
    expect(out.split('\n')[0]).toBe('     5 2027-01-15 08:00:00Z  token.refused  research  banned')
    expect(service.received.map(({ query }) => query['from'])).toEqual([undefined, '7', '8', '10'])
  })

  it('turns spans and times of a search into seconds', async () => {
    service.answers.set('GET /audit/records', { records: [] })
    await service.cli('audit', 'search', '--since', '2h', '--until', '2027-01-15T07:30:00Z', '--sub', 'dev|alice')
    expect(service.received[0]?.query).toEqual({
      since: String(NOW - 7200),
      until: String(NOW - 1800),
      subject: 'dev|alice',
      limit: '50',
    })
    expect((await service.cli('audit', 'search', '--since', 'yesterday')).exit).toBe(2)
  })

  it('K1 lets nothing that came from elsewhere steer the terminal', async () => {
    service.answers.set('GET /tasks', {
      tasks: [{ id: TASK, state: 'active', purpose: STRAY, agent: STRAY, deadline: NOW }],
    })
    service.answers.set('GET /audit/records', { records: [{ i: 1, t: 1, type: STRAY, reason: STRAY, agent: STRAY }] })
    service.answers.set(`GET /explanations/${DECISION}`, {
      agent: STRAY,
      details: { next: STRAY, verdicts: [{ tool: STRAY }] },
    })
    service.answers.set('GET /agents', {
      error: 'x',
      error_description: STRAY,
      reason: STRAY,
      next: STRAY,
      missing: [STRAY],
    })
    for (const argv of [
      ['task', 'list'],
      ['task', 'list', '--json'],
      ['audit', 'tail'],
      ['audit', 'tail', '--json'],
      ['explain', DECISION],
      ['agent', 'list'],
    ]) {
      const { out, err } = await service.cli(...argv)
      expect((out + err).replaceAll('\n', '')).toMatch(/^[^\p{Cc}\p{Cf}]*$/u)
      expect(out + err).toContain('\\u001b')
    }
  })
})

describe('when it cannot be done', () => {
  it('exits 3 and says what to start where nothing answers', async () => {
    service.world.reachable = false
    const { exit, out, err } = await service.cli('agent', 'list')
    expect({ exit, out }).toEqual({ exit: 3, out: '' })
    expect(err).toBe(`errand: no answer from ${URL_OF_SERVICE}
  Is the service running? In a clone: npm start. Elsewhere: errand serve.
  Is it somewhere else? Set ERRAND_URL.
`)
  })

  it('exits 1 and passes on what was refused, why, what is missing and what to do', async () => {
    service.answers.set('POST /token', {
      error: 'invalid_scope',
      reason: 'scope_not_granted',
      error_description: 'part of what was asked for is not granted; nothing was issued',
      rule: 'stage',
      missing: ['payments:refund'],
      next: 'raise the stage',
      decision_id: DECISION,
    })
    const { exit, out, err } = await service.cli(
      'token',
      'get',
      '--agent',
      'research',
      '--user',
      'alice',
      '--tool',
      'payments',
    )
    expect({ exit, out }).toEqual({ exit: 1, out: '' })
    expect(
      err,
    ).toBe(`errand: refused: invalid_scope, scope_not_granted: part of what was asked for is not granted; nothing was issued
  missing: payments:refund
  rule: stage
  next: raise the stage
  more: errand explain ${DECISION}
`)
  })

  it('exits 2 at a key that others can read, and says how to mend it', async () => {
    const path = join(service.keysDir, 'admin.jwk')
    await chmod(path, 0o644)
    const { exit, err } = await service.cli('bans')
    expect(exit).toBe(2)
    expect(err).toContain('key_file_unsafe')
    expect(err).toContain(`chmod 600 ${path}`)
    await rm(path)
    expect((await service.cli('bans')).err).toContain('The service makes it on its first start')
  })

  it('exits 2 at words and flags it does not know, with the nearest ones', async () => {
    const cases: readonly (readonly [readonly string[], string])[] = [
      [['rewoke'], 'unknown command rewoke, did you mean revoke?'],
      [['task', 'sohw'], 'unknown task command sohw, did you mean show?'],
      [['revoke', '--raeson', 'x'], 'unknown flag --raeson, did you mean --reason?'],
      [['revoke', '--agent', 'a', '--agent', 'b', '--reason', 'x'], '--agent is given twice'],
      [['revoke', '--agent', 'a'], 'Missing required argument: --reason'],
      [['revoke', '--agent', 'a', '--mode', 'kill', '--reason', 'x'], 'Expected one of: cut, ban'],
      [['task', 'show'], 'Missing required positional argument: TASK'],
      [['task', 'show', 'a', 'b'], 'unexpected argument'],
      [['task', 'list', '-n', 'many'], '--limit must be a number from 1 to 500'],
      [['explain', 'foo'], 'not a jti or dec_… id'],
      [['__proto__'], 'unknown command'],
      [['task', 'constructor'], 'unknown task command'],
    ]
    for (const [argv, message] of cases) {
      const { exit, out, err } = await service.cli(...argv)
      expect({ exit, out }, argv.join(' ')).toEqual({ exit: 2, out: '' })
      expect(err, argv.join(' ')).toContain(message)
    }
    expect(service.received).toEqual([])
  })

  it('sends no assertion to a service that goes by another name than it was asked for', async () => {
    service.world.env = { ...service.world.env, ERRAND_URL: 'http://127.0.0.1:9999' }
    service.answers.set('GET /agents', { agents: [] })
    // The name that the local configuration has is believed.
    expect((await service.cli('agent', 'list')).exit).toBe(0)
    service.world.env = { ...service.world.env, ERRAND_CONFIG: '/nowhere' }
    const before = service.received.length
    const { exit, err } = await service.cli('agent', 'list')
    expect(exit).toBe(1)
    expect(err).toContain(`calls itself ${URL_OF_SERVICE}`)
    expect(service.received).toHaveLength(before)
  })

  it('speaks http to this machine alone', async () => {
    service.world.env = { ...service.world.env, ERRAND_URL: 'http://errand.example.com' }
    expect(await service.cli('agent', 'list')).toMatchObject({ exit: 2 })
    service.world.env = { ...service.world.env, ERRAND_URL: 'ftp://x' }
    expect(await service.cli('agent', 'list')).toMatchObject({ exit: 2 })
  })

  it('T1 shows neither message nor content of what it stumbled over', async () => {
    service.answers.set('GET /agents', () => {
      throw new Error('never seen')
    })
    service.world.stdin = 'x'
    service.world.wait = async () => {
      throw new Error('canary-secret')
    }
    service.answers.set('GET /audit/records', { records: [] })
    const { exit, err } = await service.cli('audit', 'tail', '-f')
    expect(exit).toBe(1)
    expect(err).toContain('internal error')
    expect(err).not.toContain('canary-secret')
  })
})

describe('files on this machine', () => {
  it('checks a configuration folder and names each problem with file and line', async () => {
    const good = await service.cli('config', 'check')
    // The sample names keys of more agents and tools than this test made.
    expect([0, 1]).toContain(good.exit)
    service.world.env = { ...service.world.env, ERRAND_KEYS: '/nowhere' }
    const fresh = await service.cli('config', 'check')
    expect(fresh.out).toContain('good: ')
    expect(fresh.exit).toBe(0)
    const bad = await service.cli('config', 'check', '/nowhere')
    expect(bad.exit).toBe(1)
    expect(bad.err).toContain('a service would not take this')
  })

  it('says which folder it looked for an audit log in', async () => {
    const { exit, err } = await service.cli('audit', 'verify')
    expect(exit).toBe(2)
    expect(err).toContain('/data/audit cannot be read (ENOENT)')
    const data = service.world.env['ERRAND_DATA']!
    await mkdir(join(data, 'audit'), { recursive: true })
    // The data folder is as good a name as the log's own.
    expect((await service.cli('audit', 'verify', data)).err).not.toContain('ENOENT')
    await writeFile(join(data, 'audit', 'log-id'), '0a1b2c3d\n')
    await mkdir(join(data, 'audit', '0a1b2c3d'))
    const [whole, around] = [
      await service.cli('audit', 'verify', join(data, 'audit')),
      await service.cli('audit', 'verify', data),
    ]
    expect(around).toEqual(whole)
    expect(around.out).toContain('0a1b2c3d')
  })

  it('U6 warns of a Node release past its end of life, and of no other', () => {
    const at = (date: string) => Date.parse(date) / 1000
    expect(endOfLifeWarning('20.20.2', at('2026-11-21'))).toContain('gets no security fixes since 2026-04-30')
    expect(endOfLifeWarning('20.20.2', at('2026-04-01'))).toBeUndefined()
    expect(endOfLifeWarning('24.11.0', at('2026-11-21'))).toBeUndefined()
    expect(endOfLifeWarning('99.0.0', at('2026-11-21'))).toBeUndefined()
  })
})

describe('help', () => {
  const verbs = [
    ['serve'],
    ['token', 'get'],
    ['token', 'inspect'],
    ['token', 'verify'],
    ['explain'],
    ['task', 'list'],
    ['task', 'show'],
    ['task', 'complete'],
    ['task', 'cancel'],
    ['agent', 'list'],
    ['agent', 'show'],
    ['revoke'],
    ['readmit'],
    ['bans'],
    ['keys', 'list'],
    ['keys', 'rotate'],
    ['keys', 'export-jwks'],
    ['keys', 'rewrap'],
    ['audit', 'tail'],
    ['audit', 'search'],
    ['audit', 'verify'],
    ['config', 'check'],
    ['config', 'show'],
  ]
  for (const path of verbs)
    it(`errand ${path.join(' ')} --help tells usage, flags and an example`, async () => {
      const { exit, out, err } = await service.cli(...path, '--help')
      expect({ exit, err }).toEqual({ exit: 0, err: '' })
      expect(out).toContain(`Usage  errand ${path.join(' ')}`)
      expect(out).toMatch(/\nExamples\n {2}errand /)
      if (path[0] !== 'serve') expect(out).toContain('--json')
      // Its examples use no flag of its own that does not exist.
      const own = out.split('\n').filter((line) => line.startsWith(`  errand ${path.join(' ')}`))
      for (const line of own)
        for (const [, flag] of line.split('|')[0]!.matchAll(/ --([a-z-]+)/g))
          expect(out, line).toMatch(new RegExp(`^ {2}(-., )?--${flag}`, 'm'))
    })

  it('says which version it is', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string }
    for (const word of ['--version', '-v', 'version'])
      expect(await service.cli(word)).toEqual({ exit: 0, out: `${version}\n`, err: '' })
  })

  it('names the command in hints as it is called inside a clone', async () => {
    service.world.command = 'npx errand'
    service.answers.set('POST /revocations', { id: 'rev_x', epoch: '0.9', match: {}, mode: 'ban' })
    expect((await service.cli('revoke', '--all', '--reason', 'why')).err).toBe(
      'until: npx errand readmit rev_x --reason …\n',
    )
    expect((await service.cli('task', 'show')).err).toContain('npx errand task show --help')
  })

  it('lists every verb', async () => {
    const { exit, out } = await service.cli('--help')
    expect(exit).toBe(0)
    for (const [first] of verbs) expect(out).toContain(`\n  ${first}`)
    expect((await service.cli()).exit).toBe(2)
    expect((await service.cli('task')).exit).toBe(2)
    expect((await service.cli('task', '--help')).exit).toBe(0)
  })

  it('is coloured only where colours are on', async () => {
    expect((await service.cli('--help')).out).not.toContain('\u001b')
    service.world.colors = true
    expect((await service.cli('--help')).out).toContain('\u001b[1m')
  })
})
