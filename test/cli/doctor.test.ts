import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import type { webcrypto } from 'node:crypto'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { weakSettings } from '../../src/cli/doctor-config.ts'
import { certificateFiles, mountOf } from '../../src/cli/doctor-machine.ts'
import type { ServiceSettings } from '../../src/config/settings.ts'
import { createTestTrustDomain, issue, NOW, pemOf } from '../attest/pki.ts'
import { edit, GOOD, load } from '../config/folder.ts'
import { freePort } from '../running.ts'
import { errand, openPlace, type OwnPlace, type World } from './own.ts'

let place: OwnPlace
let url: string
beforeEach(async () => {
  place = await openPlace()
  url = `http://127.0.0.1:${await freePort()}`
})
afterEach(() => place.close())

const init = async (...flags: readonly string[]) => {
  const made = await errand(['init', place.mine, '--yes', '--url', url, ...flags])
  expect(made.exit, made.err).toBe(0)
}

interface Found {
  readonly about: string
  readonly level: string
  readonly code: string
  readonly message: string
  readonly mend?: string
}

/** What is not good, by its code, and the rest. */
async function doctor(argv: readonly string[] = [], world: World = {}) {
  const outcome = await errand(['doctor', '--json', ...argv], { env: place.environment(), ...world })
  const { findings, ...counts } = JSON.parse(outcome.out) as { findings: Found[]; wrong: number; weak: number }
  const of = (level: string) => findings.filter((each) => each.level === level).map(({ code }) => code)
  for (const { level, mend, code } of findings) expect(mend === undefined, code).toBe(level === 'good')
  expect(counts).toEqual({ wrong: of('wrong').length, weak: of('weak').length })
  expect(outcome.exit).toBe(counts.wrong === 0 ? 0 : 1)
  // What a machine of its own has weak in it is not what these tests are about.
  const weak = of('weak').filter((code) => !/^(data_|disk_)/.test(code))
  return { wrong: of('wrong'), weak, good: of('good'), find: (code: string) => findings.find((it) => it.code === code) }
}

const change = async (path: string, from: string | RegExp, to: string) => {
  const file = join(place.mine, path)
  const before = await readFile(file, 'utf8')
  const after = before.replace(from, to)
  expect(after).not.toBe(before)
  await writeFile(file, after)
}

describe('errand doctor', () => {
  it('finds nothing wrong with a fresh installation, before its first start and while it runs, nor from the side of an agent', async () => {
    await init('--agent', 'librarian')
    expect(await doctor()).toMatchObject({ wrong: [], weak: ['development_mode', 'service_unreached'] })
    await place.started()
    const running = await doctor()
    expect(running).toMatchObject({ wrong: [], weak: ['development_mode'] })
    expect(running.good).toEqual(
      expect.arrayContaining(['config_loads', 'key_files', 'clock', 'statement', 'ready', 'config_in_force']),
    )
    const agent = await doctor(['--agent', 'librarian'])
    expect(agent).toMatchObject({ wrong: [], weak: [] })
    expect(agent.good).toEqual(expect.arrayContaining(['key_file', 'clock', 'attested', 'proof']))
  })

  it('prints a list for people, with a mend under what is not good, and says the count on stderr', async () => {
    await init()
    await chmod(join(place.mine, 'keys/agents/assistant.jwk'), 0o644)
    const { exit, out, err } = await errand(['doctor'], { env: place.environment(), nodeVersion: '18.20.0' })
    expect(exit).toBe(1)
    expect(out).toContain('configuration\n  ✓ it loads: 1 agent, 1 tool, 1 issuer of users, 2 policies\n')
    expect(out).toContain(
      `  ✗ ${join(place.mine, 'keys/agents/assistant.jwk')} has mode 0644\n      mend: run \`chmod 600 `,
    )
    expect(err).toMatch(/^1 wrong, \d+ weak\n$/)
    const { d } = JSON.parse(await readFile(join(place.mine, 'keys/tools/notes.jwk'), 'utf8')) as { d: string }
    expect(out).not.toContain(d)
  })

  it.each([
    [['--tool-url', 'http://127.0.0.1:1'], '--tool-url says where --tool is reached'],
    [['--tool', 'notes', '--tool-url', 'file:///etc/passwd'], '--tool-url is an http or https URL'],
    [['--key-file', 'x'], '--key-file is of an agent or a tool'],
    [['--aagent', 'x'], 'did you mean --agent?'],
  ])('refuses %j', async (argv, message) => {
    expect(await errand(['doctor', ...argv])).toMatchObject({ exit: 2, out: '', err: expect.stringContaining(message) })
  })

  it('names each problem of a configuration that does not load', async () => {
    await init()
    await change('config/agents/assistant.yaml', 'notes:read_note', 'notes:reed_note')
    const found = await doctor()
    expect(found.wrong).toEqual(['unknown_reference'])
    expect(found.find('unknown_reference')).toMatchObject({
      message: expect.stringContaining('config/agents/assistant.yaml:'),
      mend: 'did you mean "read_note"?',
    })
  })

  it('judges clocks by what they do to tokens', async () => {
    await init()
    await place.started()
    const at = (ahead: number) => doctor([], { now: () => Date.now() / 1000 + ahead })
    // Its own clock is what is off: the admin's assertions then fail as well.
    expect((await at(10)).weak).toEqual(expect.arrayContaining(['clock_skew']))
    expect((await at(120)).wrong).toEqual(expect.arrayContaining(['clock_skew']))
    expect((await at(120)).find('clock_skew')?.message).toMatch(/^the clock of the service is 1[12]\d s behind ours/)
  })

  it('tells a service that is away, is another, or is not ready', async () => {
    await init()
    const answering = (answers: { readonly [path: string]: [number, object] }) =>
      doctor([], {
        fetch: async (asked) => {
          const [status, body] = answers[new URL(asked).pathname] ?? [404, {}]
          return Response.json(body, { status })
        },
      })
    const metadata = '/.well-known/oauth-authorization-server'
    // Files are looked at without it, so it being away is no fault of theirs.
    expect((await answering({})).weak).toContain('service_is_another')
    expect((await answering({ [metadata]: [200, { issuer: 'http://127.0.0.1:1' }] })).weak).toContain(
      'service_is_another',
    )
    const ill = await answering({
      [metadata]: [200, { issuer: url }],
      '/ready': [503, { status: 'unavailable', checks: { store: 'unavailable', audit: 'ok' } }],
    })
    expect(ill.wrong).toEqual(['statement_refused', 'not_ready'])
    expect(ill.find('not_ready')?.message).toBe('it is unavailable: store unavailable')
    expect((await doctor(['--agent', 'assistant'])).wrong).toEqual(['service_unreached'])
  })

  it('notices that the service runs another configuration than the one in the files, or refuses it', async () => {
    await init()
    const service = await place.started()
    await change('config/agents/assistant.yaml', 'client_id: assistant', 'client_id: assistant\nowner: somebody')
    const found = await doctor()
    // The service looks each second: whichever was first.
    expect([[], ['config_differs']]).toContainEqual(found.weak.filter((code) => code === 'config_differs'))
    await change('config/agents/assistant.yaml', 'stage: read', 'stage: reed')
    await service.reload()
    expect((await doctor()).wrong).toEqual(['bad_value', 'config_refused'])
  })

  describe('keys and data', () => {
    it('wants keys for their owner alone, the root key with its data, and nobody else’s keys in production', async () => {
      await init()
      const service = await place.started()
      await service.close()
      await chmod(join(place.mine, 'keys'), 0o755)
      expect((await doctor()).weak).toContain('keys_folder_open')
      await chmod(join(place.mine, 'data'), 0o755)
      expect(await doctor().then(({ find }) => find('data_folder_open'))).toBeDefined()
      await rm(join(place.mine, 'keys/root.key'))
      expect((await doctor()).wrong).toContain('root_key_missing')
      await rm(join(place.mine, 'keys'), { recursive: true })
      expect((await doctor()).wrong).toContain('keys_missing')
    })

    it('U5 tells development keys, and private keys of agents and tools, in a production installation', async () => {
      const idp = await place.identityProvider()
      await writeFile(join(place.folder, 'idp.json'), idp.jwks)
      url = 'https://errand.example.com'
      await init(
        ...['--idp', 'https://login.example.com', '--idp-jwks-file', join(place.folder, 'idp.json')],
        ...['--audience', 'https://notes.example.com/', '--stage', 'irreversible_write'],
      )
      const found = await doctor([], {
        fetch: async () => {
          throw new TypeError('fetch failed')
        },
      })
      expect(found.wrong.filter((code) => !code.startsWith('d'))).toEqual([])
      expect(found.weak).toEqual(['harm_by_key', 'keys_of_others', 'service_unreached'])
      const kid = /"kid": "[^"]*"/
      await change('keys/agents/assistant.jwk', kid, '"kid": "dev-1"')
      expect((await doctor([], { fetch: async () => Promise.reject(new TypeError('no')) })).wrong).toContain(
        'dev_material',
      )
    })

    it('reads from the mount table where the data lie', async () => {
      const table = async () =>
        [
          '22 1 0:21 / / rw,relatime - overlay overlay rw',
          '23 22 0:22 / /data rw - ext4 /dev/sda1 rw,nobarrier',
          '24 23 0:23 / /data/in\\040memory rw - tmpfs tmpfs rw',
          '25 23 0:24 / /data rw - xfs /dev/sdb1 rw',
        ].join('\n')
      expect((await mountOf('/home', table))?.type).toBe('overlay')
      expect((await mountOf('/data', table))?.type).toBe('xfs')
      expect((await mountOf('/database', table))?.type).toBe('overlay')
      expect(await mountOf('/data/in memory/here', table)).toMatchObject({ type: 'tmpfs' })
      expect(await mountOf('/data', async () => Promise.reject(new Error('no such file')))).toBeUndefined()
    })

    it('holds the certificate of the listener against dates, name and key', async () => {
      const folder = place.folder
      const dns = (value: string) => [{ type: 'dns' as const, value }]
      const pkcs8 = async (keys: webcrypto.CryptoKeyPair) =>
        `-----BEGIN PRIVATE KEY-----\n${Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')}\n-----END PRIVATE KEY-----\n`
      const right = await issue({ name: 'CN=errand', names: dns('errand.example.com'), notAfter: NOW + 90 * 86_400 })
      const other = await issue({ name: 'CN=other', names: dns('other.example.com'), notAfter: NOW + 3600 })
      for (const [name, issued] of [
        ['right', right],
        ['other', other],
      ] as const) {
        await writeFile(join(folder, `${name}.pem`), pemOf(issued))
        await writeFile(join(folder, `${name}.key`), await pkcs8(issued.keys))
      }
      const codes = async (cert: string, key: string, now = NOW) => {
        const tls = { certFile: join(folder, cert), keyFile: join(folder, key) }
        const settings = { issuer: 'https://errand.example.com', listen: { tls } } as unknown as ServiceSettings
        return (await certificateFiles(settings, now)).map(({ code }) => code)
      }
      expect(await codes('right.pem', 'right.key')).toEqual(['certificate'])
      expect(await codes('right.pem', 'other.key')).toEqual(['certificate', 'certificate_key'])
      expect(await codes('other.pem', 'other.key')).toEqual(['certificate_expires', 'certificate_name'])
      expect(await codes('right.pem', 'right.key', NOW + 91 * 86_400)).toEqual(['certificate_expired'])
      expect(await codes('right.pem', 'right.key', NOW - 3600)).toEqual(['certificate_not_yet_valid'])
      expect(await codes('none.pem', 'right.key')).toEqual(['certificate_unreadable'])
      expect(await codes('right.key', 'right.key')).toEqual(['certificate_unreadable'])
    })
  })

  describe('weak settings', () => {
    const codes = async (changed: Readonly<Record<string, string | undefined>>) => {
      const loaded = await load(changed)
      if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
      const found = weakSettings(loaded.snapshot, { policyCount: loaded.policyCount, now: 1_800_000_000 })
      return found.filter(({ level }) => level !== 'good').map(({ code }) => code)
    }
    const errandYaml = (text: string) => ({ 'config/errand.yaml': `issuer: https://errand.example.com\n${text}` })
    const tool = (text: string) => edit('config/tools/tickets.yaml', 'operations:', `${text}\noperations:`)
    const issuer = (from: string, to: string) => edit('config/issuers/company.yaml', from, to)
    const agent = (from: string, to: string) => edit('config/agents/research.yaml', from, to)
    // The good folder has neither an administrator nor a key of its tool.
    const USUAL = ['no_administrator', 'follows_without_key']

    it.each([
      ['bearer tokens', tool('accepts_bearer: true'), ['accepts_bearer']],
      ['a slow verifier', tool('staleness_seconds: { reversible_write: 120 }'), ['stale_writes']],
      ['proofs without nonces', errandYaml('dpop: { require_nonce: false }'), ['dpop_nonce_off']],
      ['a policy change that changes nothing', errandYaml('policy: { on_change: keep }'), ['policy_change_keeps']],
      ['keys that live long', errandYaml('keys: { lifetime_seconds: 31536000 }'), ['long_key_life']],
      [
        'everybody’s forwarded headers',
        errandYaml('listen: { trusted_proxies: [0.0.0.0/0] }'),
        ['proxies_trusted_widely'],
      ],
      [
        'a store in the clear',
        errandYaml('store: { kind: redis, url: "redis://redis.example.com" }'),
        ['redis_in_the_clear'],
      ],
      ['a talkative log', errandYaml('log: { level: debug }'), ['debug_log']],
      [
        'users’ tokens that live long',
        issuer('rights:', 'max_token_lifetime_seconds: 604800\nrights:'),
        ['long_user_tokens'],
      ],
      [
        'tokens meant for a tool',
        issuer('audiences: [errand]', 'audiences: ["https://tickets.example.com/"]'),
        ['audience_of_a_tool'],
      ],
      ['rights of everybody', issuer('  readers: [tickets:read]', '  "*": [tickets:*]'), ['everybody_may_change']],
      ['an empty ceiling', agent('  - tickets:*\n', '  []\n'), ['empty_ceiling']],
      ['no policies', { 'config/policies/base.cedar': '' }, ['no_policies']],
    ])('%s', async (_, changed, expected) => {
      expect((await codes(changed)).filter((code) => !USUAL.includes(code))).toEqual(expected)
    })

    it('agents that may do everything, or harm without anybody who asked or with a key alone', async () => {
      const second = {
        'config/tools/desk.yaml': `name: desk
audience: https://desk.example.com/
operations:
  read: { effect: read }
  write: { effect: reversible_write }
  mail: { effect: external_communication }
  purge: { effect: irreversible_write }
`,
      }
      const ceiling = '  - tickets:*\n  - desk:*\n'
      const changed = (stage: string, more = '') => ({
        ...second,
        'config/agents/research.yaml': GOOD['config/agents/research.yaml']!.replace('  - tickets:*\n', ceiling).replace(
          'stage: reversible_write',
          `stage: ${stage}${more}`,
        ),
      })
      const own = async (files: Readonly<Record<string, string>>) =>
        (await codes(files)).filter((code) => !USUAL.includes(code))
      expect(await own(changed('reversible_write'))).toEqual(['wide_ceiling'])
      expect(await own(changed('external'))).toEqual(['wide_ceiling', 'harm_by_key'])
      expect(await own(changed('external', '\nautonomous: true'))).toEqual([
        'wide_ceiling',
        'harm_by_key',
        'harm_without_user',
      ])
    })

    it('trust domains whose bundle lacks what their agents need, or whose anchors end', async () => {
      const domain = await createTestTrustDomain('company.example')
      const bundle = await domain.bundle()
      const workloads = 'kind: workload\ntrust_domain: company.example\nbundle_file: workloads/bundle.json\n'
      const withBundle = (keys: readonly object[], evidence: string) => ({
        'config/issuers/workloads.yaml': workloads,
        'keys/workloads/bundle.json': JSON.stringify({ ...bundle, keys }),
        ...agent('evidence: [private_key_jwt]', `evidence: [${evidence}]`),
      })
      const own = async (keys: readonly object[], evidence: string, now: number) => {
        const loaded = await load(withBundle(keys, evidence))
        if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
        const found = weakSettings(loaded.snapshot, { policyCount: loaded.policyCount, now })
        return found.map(({ code }) => code).filter((code) => !USUAL.includes(code))
      }
      const of = (use: string) => bundle.keys.filter((key) => key.use === use)
      expect(await own(bundle.keys, 'jwt_svid', NOW)).toEqual([])
      expect(await own(of('x509-svid'), 'jwt_svid', NOW)).toEqual(['bundle_without_jwt_keys'])
      expect(await own(of('jwt-svid'), 'x509_svid', NOW)).toEqual(['bundle_without_anchors', 'no_mtls_listener'])
      expect(await own(bundle.keys, 'jwt_svid', NOW + 350 * 86_400)).toEqual(['certificate_expires'])
      expect(await own(bundle.keys, 'jwt_svid', NOW + 400 * 86_400)).toEqual(['certificate_expired'])
    })

    it('finds none in the good folder but what it lacks', async () => {
      expect(await codes({})).toEqual(USUAL)
    })
  })

  describe('identity providers', () => {
    const withIdp = async (...flags: readonly string[]) => {
      const state = { change: (metadata: object) => metadata }
      const idp = await place.identityProvider((metadata) => state.change(metadata))
      await init('--idp', idp.issuer, '--idp-audience', 'errand', '--group', 'support', ...flags)
      return { ...idp, state }
    }

    it('are fetched from, and told when they are away, are another, or have moved their keys', async () => {
      const idp = await withIdp()
      const codes = async () => {
        const { wrong, weak } = await doctor()
        return [...wrong, ...weak].filter((code) => code.startsWith('issuer'))
      }
      expect(await codes()).toEqual([])
      expect((await doctor()).good).toContain('issuer_keys')
      idp.state.change = (metadata) => ({ ...metadata, issuer: `${idp.issuer}/` })
      expect(await codes()).toEqual(['issuer_is_another'])
      expect((await doctor()).find('issuer_is_another')?.mend).toBe(`issuer: ${idp.issuer}/ in its file`)
      idp.state.change = (metadata) => ({ ...metadata, jwks_uri: `${idp.issuer}/old-keys` })
      expect(await codes()).toEqual(['issuer_keys_moved'])
      await change('config/issuers/company.yaml', `${idp.issuer}/keys`, `${idp.issuer}/nothing`)
      expect(await codes()).toEqual(['issuer_unreachable'])
    })

    it('say of a user’s token what keeps it from being taken, member by member', async () => {
      const idp = await withIdp()
      const other = await place.identityProvider()
      const token = async (claims: object, header: object = {}, by = idp) => {
        const given = { stdin: by.token({ aud: 'errand', groups: ['support'], ...claims }, header) }
        const { wrong, weak } = await doctor(['--subject-token-file', '-'], given)
        return [...wrong, ...weak].filter((code) => code.startsWith('token'))
      }
      const now = Math.floor(Date.now() / 1000)
      expect(await token({})).toEqual([])
      expect(await token({ aud: 'somebody' })).toEqual(['token_audience'])
      expect(await token({ iss: `${idp.issuer}/` })).toEqual(['token_issuer'])
      expect(await token({ iat: now - 600, exp: now - 300 })).toEqual(['token_expired'])
      expect(await token({ exp: now + 999_999 })).toEqual(['token_long'])
      expect(await token({ groups: 'support' })).toEqual(['token_groups'])
      expect(await token({ groups: ['sales'] })).toEqual(['token_rights'])
      expect(await token({}, { kid: 'k2' })).toEqual(['token_key'])
      expect(await token({ iss: idp.issuer }, {}, { ...other, state: idp.state })).toEqual(['token_signature'])
      expect((await doctor(['--subject-token-file', '-'], { stdin: 'no token' })).wrong).toContain('token_unreadable')
    })

    it('tell with the agent what it would be given', async () => {
      const idp = await withIdp()
      await place.started()
      const asked = await doctor(['--agent', 'assistant', '--tool', 'notes', '--subject-token-file', '-'], {
        stdin: idp.token({ aud: 'errand', groups: ['support'] }),
      })
      expect(asked.find('would_be_given')?.message).toBe('it would be given notes:read_note')
      const refused = await doctor(['--agent', 'assistant', '--tool', 'notes'])
      expect(refused.weak).toEqual(['would_be_refused'])
    })
  })

  describe('from the agent’s and the tool’s side', () => {
    it('tells a key that is not the registered one', async () => {
      await init()
      await place.started()
      const strange = join(place.mine, 'keys/tools/notes.jwk')
      expect((await doctor(['--agent', 'assistant', '--key-file', strange])).wrong).toEqual(['not_attested'])
      expect((await doctor(['--agent', 'nobody', '--key-file', strange])).wrong).toEqual(['not_attested'])
      const agents = join(place.mine, 'keys/agents/assistant.jwk')
      const tool = await doctor(['--tool', 'notes', '--key-file', agents])
      expect(tool.wrong).toEqual(['not_authenticated'])
      expect(tool.find('not_authenticated')?.mend).toContain('keys_file of tools/notes.yaml')
      expect((await doctor(['--agent', 'assistant', '--key-file', '/nonexistent'])).wrong).toEqual(['key_file'])
      await mkdir(join(place.mine, 'keys/agents/folder.jwk'))
      expect((await doctor(['--agent', 'folder'])).wrong).toEqual(['key_file'])
    })

    it('tells a tool that calls itself something else, trusts another service, or is kept from the feed', async () => {
      await init()
      await place.started()
      const tool = await doctor(['--tool', 'notes'])
      expect(tool).toMatchObject({ wrong: [], weak: ['tool_unreached'] })
      expect(tool.good).toEqual(
        expect.arrayContaining(['authenticated', 'feed_followed', 'feed_fresh', 'acknowledged']),
      )
      const cut = await doctor(['--tool', 'notes'], {
        fetch: (asked, options) =>
          /\/revocations(\?|$)/.test(asked)
            ? Promise.resolve(new Response('', { status: 502 }))
            : fetch(asked, options),
      })
      expect(cut.wrong).toEqual(['feed_not_followed'])

      let metadata: object = {}
      const server = createServer((_, response) => void response.end(JSON.stringify(metadata)))
      const port = await freePort()
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
      try {
        const about = async (resource: string, issuer: string) => {
          metadata = { resource, authorization_servers: [issuer] }
          const found = await doctor(['--tool', 'notes', '--tool-url', `http://127.0.0.1:${port}`])
          return [...found.wrong, ...found.weak, ...found.good.filter((code) => code === 'audience')]
        }
        const audience = 'http://127.0.0.1:4470/'
        expect(await about(audience, url)).toEqual(['audience'])
        expect(await about('http://127.0.0.1:4470', url)).toEqual(['audience_differs'])
        expect(await about(audience, 'https://errand.example.com')).toEqual(['issuer_differs'])
        metadata = {}
        expect((await doctor(['--tool', 'notes', '--tool-url', `http://127.0.0.1:${port}`])).weak).toEqual([
          'tool_without_metadata',
        ])
      } finally {
        server.close()
      }
    })
  })
})
