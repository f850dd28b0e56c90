/** The image, without a container engine: its Dockerfile read by a parser and followed step by step, the result run as nobody. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Copy, DockerfileParser, type From, type Instruction, type JSONInstruction } from 'dockerfile-ast'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { shape } from '../src/config/shape.ts'
import { readYaml } from '../src/config/yaml.ts'
import { ROOT } from '../tools/files.ts'
import { freePort } from './running.ts'

const NOBODY = 65_534
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const lines = (text: string) => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))

const instructions = DockerfileParser.parse(read('Dockerfile')).getInstructions()

interface Stage {
  readonly name: string
  readonly base: string
  readonly steps: readonly Instruction[]
}
const stages: readonly Stage[] = instructions
  .flatMap((each, index) => (each.getKeyword() === 'FROM' ? [index] : []))
  .map((start, nth, starts) => {
    const from = instructions[start] as From
    return {
      name: from.getBuildStage() ?? 'last',
      base: from.getImage() ?? '',
      steps: instructions.slice(start + 1, starts[nth + 1]),
    }
  })
const last = stages.at(-1)!
const of = (stage: Stage, keyword: string) => stage.steps.filter((each) => each.getKeyword() === keyword)
const argsOf = (step: Instruction) => step.getArguments().map((each) => each.getValue())
const jsonOf = (step: Instruction | undefined) =>
  (step as JSONInstruction).getJSONStrings().map((each) => each.getJSONValue())
const flagOf = (step: Instruction, name: string) =>
  (step as Copy)
    .getFlags()
    .find((flag) => flag.getName() === name)
    ?.getValue() ?? undefined

describe('the Dockerfile', () => {
  it('pins each base image to a tag, and ends in one without shell or package manager', () => {
    for (const { base } of stages) expect(base).toMatch(/:[\w.-]+$/)
    expect(stages.map(({ base }) => base).filter((base) => /:latest$/.test(base))).toEqual([])
    expect(last.base).toMatch(/^gcr\.io\/distroless\/nodejs\d+-debian\d+:nonroot$/)
    expect(last.steps.filter((each) => ['RUN', 'SHELL', 'ADD'].includes(each.getKeyword()))).toEqual([])
  })

  it('runs as a numeric user that is not root, and starts without a shell', () => {
    const users = of(last, 'USER').map((each) => each.getArgumentsContent() ?? '')
    expect(users).toHaveLength(1)
    const [uid, gid] = users[0]!.split(':').map(Number)
    expect([uid, gid].every((id) => Number.isInteger(id) && id! > 0)).toBe(true)
    expect(jsonOf(of(last, 'ENTRYPOINT')[0])).toEqual(['/nodejs/bin/node', 'bin/errand.js'])
    expect(jsonOf(of(last, 'CMD')[0])).toEqual(['serve'])
    expect(of(last, 'HEALTHCHECK')[0]!.getArgumentsContent()).toMatch(/^(?:--\S+ +)*CMD +\["\/nodejs\/bin\/node"/)
  })

  it('takes what is built and what it runs on, never a source, a key or a configuration', () => {
    const copied = of(last, 'COPY').map((each) => argsOf(each).slice(0, -1).join(' '))
    expect(copied).toEqual(['/app/node_modules', '/app/dist', 'package.json LICENSE', 'bin', '/app/state'])
    expect(jsonOf(of(last, 'VOLUME')[0])).toEqual(['/etc/errand', '/var/lib/errand/keys', '/var/lib/errand/data'])
  })

  it('installs what the lock file says, and no step fetches anything else', () => {
    const runs = stages.flatMap((stage) => of(stage, 'RUN').map((each) => each.getArgumentsContent() ?? ''))
    expect(runs.filter((run) => /\b(?:curl|wget|apt-get|npx|npm (?:i|install|exec))\b/.test(run))).toEqual([])
    expect(runs.filter((run) => /\bnpm ci\b/.test(run))).toHaveLength(2)
  })

  it('gets nothing from outside that .dockerignore does not let in, and that lets in no key and no data', () => {
    const [first, ...rules] = lines(read('.dockerignore'))
    expect(first).toBe('*')
    const letIn = rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1))
    expect(letIn.filter((name) => !existsSync(join(ROOT, name)))).toEqual([])
    expect(letIn.filter((name) => /^(?:keys|data|config|test|\.git)\b/.test(name))).toEqual([])
    for (const stage of stages)
      for (const step of of(stage, 'COPY').filter((each) => flagOf(each, 'from') === undefined))
        for (const source of argsOf(step).slice(0, -1))
          expect(
            letIn.some((name) => source === name || source.startsWith(`${name}/`)),
            source,
          ).toBe(true)
  })
})

describe('docker-compose.yml', () => {
  interface Service {
    readonly build?: string
    readonly image?: string
    readonly command?: readonly string[]
    readonly ports?: readonly string[]
    readonly volumes?: readonly string[]
    readonly read_only?: boolean
    readonly cap_drop?: readonly string[]
    readonly security_opt?: readonly string[]
    readonly configs?: readonly { readonly source: string; readonly target: string }[]
  }
  const compose = parse(read('docker-compose.yml')) as {
    readonly services: { readonly errand: Service; readonly redis: Service }
    readonly configs: Readonly<Record<string, { readonly content: string }>>
    readonly volumes: Readonly<Record<string, unknown>>
  }
  const { errand, redis } = compose.services

  it('gives every service a read-only root, no capability and no way to more', () => {
    for (const service of Object.values(compose.services)) {
      expect(service).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      })
      for (const volume of service.volumes ?? []) {
        const [from = ''] = volume.split(':')
        if (from.startsWith('./')) expect(volume.endsWith(':ro') && existsSync(join(ROOT, from)), volume).toBe(true)
        else expect(Object.keys(compose.volumes)).toContain(from)
      }
    }
    expect(errand.ports).toEqual(['127.0.0.1:4460:4460'])
    expect(redis.ports).toBeUndefined()
  })

  it('runs a Redis that Errand does not refuse: on disk when acknowledged, nothing evicted', () => {
    const options = redis.command!.join(' ')
    expect(options).toContain('--appendonly yes')
    expect(options).toContain('--appendfsync always')
    expect(options).toContain('--maxmemory-policy noeviction')
    expect(redis.image).toMatch(/^redis:\d+\.\d+\.\d+/)
  })

  it('brings a configuration that holds, and listens inside the container for what it publishes', () => {
    const [config] = errand.configs!
    expect(config!.target).toBe('/etc/errand/errand.yaml')
    const yaml = readYaml('errand.yaml', compose.configs[config!.source]!.content)
    if (!yaml.ok) throw new Error('the inline errand.yaml is no YAML')
    const file = shape('errand', yaml.value)
    if (!file.ok) throw new Error(JSON.stringify(file))
    expect(file.value.listen).toMatchObject({ host: '0.0.0.0', port: 4460 })
    expect(file.value.store).toMatchObject({ kind: 'redis', url: 'redis://redis:6379' })
  })
})

const asRoot = process.getuid?.() === 0
if (!asRoot) console.log('not root: running the image’s tree as nobody is skipped')

describe.skipIf(!asRoot)('the tree of the image (built and started as root for nobody)', () => {
  let work: string
  let app: string
  let child: ChildProcess | undefined
  let output = ''

  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), 'errand-image-'))
    chmodSync(work, 0o755)
    const roots = new Map<string, string>()
    for (const stage of stages) roots.set(stage.name, follow(stage, roots))
    app = join(roots.get(last.name)!, 'app')
  }, 240_000)

  afterAll(async () => {
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    rmSync(work, { recursive: true, force: true })
  })

  /** Does what one stage says, in a folder instead of a container. */
  function follow(stage: Stage, roots: ReadonlyMap<string, string>): string {
    const root = join(work, stage.name)
    let cwd = root
    mkdirSync(root)
    for (const step of stage.steps) {
      if (step.getKeyword() === 'WORKDIR') {
        cwd = join(root, argsOf(step)[0]!)
        mkdirSync(cwd, { recursive: true })
      }
      if (step.getKeyword() === 'COPY') copy(step, root, cwd, roots)
      if (step.getKeyword() === 'RUN') run(step.getArgumentsContent()!, cwd)
    }
    return root
  }

  function copy(step: Instruction, root: string, cwd: string, roots: ReadonlyMap<string, string>): void {
    const args = argsOf(step)
    const to = args.at(-1)!
    const target = to.startsWith('/') ? join(root, to) : resolve(cwd, to)
    const from = flagOf(step, 'from')
    for (const source of args.slice(0, -1)) {
      const path = join(from === undefined ? ROOT : roots.get(from)!, source)
      const isFolder = statSync(path).isDirectory()
      const filter = (each: string) => from !== undefined || !/^(?:node_modules|dist)$/.test(basename(each))
      cpSync(path, isFolder ? target : to.endsWith('/') ? join(target, basename(source)) : target, {
        recursive: true,
        verbatimSymlinks: true,
        filter,
      })
    }
  }

  function run(command: string, cwd: string): void {
    // All the packages of this checkout are what `npm ci` would fetch once more.
    if (command === 'npm ci') {
      symlinkSync(join(ROOT, 'node_modules'), join(cwd, 'node_modules'))
      return
    }
    const env = { ...process.env, npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false' }
    execFileSync('sh', ['-c', command], { cwd, env, stdio: 'pipe' })
  }

  /** Node where nobody can reach it: as it is, or a copy. */
  function nodeForNobody(): string {
    const node = realpathSync(process.execPath)
    for (let folder = dirname(node); ; folder = dirname(folder)) {
      if ((statSync(folder).mode & 0o001) === 0) break
      if (folder === dirname(folder)) return node
    }
    const own = join(work, 'node')
    copyFileSync(node, own)
    return own
  }

  it('holds what runs and nothing else', () => {
    expect(readdirSync(app).sort()).toEqual(['LICENSE', 'bin', 'dist', 'node_modules', 'package.json'])
    expect(existsSync(join(app, 'dist/main.js')) && existsSync(join(app, 'dist/cli/main.js'))).toBe(true)
    const development = Object.keys((JSON.parse(read('package.json')) as { devDependencies: object }).devDependencies)
    expect(development.filter((name) => existsSync(join(app, 'node_modules', name)))).toEqual([])
    expect(existsSync(join(app, 'node_modules/@errand'))).toBe(false)
  })

  it('starts as nobody on a tree it cannot write, answers /health, and stops when told', async () => {
    const state = join(work, 'state')
    const folders = { config: join(state, 'config'), keys: join(state, 'keys'), data: join(state, 'data') }
    mkdirSync(state)
    cpSync(join(ROOT, 'config'), folders.config, { recursive: true })
    const port = await freePort()
    const settings = join(folders.config, 'errand.yaml')
    writeFileSync(settings, readFileSync(settings, 'utf8').replaceAll('4460', String(port)))
    for (const folder of [folders.keys, folders.data]) {
      mkdirSync(folder, { mode: 0o700 })
      chownSync(folder, NOBODY, NOBODY)
    }
    execFileSync('chmod', ['-R', 'a-w,a+rX', app, folders.config])

    const [, ...start] = [...jsonOf(of(last, 'ENTRYPOINT')[0]), ...jsonOf(of(last, 'CMD')[0])]
    child = spawn(nodeForNobody(), start, {
      cwd: app,
      uid: NOBODY,
      gid: NOBODY,
      env: {
        NODE_ENV: 'production',
        HOME: '/nonexistent',
        ERRAND_CONFIG: folders.config,
        ERRAND_KEYS: folders.keys,
        ERRAND_DATA: folders.data,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk) => (output += chunk))
    const gone = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>

    await expect(health(port)).resolves.toEqual({ status: 'ok' })
    const made = readdirSync(folders.keys).map((name) => statSync(join(folders.keys, name)).uid)
    expect(new Set(made)).toEqual(new Set([NOBODY]))

    child.kill('SIGTERM')
    expect(await gone, output).toEqual([0, null])
  }, 60_000)

  async function health(port: number): Promise<unknown> {
    while (child!.exitCode === null && child!.signalCode === null) {
      const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined)
      if (answer?.ok) return answer.json()
      await pause(50)
    }
    throw new Error(`it stopped instead of answering:\n${output}`)
  }
})
