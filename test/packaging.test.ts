/** What tool owners and agent developers install: packed as published, put into an empty folder, used as plain JavaScript and typed. */
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { filesUnder, ROOT } from '../tools/files.ts'
import { openRunning, type Running } from './running.ts'

interface Packed {
  readonly filename: string
  readonly files: readonly { readonly path: string }[]
}

const SDKS = ['verifier', 'agent'] as const
let folder: string
const packed = new Map<string, Packed>()

const run = (command: string, args: readonly string[], cwd: string): string =>
  execFileSync(command, args, {
    cwd,
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, npm_config_update_notifier: 'false', npm_config_prefer_offline: 'true', NODE_OPTIONS: '' },
  })
const write = (name: string, text: string) => writeFileSync(join(folder, name), text)
const exactVersion = (name: string): string =>
  (JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'errand-packaging-'))
  run(process.execPath, [join(ROOT, 'node_modules/tsdown/dist/run.mjs')], ROOT)
  for (const name of SDKS) {
    const out = run('npm', ['pack', '--json', '--pack-destination', folder], join(ROOT, 'sdk', name))
    packed.set(name, (JSON.parse(out) as readonly Packed[])[0]!)
  }
  // As a user would: their project, the tarballs, and the types of their own Node.
  write(
    'package.json',
    JSON.stringify({
      private: true,
      type: 'module',
      dependencies: Object.fromEntries(SDKS.map((name) => [`@errand/${name}`, `file:${packed.get(name)!.filename}`])),
      devDependencies: Object.fromEntries(['typescript', '@types/node'].map((name) => [name, exactVersion(name)])),
    }),
  )
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund'], folder)
}, 240_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('the tarballs', () => {
  it.each(SDKS)('U4 %s holds what was built, its README and its licence, and nothing else', (name) => {
    const { files } = packed.get(name)!
    expect(files.map(({ path }) => path).sort()).toEqual([
      'LICENSE',
      'README.md',
      'dist/index.d.ts',
      'dist/index.js',
      'package.json',
    ])
  })

  it.each(SDKS)('U4 what is installed of %s is what was built, byte for byte', (name) => {
    for (const { path } of packed.get(name)!.files) {
      const digest = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')
      expect(digest(join(folder, 'node_modules/@errand', name, path)), path).toBe(digest(join(ROOT, 'sdk', name, path)))
    }
  })

  it.each(SDKS)(
    'U4 %s is packed the same from the same build, and holds no path of the machine that built it',
    (name) => {
      const again = mkdtempSync(join(tmpdir(), 'errand-repack-'))
      try {
        run('npm', ['pack', '--pack-destination', again], join(ROOT, 'sdk', name))
        const { filename } = packed.get(name)!
        const [first, second] = [folder, again].map((where) => gunzipSync(readFileSync(join(where, filename))))
        expect(first!.equals(second!)).toBe(true)
        expect(first!.includes(ROOT)).toBe(false)
      } finally {
        rmSync(again, { recursive: true, force: true })
      }
    },
  )

  it('bring jose along, and nothing else', () => {
    const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
      readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>
    }
    const forUse = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && !dev)
    expect(forUse.map(([path]) => path).sort()).toEqual([
      'node_modules/@errand/agent',
      'node_modules/@errand/verifier',
      'node_modules/jose',
    ])
  })

  it('bundle the sources of the SDK alone', () => {
    for (const name of SDKS) {
      const text = readFileSync(join(ROOT, 'sdk', name, 'dist/index.js'), 'utf8')
      const imported = [...text.matchAll(/(?:from |import\()"([^"]+)"/g)].map(([, specifier]) => specifier!)
      const foreign = imported.filter((each) => !each.startsWith('node:'))
      expect(foreign.filter((each) => !(name === 'verifier' && each === 'jose'))).toEqual([])
      expect(filesUnder(`sdk/${name}/dist`, '').length).toBe(2)
    }
  })
})

describe('the packages in somebody else’s project', () => {
  let running: Running
  beforeAll(async () => {
    running = await openRunning()
  })
  afterAll(() => running.close())

  it('an agent gets a token and calls a tool that verifies it, in plain JavaScript, on this Node', async () => {
    write(
      'use.mjs',
      `
import { readFileSync } from 'node:fs'
import { createAgent, privateKeyJwt } from '@errand/agent'
import { createVerifier, protectFetch } from '@errand/verifier'

const { issuer, keys, subjectToken } = JSON.parse(readFileSync('settings.json', 'utf8'))
const audience = 'https://tickets.example.com/'
const verifier = createVerifier({
  issuer,
  audience,
  tool: 'tickets',
  key: JSON.parse(readFileSync(keys + '/tools/tickets.jwk', 'utf8')),
  acceptDevelopmentTokens: true,
  routes: [{ method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' }],
})
await verifier.ready()
const tool = protectFetch(verifier, (_request, caller) => Response.json({ reads: caller.subject, by: caller.clientId }))

const agent = createAgent({
  issuer,
  evidence: privateKeyJwt({ clientId: 'research', key: readFileSync(keys + '/agents/research.jwk', 'utf8') }),
  // The tool is in this process; everything else is the network.
  fetch: (url, init) => (String(url).startsWith(audience) ? tool(new Request(url, init)) : fetch(url, init)),
})
const task = await agent.task({
  subjectToken,
  purpose: 'Find out why order 4711 was refunded twice',
  environment: 'staging',
  dataClassification: 'internal',
  deadlineSeconds: 60,
})
const granted = await task.fetch('tickets', audience + 'tickets/4711', {}, { scope: 'tickets:read_ticket' })
const refused = await tool(new Request(audience + 'tickets/4711'))
await task.complete()
console.log(JSON.stringify({ granted: granted.status, body: await granted.json(), refused: refused.status }))
agent.close()
verifier.close()
`,
    )
    const subjectToken = await running.userToken('alice', ['support', 'finance'])
    write('settings.json', JSON.stringify({ issuer: running.issuer, keys: join(running.folder, 'keys'), subjectToken }))
    // Not waited for synchronously: the service that it calls lives in this process.
    const { stdout } = await promisify(execFile)(process.execPath, ['use.mjs'], { cwd: folder, timeout: 25_000 })
    expect(JSON.parse(stdout)).toEqual({ granted: 200, body: { reads: 'dev|alice', by: 'research' }, refused: 401 })
  })

  it('are typed for whoever writes TypeScript, strictly and with their libraries checked', () => {
    write(
      'use.ts',
      `
import { createServer } from 'node:http'
import { createAgent, ErrandError, jwtSvid, type Task } from '@errand/agent'
import { createVerifier, nodeMiddleware, VerificationError, type VerifiedCall } from '@errand/verifier'

const verifier = createVerifier({ issuer: 'https://errand.example', audience: 'https://tickets.example.com/' })
export const guard: ReturnType<typeof nodeMiddleware> = nodeMiddleware(verifier)
export const server = createServer()
export async function call(request: Request): Promise<VerifiedCall | string> {
  try {
    return await verifier.verify(request, { operation: 'read_ticket', arguments: { ticket_id: '7' } })
  } catch (error) {
    if (error instanceof VerificationError) return error.code
    throw error
  }
}
const agent = createAgent({ issuer: 'https://errand.example', evidence: jwtSvid({ svid: () => 'svid' }) })
export const open = (subjectToken: string): Promise<Task> =>
  agent.task({ subjectToken, purpose: 'p', environment: 'production', dataClassification: 'internal', deadlineSeconds: 60 })
export const isOurs = (error: unknown): error is ErrandError => error instanceof ErrandError
// @ts-expect-error an environment is one of three
agent.task({ subjectToken: '', purpose: 'p', environment: 'moon', dataClassification: 'internal', deadlineSeconds: 60 })
`,
    )
    const compilerOptions = {
      target: 'es2023',
      module: 'nodenext',
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
      types: ['node'],
    }
    write('tsconfig.json', JSON.stringify({ compilerOptions, files: ['use.ts'] }))
    expect(run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], folder)).toBe('')
  })
})
