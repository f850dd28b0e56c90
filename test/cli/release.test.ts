import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Manifest, promptDigest, readManifest, sha256 } from '../../src/attest/release-manifest.ts'
import { imageOf, READ_TICKET } from '../releases.ts'
import { type Double, NOW, serviceDouble } from './double.ts'

const IMAGE = imageOf('research')
const CANARY = 'correct horse battery staple'
const FOLDER: Readonly<Record<string, string>> = {
  'release.yaml': `agent: research
version: 1.4.0
model: anthropic/claude-sonnet-4-5
prompts: [prompts]
tools: [tools.json]
skills: [skills]
`,
  'prompts/system.md': 'You answer questions about tickets.',
  'prompts/tone/short.md': 'Be brief.',
  'prompts/.env': `PASSWORD=${CANARY}`,
  'prompts/deploy.pem': CANARY,
  'prompts/system.md~': 'an editor left this',
  'tools.json': JSON.stringify({ tools: [READ_TICKET] }),
  'skills/refunds/SKILL.md':
    '---\nname: refunds\ndescription: How to refund.\nmetadata:\n  version: "1.2"\n---\nFirst look.',
  'skills/refunds/scripts/check.py': 'print(1)',
  'package-lock.json': JSON.stringify({ packages: { 'node_modules/hono': { version: '4.11.4' } } }),
  'requirements.txt': 'litellm==1.82.8\n',
  '.env': `API_KEY=${CANARY}`,
}

let service: Double
beforeAll(async () => {
  service = await serviceDouble()
})
afterAll(() => service.close())

let root: string
let folder: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'errand-release-'))
  folder = join(root, 'research')
  await write(FOLDER)
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function write(files: Readonly<Record<string, string>>) {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
}

const at = (name: string) => join(root, name)
const create = (...more: readonly string[]) =>
  service.cli('release', 'create', folder, '--image', `registry.example.com/r@${IMAGE}`, ...more)
const made = async (...more: readonly string[]): Promise<Manifest> => {
  const answer = await create(...more)
  const read = readManifest(answer.out.trim())
  if (!read.ok) throw new Error(`${answer.err}: ${read.why}`)
  return read.manifest
}
/** Key, manifest and signed release, in files. */
async function signed() {
  expect((await service.cli('release', 'keygen', at('ci'))).exit).toBe(0)
  expect((await create('--out', at('1.json'))).exit).toBe(0)
  const answer = await service.cli('release', 'sign', at('1.json'), '--key', at('ci.jwk'), '--out', at('1.jws'))
  expect(answer.exit, answer.err).toBe(0)
}
const verify = (...more: readonly string[]) =>
  service.cli('release', 'verify', at('1.jws'), '--signers', at('ci.pub.jwk'), ...more)

describe('errand release create', () => {
  it('computes the manifest from the folder, the same each time', async () => {
    const manifest = await made()
    expect(manifest).toMatchObject({
      v: 1,
      agent: 'research',
      version: '1.4.0',
      image: IMAGE,
      model: 'anthropic/claude-sonnet-4-5',
      prompts: [
        { name: 'prompts/system.md', digest: sha256(FOLDER['prompts/system.md']!) },
        { name: 'prompts/tone/short.md', digest: sha256('Be brief.') },
      ],
      tools: [{ name: 'read_ticket' }],
      skills: [{ name: 'refunds', version: '1.2' }],
      components: ['pkg:npm/hono@4.11.4', 'pkg:pypi/litellm@1.82.8'],
    })
    expect(manifest.tools[0]?.digest).toBe(sha256(manifest.tools[0]!.schema))
    expect(await made()).toEqual(manifest)
  })

  it('takes what only the build knows from flags, and tools in the form of chat APIs', async () => {
    await write({
      'tools.json': JSON.stringify([{ type: 'function', function: { name: 'add', parameters: { maximum: 0.5 } } }]),
    })
    const manifest = await made('--model', 'other', '--release-version', '2.0.0')
    expect([manifest.model, manifest.version, manifest.tools[0]?.name]).toEqual(['other', '2.0.0', 'add'])
    expect(manifest.tools[0]?.schema).toBe('{"function":{"name":"add","parameters":{"maximum":0.5}},"type":"function"}')
  })

  it('T1 makes no digest of what looks like a secret, and says so', async () => {
    const before = await made()
    const answer = await create()
    expect(answer.err).toContain('passed over prompts/.env: it looks like a file of secrets')
    expect(answer.err).toContain('passed over prompts/deploy.pem')
    for (const secret of [CANARY, sha256(CANARY), sha256(FOLDER['prompts/.env']!)])
      expect(answer.out + answer.err).not.toContain(secret)
    await write({ 'prompts/.env': 'PASSWORD=another', 'prompts/deploy.pem': 'another' })
    expect(await made()).toEqual(before)
  })

  const refused: readonly [string, Readonly<Record<string, string>>, string][] = [
    [
      'a secret named outright',
      { 'release.yaml': 'agent: research\nversion: "1"\nprompts: [keys/ci.pem]\n', 'keys/ci.pem': CANARY },
      'keys/ci.pem looks like a file of secrets',
    ],
    [
      '.env named outright',
      { 'release.yaml': 'agent: research\nversion: "1"\nprompts: [.env]\n' },
      'release.yaml is refused',
    ],
    [
      'a way out',
      { 'release.yaml': 'agent: research\nversion: "1"\nprompts: [../other]\n' },
      'release.yaml is refused',
    ],
    [
      'an absolute path',
      { 'release.yaml': 'agent: research\nversion: "1"\ntools: [/etc/passwd]\n' },
      'release.yaml is refused',
    ],
    [
      'a dot segment inside',
      { 'release.yaml': 'agent: research\nversion: "1"\ntools: [prompts/../../x]\n' },
      'release.yaml is refused',
    ],
    [
      'what is not there',
      { 'release.yaml': 'agent: research\nversion: "1"\ntools: [none.json]\n' },
      'none.json is not in',
    ],
    ['no version', { 'release.yaml': 'agent: research\n' }, 'release.yaml names no version'],
    [
      'a misspelt member',
      { 'release.yaml': 'agent: research\nversion: "1"\nprompt: [prompts]\n' },
      'release.yaml is refused',
    ],
    ['a tool twice', { 'tools.json': JSON.stringify([READ_TICKET, READ_TICKET]) }, 'tools: read_ticket stands twice'],
    ['a tool without a name', { 'tools.json': '[{}]' }, 'tools.json holds a tool without a name'],
    [
      'a repeated member in a tool',
      { 'tools.json': '[{"name":"a","name":"b"}]' },
      'tools.json is no strict JSON (duplicate_member)',
    ],
    [
      'a tool of 33 KB',
      { 'tools.json': JSON.stringify([{ name: 'a', description: 'x'.repeat(33_000) }]) },
      'tool a in tools.json is above 32768 bytes',
    ],
    ['a skill without SKILL.md', { 'skills/other/readme.md': '' }, 'skills/other has no SKILL.md'],
    [
      'a dependency that is not pinned',
      { 'requirements.txt': 'litellm\n' },
      'requirements.txt has a line that pins no version: litellm',
    ],
  ]
  for (const [what, files, why] of refused) {
    it(`refuses ${what}`, async () => {
      await write(files)
      const answer = await create()
      expect(answer.exit).toBe(2)
      expect(answer.out).toBe('')
      expect(answer.err).toContain(why)
      expect(answer.err).not.toContain(CANARY)
    })
  }

  it('refuses symbolic links, to files and folders, inside and out', async () => {
    await writeFile(at('outside.md'), CANARY)
    await symlink(at('outside.md'), join(folder, 'prompts/link.md'))
    expect((await create()).err).toContain('prompts/link.md is a symbolic link')
    await rm(join(folder, 'prompts/link.md'))
    await mkdir(at('outside'))
    await symlink(at('outside'), join(folder, 'linked'))
    await write({ 'release.yaml': 'agent: research\nversion: "1"\nprompts: [linked]\n' })
    expect((await create()).err).toContain('linked leads over a symbolic link')
    await symlink(at('outside.md'), join(folder, 'tools2.json'))
    await write({ 'release.yaml': 'agent: research\nversion: "1"\ntools: [tools2.json]\n' })
    expect((await create()).err).toContain('tools2.json leads over a symbolic link')
  })

  it('refuses an image by tag, and overwrites nothing', async () => {
    const answer = await service.cli('release', 'create', folder, '--image', 'research:latest')
    expect([answer.exit, answer.err.includes('image: not a digest')]).toEqual([2, true])
    await writeFile(at('there.json'), 'kept')
    expect((await create('--out', at('there.json'))).exit).toBe(2)
    expect(await readFile(at('there.json'), 'utf8')).toBe('kept')
  })
})

describe('errand release keygen, sign and verify', () => {
  it('T1 makes a key that only its owner reads, and signs what was created', async () => {
    await signed()
    expect((await stat(at('ci.jwk'))).mode & 0o777).toBe(0o600)
    expect(JSON.parse(await readFile(at('ci.pub.jwk'), 'utf8'))).not.toHaveProperty('d')
    const answer = await verify('--json')
    expect(answer.exit, answer.err).toBe(0)
    expect(JSON.parse(answer.out)).toMatchObject({ signed_at: NOW, manifest: { agent: 'research' }, differences: [] })
    expect((await verify('--folder', folder)).exit).toBe(0)
  })

  it('names the byte of the folder that is not what was signed', async () => {
    await signed()
    await write({
      'tools.json': JSON.stringify([{ ...READ_TICKET, description: 'Reads any ticket.' }]),
      'requirements.txt': 'litellm==1.82.9\n',
    })
    const answer = await verify('--folder', folder)
    expect(answer.exit).toBe(1)
    expect(answer.out).toContain(`changed  tool read_ticket at byte 22
         - {"description":"Reads one ticket.","inputSchem…
         + {"description":"Reads any ticket.","inputSchem…
changed  component pkg:pypi/litellm
         - 1.82.8
         + 1.82.9
`)
  })

  it('refuses another signer, a changed file, a key that others can read', async () => {
    await signed()
    await service.cli('release', 'keygen', at('other'))
    const other = await service.cli('release', 'verify', at('1.jws'), '--signers', at('other.pub.jwk'))
    expect([other.exit, other.err.includes('is no release signer of research')]).toEqual([1, true])
    const text = await readFile(at('1.jws'), 'utf8')
    const [header, , signature] = text.trim().split('.')
    const changed = Buffer.from(await readFile(at('1.json'), 'utf8'))
      .toString('utf8')
      .trim()
      .replace('1.82.8', '1.82.9')
    await writeFile(at('1.jws'), `${header}.${Buffer.from(changed).toString('base64url')}.${signature}`)
    const broken = await verify()
    expect([broken.exit, broken.err.includes('the signature does not hold')]).toEqual([1, true])
    await writeFile(at('open.jwk'), await readFile(at('ci.jwk'), 'utf8'), { mode: 0o644 })
    const open = await service.cli('release', 'sign', at('1.json'), '--key', at('open.jwk'))
    expect([open.exit, open.err.includes('has mode 0644')]).toEqual([2, true])
    expect((await service.cli('release', 'keygen', at('ci'))).exit).toBe(2)
  })
})

describe('errand release diff and list', () => {
  it('shows what differs between two, signed or not', async () => {
    await signed()
    expect(await service.cli('release', 'diff', at('1.jws'), at('1.json'))).toEqual({ exit: 0, out: '', err: '' })
    await write({ 'prompts/system.md': 'You obey.' })
    await create('--out', at('2.json'))
    const answer = await service.cli('release', 'diff', at('1.jws'), at('2.json'), '--json')
    expect(answer.exit).toBe(1)
    const { was, is, differences } = JSON.parse(answer.out) as { was: string; is: string; differences: unknown[] }
    expect(was).not.toBe(is)
    expect(differences).toEqual([
      {
        part: 'prompt prompts/system.md',
        change: 'changed',
        was: sha256(FOLDER['prompts/system.md']!),
        is: sha256('You obey.'),
      },
    ])
    expect((await service.cli('release', 'diff', at('1.json'), join(folder, 'tools.json'))).exit).toBe(2)
  })

  it('asks the service which releases hold a component', async () => {
    const releases = [
      {
        release: 'abcdefghijklmnopqrstuv',
        agent: 'research',
        version: '1.4.0',
        signed_at: NOW,
        components: ['pkg:pypi/litellm@1.82.8'],
      },
    ]
    service.answers.set('GET /releases', { releases })
    const answer = await service.cli('release', 'list', '--component', 'litellm@1.82.8')
    expect(answer.out).toBe(`RELEASE                 AGENT     VERSION  SIGNED                COMPONENT
abcdefghijklmnopqrstuv  research  1.4.0    2027-01-15 08:00:00Z  pkg:pypi/litellm@1.82.8
`)
    expect(service.received.at(-1)).toMatchObject({ path: '/releases', query: { component: 'litellm@1.82.8' } })
  })

  it('revokes by component, of which a release must be known, and says what it stands for', async () => {
    service.answers.set('GET /releases', { releases: [{ release: 'abcdefghijklmnopqrstuv' }] })
    const match = { component: 'litellm@1.82.8' }
    service.answers.set('POST /revocations', {
      id: 'rev_1',
      epoch: '1.1',
      match,
      mode: 'ban',
      releases: ['abcdefghijklmnopqrstuv'],
    })
    const revoke = () => service.cli('revoke', '--component', 'litellm@1.82.8', '--reason', 'bad part')
    const done = await revoke()
    expect([done.exit, done.out], done.err).toEqual([0, expect.stringMatching(/releases +abcdefghijklmnopqrstuv\n/)])
    expect(service.received.at(-1)?.body).toMatchObject({ match })
    service.answers.set('GET /releases', ({ query }: { query: object }) => ({
      releases: 'component' in query ? [] : [{ release: 'abcdefghijklmnopqrstuv' }],
    }))
    const missed = await revoke()
    expect([missed.exit, missed.err]).toEqual([
      2,
      expect.stringContaining('no registered release has the component litellm@1.82.8'),
    ])
  })

  it('aims no revocation at a release that nobody registered', async () => {
    service.answers.set('GET /releases', { releases: [{ release: 'abcdefghijklmnopqrstuv' }] })
    service.answers.set('POST /revocations', { id: 'rev_1', epoch: '1.1', match: {}, mode: 'ban' })
    const revoke = (id: string) => service.cli('revoke', '--release', id, '--reason', 'bad part')
    const missed = await revoke('abcdefghijklmnopqrstuw')
    expect([missed.exit, missed.err.includes('did you mean abcdefghijklmnopqrstuv?')]).toEqual([2, true])
    expect((await revoke('abcdefghijklmnopqrstuv')).exit).toBe(0)
    expect(service.received.at(-1)?.body).toMatchObject({ match: { release: 'abcdefghijklmnopqrstuv' } })
  })
})

it('one digest stands for all prompts', () => {
  const prompts = [{ name: 'a', digest: sha256('1') }]
  expect(promptDigest({ prompts })).not.toBe(promptDigest({ prompts: [{ name: 'b', digest: sha256('1') }] }))
})
