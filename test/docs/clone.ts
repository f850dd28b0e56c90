/** A clone to try a page in: the real sources, its own config/, keys/ and data/, a port of its own, and a shell. */
import { type ChildProcess, spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ROOT } from '../../tools/files.ts'
import { freePort } from '../running.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const LENT = ['bin', 'node_modules', 'package.json', 'sdk', 'src', 'tsconfig.json']
/** What the pages say, and what it is here: each page has ports of its own, so that pages can be tried at once. */
const PORTS = ['4460', '4470']
/** Your identity provider, as the pages call it: here one that has metadata and a key, and nothing else. */
const IDP = 'https://login.example.com'

/** The commands of the pages, without what npm adds to them in time and words. */
const SHELL = `
npx() { case $1 in
  errand) shift; "$NODE" "$CLONE/bin/errand.js" "$@" ;;
  tsx) shift; "$NODE" --import tsx "$@" ;;
  *) echo "no such command here: npx $1" >&2; return 127 ;;
esac; }
npm() { case $1 in
  start) exec "$NODE" "$CLONE/bin/errand.js" serve ;;
  *) echo "no such command here: npm $1" >&2; return 127 ;;
esac; }
command -v curl >/dev/null || curl() { "$NODE" -e 'fetch(process.argv.at(-1)).then(async (answer) => {
  console.log("HTTP/1.1", answer.status, answer.statusText)
  for (const [name, value] of answer.headers) console.log(name + ": " + value)
  console.log("\\n" + await answer.text())
})' -- "$@"; }
set -e -o pipefail
`

export interface Outcome {
  readonly code: number | null
  /** Both streams, as a person sees them. */
  readonly output: string
}

export interface Clone {
  write(path: string, text: string): Promise<void>
  /** Runs a block to its end. `dec_…`, `task_…` and `rev_…` in it are the last of their kind that was shown. */
  run(script: string): Promise<Outcome>
  /** Starts a block that goes on, and waits until it says that it listens. */
  start(script: string): Promise<void>
  close(): Promise<void>
}

export async function openClone(): Promise<Clone> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-docs-'))
  for (const name of LENT) await symlink(join(ROOT, name), join(folder, name))
  await cp(join(ROOT, 'config'), join(folder, 'config'), { recursive: true })
  const ports = await Promise.all(PORTS.map(async (said) => [said, String(await freePort())] as const))
  const idp = await openIdp()
  const names = [...ports, [IDP, idp.issuer] as const]
  const here = (text: string): string => names.reduce((all, [said, own]) => all.replaceAll(said, own), text)
  const asSaid = (text: string): string => names.reduce((all, [said, own]) => all.replaceAll(own, said), text)
  for (const file of ['config/errand.yaml', 'config/issuers/dev.yaml'])
    await writeFile(join(folder, file), here(await readFile(join(folder, file), 'utf8')))

  const running: ChildProcess[] = []
  let shown = ''
  const shell = (script: string): ChildProcess =>
    spawn('bash', ['-c', `${SHELL}${here(script)}`], {
      cwd: folder,
      // Nobody's settings but the page's.
      env: { PATH: process.env['PATH'] ?? '', HOME: folder, NODE: process.execPath, CLONE: folder, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
  const ended = (child: ChildProcess): Promise<number | null> =>
    new Promise((resolve) => child.once('close', (code) => resolve(code)))

  return {
    async write(path, text) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await writeFile(join(folder, path), here(text))
    },
    async run(script) {
      const known = script.replace(/\b(dec|task|rev)_…/g, (ellipsis, kind: string) => {
        const ids = shown.match(new RegExp(`\\b${kind}_[A-Za-z0-9_-]{22,27}`, 'g'))
        return ids?.at(-1) ?? ellipsis
      })
      // One pipe for both, as on a terminal: of two nobody knows what was written first.
      const child = shell(`exec 2>&1\n${known}`)
      let output = ''
      child.stdout!.on('data', (chunk) => (output += String(chunk)))
      const code = await ended(child)
      shown += output
      return { code, output: asSaid(output) }
    },
    async start(script) {
      const child = shell(script)
      running.push(child)
      let output = ''
      await new Promise<void>((resolve, reject) => {
        for (const stream of [child.stdout!, child.stderr!])
          stream.on('data', (chunk) => {
            output += String(chunk)
            if (/listening/i.test(output)) resolve()
          })
        child.once('close', () => reject(new Error(`it ended before it listened:\n${output}`)))
      })
    },
    async close() {
      for (const child of running.reverse()) {
        if (child.exitCode !== null || child.signalCode !== null) continue
        const end = ended(child)
        // Its whole group: what a shell of ours started, and nobody else.
        process.kill(-child.pid!, 'SIGTERM')
        await end
      }
      idp.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function openIdp() {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const keys = [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256', use: 'sig' }]
  const issuer = `http://127.0.0.1:${await freePort()}`
  const server = createServer((request, response) => {
    if (request.url === '/keys') response.end(JSON.stringify({ keys }))
    else if (request.url !== '/.well-known/openid-configuration') response.writeHead(404).end()
    else response.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/keys` }))
  })
  await new Promise<void>((resolve) => server.listen(Number(new URL(issuer).port), '127.0.0.1', resolve))
  return { issuer, close: () => server.close() }
}

/** Lines of `said` that no line of `output` answers, in order; `…` stands for anything, and for lines left out. */
export function unseen(said: string, output: string): readonly string[] {
  const tidy = (line: string): string => line.replace(/\s+/g, ' ').trim()
  const lines = output.split('\n').map(tidy)
  let at = 0
  return said
    .split('\n')
    .map(tidy)
    .filter((line) => line !== '' && line !== '…')
    .filter((line) => {
      const pattern = new RegExp(
        `^${line
          .split('…')
          .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('.*')}$`,
      )
      const found = lines.findIndex((each, index) => index >= at && pattern.test(each))
      if (found < 0) return true
      at = found + 1
      return false
    })
}
