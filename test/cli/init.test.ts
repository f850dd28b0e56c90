import { spawn } from 'node:child_process'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createTestTrustDomain } from '../attest/pki.ts'
import { freePort } from '../running.ts'
import { errand, openPlace, type OwnPlace, typing, type World } from './own.ts'

let place: OwnPlace
let folder: string
let mine: string
beforeEach(async () => {
  place = await openPlace()
  folder = place.folder
  mine = place.mine
})
afterEach(() => place.close())

const text = (path: string) => readFile(join(mine, path), 'utf8')

describe('errand init', () => {
  it('T1 makes what a service starts on, with keys that only their owner reads, and a token comes out of it', async () => {
    const url = `http://127.0.0.1:${await freePort()}`
    const made = await errand([
      'init',
      mine,
      ...['--yes', '--url', url, '--agent', 'librarian', '--tool', 'notes', '--stage', 'read'],
    ])
    expect(made).toMatchObject({ exit: 0 })
    expect(made.out).toContain('agent    librarian, stage read, key in keys/agents/librarian.jwk')
    expect(made.err).toContain(`  cd ${mine}\n  errand serve\n`)
    for (const key of ['agents/librarian.jwk', 'tools/notes.jwk'])
      expect(((await stat(join(mine, 'keys', key))).mode & 0o7777).toString(8), key).toBe('600')
    expect(await text('keys/.gitignore')).toBe('*\n')
    expect(await readdir(folder)).toEqual(['mine'])

    await place.started()
    const given = await errand(['token', 'get', '--agent', 'librarian', '--user', 'alice', '--tool', 'notes'], {
      env: place.environment(),
    })
    expect(given.err).toContain('scope     notes:read_note\n')
    expect(given.exit).toBe(0)
    // Bob is in no group: he has no right, and neither has an agent for him.
    expect(
      await errand(['token', 'get', '--agent', 'librarian', '--user', 'bob', '--tool', 'notes'], {
        env: place.environment(),
      }),
    ).toMatchObject({ exit: 1, out: '' })
    expect((await errand(['config', 'check', join(mine, 'config')], { env: place.environment() })).exit).toBe(0)
  })

  it('takes users of an identity provider that it finds by its metadata', async () => {
    const idp = await place.identityProvider()
    const url = `http://127.0.0.1:${await freePort()}`
    const made = await errand([
      'init',
      mine,
      ...['--yes', '--url', url, '--idp', idp.issuer, '--idp-audience', 'errand', '--groups-claim', 'teams'],
      ...['--group', 'support', '--stage', 'reversible_write'],
    ])
    expect(made.exit, made.err).toBe(0)
    expect(await text('config/issuers/company.yaml')).toContain(
      `issuer: ${idp.issuer}\njwks_uri: ${idp.issuer}/keys\nalgorithms:\n  - ES256\naudiences:\n  - errand\n`,
    )
    await place.started()
    const token = (claims: object) =>
      errand(['token', 'get', '--agent', 'assistant', '--tool', 'notes', '--subject-token-file', '-'], {
        env: place.environment(),
        stdin: idp.token(claims),
      })
    expect(await token({ aud: 'errand', teams: ['support'] })).toMatchObject({
      exit: 0,
      err: expect.stringContaining('scope     notes:add_note notes:read_note\n'),
    })
    expect(await token({ aud: 'another', teams: ['support'] })).toMatchObject({ exit: 1, out: '' })
    expect(await token({ aud: 'errand', teams: ['sales'] })).toMatchObject({ exit: 1, out: '' })
  })

  it('is production where the service has an https name, and every user then only reads', async () => {
    const idp = await place.identityProvider()
    const keys = join(folder, 'idp-keys.json')
    await writeFile(keys, idp.jwks)
    const answers = join(folder, 'answers.yaml')
    await writeFile(
      answers,
      `
url: https://errand.example.com
idp: { issuer: https://login.example.com, audience: errand, jwks_file: ${keys} }
agents: [{ client_id: research, stage: irreversible_write }]
tools:
  - name: tickets
    audience: https://tickets.example.com/
    operations:
      read_ticket: { effect: read, routes: [GET /tickets/:id] }
      close_ticket: reversible_write
      delete_ticket: irreversible_write
`,
    )
    const made = await errand(['init', mine, '--answers', answers])
    expect(made.exit, made.err).toBe(0)
    expect(made.out).toContain('production mode')
    expect(made.out).toContain('rights   every user: to read\n')
    expect(await text('config/policies/base.cedar')).toContain('@id("no_irreversible_in_production_by_key")')
    expect(await text('config/agents/research.yaml')).toContain('spiffe_id: spiffe://example.com/agents/research\n')

    const port = await freePort()
    const settings = await text('config/errand.yaml')
    await writeFile(join(mine, 'config/errand.yaml'), settings.replace('port: 4460', `port: ${port}`))
    expect(settings).toContain('mode: production\n')
    await place.started()
    const iat = { iss: 'https://login.example.com', aud: 'errand' }
    const given = await errand(
      ['token', 'get', '--agent', 'research', '--tool', 'tickets', '--subject-token-file', '-'],
      {
        env: place.environment(`http://127.0.0.1:${port}`),
        stdin: idp.token(iat),
      },
    )
    expect(given.err).toContain('scope     tickets:read_ticket\n')
    const claims = JSON.parse(Buffer.from(given.out.split('.')[1]!, 'base64url').toString('utf8')) as object
    expect(claims).toMatchObject({ iss: 'https://errand.example.com', sub: 'company|u-1' })
    expect(claims).not.toHaveProperty('dev')
  })

  it('takes the operations from an OpenAPI document, with effects guessed on the safe side', async () => {
    const document = join(folder, 'api.yaml')
    await writeFile(
      document,
      `
openapi: 3.1.0
servers: [{ url: https://tickets.example.com/v1 }]
paths:
  /tickets/{id}:
    get: { operationId: getTicket, summary: "One ticket\\nand more" }
    delete: { operationId: deleteTicket }
  /tickets/{id}/comments:
    post: { operationId: addComment, x-errand-effect: reversible_write }
  /tickets/{id}/mail:
    post: { operationId: send-mail }
  /reports/{a}-{b}:
    get: {}
  /status:
    get: {}
`,
    )
    const made = await errand(['init', mine, '--yes', '--tool', 'tickets', '--openapi', document])
    expect(made.exit, made.err).toBe(0)
    expect(made.err).toContain('note: left out of tickets: GET /reports/{a}-{b}: a path that no route can say\n')
    expect(made.err).toContain(
      'note: 4 effects in config/tools/tickets.yaml are guesses, on the safe side: look at them\n',
    )
    expect((await text('config/tools/tickets.yaml')).split('operations:\n')[1]).toBe(`  get_ticket:
    effect: read # a guess, from GET
    description: One ticket
    routes:
      - GET /v1/tickets/:id
  delete_ticket:
    effect: irreversible_write # a guess, on the safe side: reversible_write, if it can be taken back
    routes:
      - DELETE /v1/tickets/:id
  add_comment:
    effect: reversible_write
    routes:
      - POST /v1/tickets/:id/comments
  send-mail:
    effect: external_communication # a guess, from its name
    routes:
      - POST /v1/tickets/:id/mail
  get_status:
    effect: read # a guess, from GET
    routes:
      - GET /v1/status
`)
  })

  it('takes the operations from an MCP server’s answer to tools/list', async () => {
    const answer = join(folder, 'tools.json')
    const tools = [
      { name: 'readTicket', description: 'Reads', annotations: { readOnlyHint: true } },
      { name: 'add_comment', annotations: { destructiveHint: false } },
      { name: 'purge', inputSchema: {} },
      { name: 'no name\u202e' },
    ]
    await writeFile(answer, JSON.stringify({ jsonrpc: '2.0', id: 1, result: { tools } }))
    const made = await errand(['init', mine, '--yes', '--tool', 'desk', '--mcp-tools', answer])
    expect(made.exit, made.err).toBe(0)
    expect((await text('config/tools/desk.yaml')).split('operations:\n')[1]).toBe(`  read_ticket:
    effect: read # a guess, from readOnlyHint
    description: Reads
    mcp_tools:
      - readTicket
  add_comment:
    effect: reversible_write # it says of itself that it destroys nothing
    mcp_tools:
      - add_comment
  purge:
    effect: irreversible_write # a guess, on the safe side: reversible_write, if it can be taken back
    mcp_tools:
      - purge
`)
  })

  describe('refuses, and leaves nothing behind:', () => {
    const refused = async (argv: readonly string[], world?: World) => {
      const before = await readdir(folder, { recursive: true })
      const outcome = await errand(['init', mine, ...argv], world)
      expect(await readdir(folder, { recursive: true })).toEqual(before)
      expect(outcome.out).toBe('')
      return outcome
    }

    it('a folder in which a configuration, keys or data stand', async () => {
      for (const part of ['config', 'keys', 'data']) {
        await mkdir(join(mine, part), { recursive: true })
        await writeFile(join(mine, part, 'something'), 'precious')
        const { exit, err } = await refused(['--yes'])
        expect(exit).toBe(1)
        expect(err).toContain(`${join(mine, part)} is there already, and is not overwritten`)
        await rm(mine, { recursive: true })
      }
    })

    it('a place that is a file, or in which nothing can be made', async () => {
      await writeFile(join(folder, 'mine'), 'a file')
      const outcome = await refused(['--yes'])
      expect([outcome.exit, outcome.err]).toEqual([2, expect.stringContaining(`${mine} is no folder`)])
      await rm(join(folder, 'mine'))
      const below = await errand(['init', '/dev/null/mine', '--yes'])
      expect([below.exit, below.err]).toEqual([
        2,
        expect.stringContaining('/dev/null/mine cannot be looked into (ENOTDIR)'),
      ])
    })

    it('an identity provider that is another one, is away, redirects, or is inside', async () => {
      const other = await place.identityProvider((metadata) => ({ ...metadata, issuer: 'http://127.0.0.1:1/other' }))
      const { exit, err } = await refused(['--yes', '--idp', other.issuer])
      expect(exit).toBe(3)
      expect(err).toContain('its metadata names another issuer')
      expect(err).toContain('It calls itself http://127.0.0.1:1/other: give exactly that')
      expect((await refused(['--yes', '--idp', `http://127.0.0.1:${await freePort()}`])).err).toContain('ECONNREFUSED')
      const idp = await place.identityProvider()
      expect((await refused(['--yes', '--idp', `${idp.issuer}/moved`])).err).toMatch(/redirect_refused|404/)
      expect((await refused(['--yes', '--idp', 'https://169.254.169.254/'])).err).toContain(
        'private or loopback address',
      )
      expect((await refused(['--yes', '--idp', 'http://login.example.com'])).err).toContain('only in development')
      const inside = await place.identityProvider((metadata) => ({ ...metadata, jwks_uri: 'https://10.0.0.1/keys' }))
      expect((await refused(['--yes', '--idp', inside.issuer])).err).toContain('its jwks_uri names a private')
    })

    it.each([
      [['--yes', '--url', 'http://errand.example.com'], '--url http://errand.example.com must begin with https://'],
      [['--yes', '--url', 'https://errand.example.com'], 'production needs an identity provider'],
      [['--yes', '--agent', 'Über'], '--agent is no client_id'],
      [['--yes', '--operations', 'read_note=reed'], '(--operations) is no effect: one of read, reversible_write'],
      [['--yes', '--operations', 'read_note'], 'read_note names no effect'],
      [['--yes', '--operations', 'a=read a=read'], '--operations names a twice'],
      [['--yes', '--openapi', '/nonexistent.yaml'], '/nonexistent.yaml, cannot be read (ENOENT)'],
      [['--yes', '--audience', 'http://tickets.example.com/'], 'the service would not take what these answers make'],
      [[], 'there is no terminal to ask questions at'],
    ])('%j', async (argv, message) => {
      const { exit, err } = await refused(argv)
      expect(exit).toBe(2)
      expect(err).toContain(message)
    })

    it.each([
      ['agentz: []', 'agentz is no answer that is known here'],
      ['agents: []', 'agents '],
      ['agents: [{ client_id: a, stage: reed }]', ':1 agents.0.stage is none of'],
      [
        'agents: [{ client_id: a, evidence: [jwt_svid] }]\ntools: [{ name: t, audience: "https://t.example/", operations: { a: read } }]',
        'agents with SVIDs need trust_domain',
      ],
      [
        'agents: [{ client_id: a }]\ntools: [{ name: t, audience: "https://t.example/" }]',
        'the operations of t come from one place',
      ],
      ['- &a b\n- *a', 'anchors and aliases'],
    ])('answers such as %j', async (answers, message) => {
      const file = join(folder, 'answers.yaml')
      await writeFile(file, answers)
      const { exit, err } = await refused(['--answers', file])
      expect(exit).toBe(2)
      expect(err).toContain(message)
    })
  })

  it('makes it in a folder with other things in it, and beside nothing of its own', async () => {
    await mkdir(mine)
    await writeFile(join(mine, 'README.md'), 'ours')
    expect((await errand(['init', mine, '--yes'])).exit).toBe(0)
    expect((await readdir(mine)).sort()).toEqual(['README.md', 'config', 'keys'])
    expect((await stat(join(mine, 'keys'))).mode & 0o777).toBe(0o700)
    const again = await errand(['init', mine, '--yes'])
    expect([again.exit, again.err]).toEqual([1, expect.stringContaining('is there already, and is not overwritten')])
  })

  it('registers agents by their SVIDs, with the bundle of their trust domain', async () => {
    const { bundle } = await createTestTrustDomain('company.example')
    await writeFile(join(folder, 'bundle.json'), JSON.stringify(await bundle()))
    await writeFile(
      join(folder, 'answers.yaml'),
      `trust_domain: company.example
spiffe_bundle: ${join(folder, 'bundle.json')}
agents: [{ client_id: research, evidence: [jwt_svid] }]
tools: [{ name: notes, audience: "http://127.0.0.1:4470/", operations: { read_note: read } }]
`,
    )
    const made = await errand(['init', mine, '--answers', join(folder, 'answers.yaml')])
    expect(made.exit, made.err).toBe(0)
    expect(await text('config/issuers/workloads.spiffe.yaml')).toContain('bundle_file: workloads/bundle.json\n')
    // Nobody needs a key of ours.
    expect(await readdir(join(mine, 'keys'))).not.toContain('agents')
  })

  it('asks at a terminal, takes Enter for what it proposes, and Ctrl-C for an end that leaves nothing', async () => {
    const type = (keys: readonly string[], flags: readonly string[] = []) =>
      typing(keys, (terminal) => errand(['init', mine, ...flags], { terminal }))
    const stopped = await type(['\r', '\u0003'])
    expect(stopped).toMatchObject({ exit: 130, out: '' })
    expect(await readdir(folder)).toEqual([])

    const made = await type(Array.from({ length: 10 }, () => '\r'))
    expect(made.exit, `${made.err}${made.shown}`).toBe(0)
    expect(made.shown).toContain('Where do your users sign in?')
    expect((await readdir(mine)).sort()).toEqual(['config', 'keys'])
    expect(await text('config/tools/notes.yaml')).toContain('add_note:\n    effect: reversible_write\n')

    // What a flag says is not asked; an identity provider is, for what its tokens carry.
    await rm(mine, { recursive: true })
    const idp = await place.identityProvider()
    const flags = ['--idp', idp.issuer, '--agent', 'research', '--tool', 'desk', '--operations', 'read_it=read']
    const asked = await type(
      Array.from({ length: 7 }, () => '\r'),
      flags,
    )
    expect(asked.exit, `${asked.err}${asked.shown}`).toBe(0)
    expect(asked.shown).not.toContain('Where do your users sign in?')
    expect(await text('config/issuers/company.yaml')).toContain(`jwks_uri: ${idp.issuer}/keys\n`)
    expect(await text('config/agents/research.yaml')).toContain('  - desk:read_it\n')
  })

  it('T1 no secret of it stands in what it prints', async () => {
    const bin = new URL('../../bin/errand.js', import.meta.url).pathname
    const child = spawn(process.execPath, [bin, 'init', mine, '--yes'], { env: { PATH: process.env['PATH'] ?? '' } })
    let shown = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        shown += String(chunk)
      })
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
    const { d } = JSON.parse(await text('keys/agents/assistant.jwk')) as { readonly d: string }
    expect(shown).not.toContain(d)
  })
})
