import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pc from 'picocolors'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from '../../src/cli/main.ts'
import { openTenancy, type Tenancy } from '../tenancy.ts'

let town: Tenancy
let out: string
beforeAll(async () => {
  town = await openTenancy(['acme'])
  out = await mkdtemp(join(tmpdir(), 'errand-exported-'))
})
afterAll(async () => {
  await town.close()
  await rm(out, { recursive: true, force: true })
})

async function errand(...argv: readonly string[]) {
  const lines: { out: string[]; err: string[] } = { out: [], err: [] }
  const exit = await run(argv, {
    out: (line) => void lines.out.push(line),
    err: (line) => void lines.err.push(line),
    stdin: async () => '',
    env: {
      ERRAND_CONFIG: town.configDir,
      ERRAND_KEYS: join(town.folder, 'keys'),
      ERRAND_DATA: join(town.folder, 'data'),
    },
    fetch: globalThis.fetch,
    now: () => Date.now() / 1000,
    wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    signal: new AbortController().signal,
    colors: pc.createColors(false),
    command: 'errand',
    nodeVersion: '24.11.0',
  })
  return { exit, out: lines.out.join('\n'), err: lines.err.join('\n') }
}

const serving = async (issuer: string) => (await fetch(`${issuer}/.well-known/jwks.json`)).status === 200
async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 15_000
  while (!(await holds())) {
    if (performance.now() > end) throw new Error('it did not come about')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

describe('the life of a tenant', () => {
  it('is made, is served within seconds, is listed, takes its log along and goes for good', async () => {
    const made = await errand('tenant', 'create', 'labs')
    expect([made.exit, made.err]).toEqual([0, ''])
    expect(made.out).toContain(`ERRAND_URL=${town.host}/t/labs`)
    await until(() => serving(town.issuerOf('labs')))

    const listed = await errand('tenant', 'list')
    expect(listed.out).toMatch(/acme +serving +http.*\/t\/acme/)
    expect(listed.out).toMatch(/labs +serving +http.*\/t\/labs/)

    await town.admin('labs', '/revocations', { match: { agent: 'spiffe://labs.example/x' }, reason: 'a test' })
    const exported = await errand('tenant', 'export', 'labs', '--out', join(out, 'labs'))
    expect([exported.exit, exported.err]).toEqual([0, ''])
    expect(await readdir(join(out, 'labs'))).toEqual([
      'audit',
      'config',
      'jwks.json',
      'keys',
      'policies',
      'tenant.json',
    ])
    expect((await errand('audit', 'verify', join(out, 'labs'))).exit).toBe(0)
    const { keys } = JSON.parse(await readFile(join(out, 'labs/jwks.json'), 'utf8')) as { keys: object[] }
    expect(keys[0]).toMatchObject({ errand_state: 'active' })
    const files = (await readdir(join(out, 'labs'), { recursive: true, withFileTypes: true })).filter((each) =>
      each.isFile(),
    )
    for (const file of files) {
      const text = await readFile(join(file.parentPath, file.name), 'latin1')
      const { d } = JSON.parse(await readFile(join(town.keysOf('labs'), 'admin.jwk'), 'utf8')) as { d: string }
      expect([file.name, text.includes(d), file.name === 'root.key']).toEqual([file.name, false, false])
    }

    const removed = await errand('tenant', 'remove', 'labs', '--confirm', 'labs')
    expect([removed.exit, removed.out.split('\n')[0]]).toEqual([0, 'removed labs: configuration, keys, data'])
    expect(await serving(town.issuerOf('labs'))).toBe(false)
    for (const folder of ['config', 'keys', 'data'])
      expect(await readdir(join(town.folder, folder, 'tenants'))).not.toContain('labs')
    // The other one did not notice.
    expect(await serving(town.issuerOf('acme'))).toBe(true)
  })

  it('goes by any URL: its file holds it, and a shell into which the line is pasted sees it as it is', async () => {
    const issuer = "https://labs.example/it's/$(id):"
    const made = await errand('tenant', 'create', 'odd', '--issuer', issuer)
    expect(made.exit).toBe(0)
    const line = made.out.split('\n').find((each) => each.includes('export'))!
    expect(spawnSync('sh', ['-c', `${line}; printf %s "$ERRAND_URL"`]).stdout.toString()).toBe(issuer)
    const text = await readFile(join(town.configDir, 'tenants/odd/errand.yaml'), 'utf8')
    expect((parse(text) as { issuer: string }).issuer).toBe(issuer)
    expect((await errand('tenant', 'remove', 'odd', '--confirm', 'odd')).exit).toBe(0)
  })

  it('kept keys and data bring it back with its configuration', async () => {
    await errand('tenant', 'create', 'shop')
    await until(() => serving(town.issuerOf('shop')))
    const before = await town.admin('shop', '/keys')
    const config = await readFile(join(town.configDir, 'tenants/shop/errand.yaml'), 'utf8')
    expect((await errand('tenant', 'remove', 'shop', '--confirm', 'shop', '--keep')).exit).toBe(0)
    await until(async () => !(await serving(town.issuerOf('shop'))))
    const again = await errand('tenant', 'create', 'shop')
    expect([again.exit, again.err]).toEqual([1, expect.stringContaining('keys or data of an earlier tenant')])
    const { mkdir } = await import('node:fs/promises')
    await mkdir(join(town.configDir, 'tenants/shop'))
    await writeFile(join(town.configDir, 'tenants/shop/errand.yaml'), config)
    await until(() => serving(town.issuerOf('shop')))
    expect((await town.admin('shop', '/keys'))['keys']).toEqual(before['keys'])
  })
})

it('errand config check looks at every tenant, and names its folder', async () => {
  const good = await errand('config', 'check')
  expect([good.exit, good.out]).toEqual([0, expect.stringMatching(/tenants +acme/)])
  const path = join(town.configDir, 'tenants/acme/errand.yaml')
  const text = await readFile(path, 'utf8')
  await writeFile(path, `${text}\nlisten: { port: 4460 }\n`)
  const bad = await errand('config', 'check')
  expect([bad.exit, bad.out]).toEqual([1, expect.stringContaining('tenants/acme/errand.yaml')])
  expect(bad.out).toContain('listen belongs to the whole service')
  await writeFile(path, text)
})

describe('what is refused, and changes nothing', () => {
  it.each([
    [['create', 'Acme'], 2, 'is no name of a tenant'],
    [['create', '../x'], 2, 'is no name of a tenant'],
    [['create', 'acme'], 1, 'already taken by the tenant acme'],
    [['create', 'other', '--issuer', 'ftp://x.example'], 2, 'the issuer ftp://x.example'],
    // What a service would not load is not written.
    [['create', 'other', '--issuer', 'https://x.example/{a}'], 2, 'is not in canonical form'],
    [['create', 'other', '--issuer', 'https://x.example/'], 2, 'is not in canonical form'],
    [['create', 'other', '--issuer', 'https://x.example?a'], 2, 'has a query'],
    [['export', 'acmee', '--out', '/nowhere/x'], 2, 'there is no tenant acmee'],
    [['remove', 'acme', '--confirm', 'acm'], 2, '--confirm names another tenant; nothing was changed'],
    [['remove', 'nobody', '--confirm', 'nobody'], 2, 'there is no tenant nobody'],
  ] as const)('errand tenant %j', async (argv, exit, message) => {
    const before = await readdir(join(town.configDir, 'tenants'))
    const answer = await errand('tenant', ...argv)
    expect([answer.exit, answer.err]).toEqual([exit, expect.stringContaining(message)])
    expect(await readdir(join(town.configDir, 'tenants'))).toEqual(before)
    expect(await serving(town.issuerOf('acme'))).toBe(true)
  })

  it('an export goes nowhere where something is already, and needs the service for its published keys', async () => {
    const there = await errand('tenant', 'export', 'acme', '--out', out)
    expect([there.exit, there.err]).toEqual([1, expect.stringContaining('is there already')])
  })
})
