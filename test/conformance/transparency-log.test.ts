import { execFileSync, spawnSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import { originOf, parseCheckpoint } from '../../src/audit/checkpoint.ts'
import type { Json } from '../../src/audit/log.ts'
import { parseNote, verifierKeyLine } from '../../src/audit/note.ts'
import { tileIn, tilePath } from '../../src/audit/tile.ts'
import { type House, ISSUER, openHouse } from '../house.ts'

const MODULE = 'golang.org/x/mod@v0.21.0'
const PROGRAM = fileURLToPath(new URL('./transparency-log.go', import.meta.url))
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/local/go/bin`, GOFLAGS: '-mod=mod' }

let folder: string
/** Why there is no judge, or undefined where it was built. */
async function build(): Promise<string | undefined> {
  if (spawnSync('go', ['version'], { env }).status !== 0) return 'go is not there'
  const go = (...args: string[]) => execFileSync('go', args, { cwd: folder, env, timeout: 120_000, stdio: 'pipe' })
  try {
    await copyFile(PROGRAM, join(folder, 'main.go'))
    go('mod', 'init', 'judge')
    go('get', MODULE)
  } catch (error) {
    return `${MODULE} could not be fetched: ${String((error as { stderr?: Buffer }).stderr)
      .trim()
      .split('\n')
      .at(-1)}`
  }
  // A program that does not compile is our fault, and no reason to skip.
  go('build', '-o', 'judge', '.')
  return undefined
}

describe('golang.org/x/mod/sumdb on the transparency log', () => {
  let house: House
  let unjudged: string | undefined
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'errand-go-'))
    unjudged = await build()
    house = await openHouse()
  }, 180_000)
  afterAll(async () => {
    await house.close()
    await rm(folder, { recursive: true, force: true })
  })

  /** The bytes as they are served. */
  const served = async (path: string): Promise<Buffer> => {
    const research = await house.agent('research')
    const headers = { authorization: `ClientAssertion ${research.assertion()}` }
    const answer = await house.service.app.fetch(new Request(`${ISSUER}${path}`, { headers }), {
      base: ISSUER,
      peer: '127.0.0.1',
    })
    expect([path, answer.status]).toEqual([path, 200])
    return Buffer.from(await answer.arrayBuffer())
  }

  it('tlog, note: opens our checkpoints, reads our tiles, checks our proofs, and makes the same ones from our tiles', async ({
    skip,
  }) => {
    if (unjudged !== undefined) {
      console.warn(`not judged by Go: ${unjudged}`)
      return skip(unjudged)
    }
    const { log } = house.service
    const checkpoints: string[] = []
    const sizes: number[] = []
    for (const count of [3, 250, 400]) {
      await Promise.all(Array.from({ length: count }, () => log.append({ type: 'task.heartbeat', task: 'task_1' })))
      await log.tree.settle()
      const { body } = await house.admin('GET', `/log/proof?index=${log.size - 1}`)
      checkpoints.push(String(body['checkpoint']))
      sizes.push(Number(body['size']))
    }
    const size = sizes.at(-1)!
    for (let level = 0; tileIn(level, 0, size) !== undefined; level += 1) {
      for (let index = 0; ; index += 1) {
        const tile = tileIn(level, index, size)
        if (tile === undefined) break
        const path = join(folder, tilePath(tile))
        await mkdir(dirname(path), { recursive: true })
        await writeFile(path, await served(`/log/${tilePath(tile)}`))
      }
    }
    const records = await log.from(0, size)
    const inclusion = await Promise.all(
      sizes.flatMap((of) =>
        [0, 1, of >> 1, of - 1].map(
          async (index) => (await house.admin('GET', `/log/proof?index=${index}&size=${of}`)).body,
        ),
      ),
    )
    const pairs = [
      [0, 1],
      [1, 2],
      [0, 2],
    ] as const
    const consistency = await Promise.all(
      pairs.map(
        async ([from, to]) => (await house.admin('GET', `/log/consistency?from=${sizes[from]}&to=${sizes[to]}`)).body,
      ),
    )
    const { keys } = JSON.parse((await house.fetch('GET', '/.well-known/jwks.json')).text) as {
      keys: { readonly errand_use: string; readonly x: string }[]
    }
    const { x } = keys.find(({ errand_use }) => errand_use === 'checkpoint')!
    expect(parseCheckpoint(parseNote(checkpoints[0]!)!.text)!.origin).toBe(originOf(ISSUER, log.logId))
    const judged = spawnSync(join(folder, 'judge'), {
      input: JSON.stringify({
        Key: verifierKeyLine(originOf(ISSUER, log.logId), Buffer.from(x, 'base64url')),
        Tiles: folder,
        Checkpoints: checkpoints,
        Records: records.map((record) => Buffer.from(canonicalize(record as Json)).toString('base64')),
        Inclusion: inclusion,
        Consistency: consistency,
      }),
      encoding: 'utf8',
    })
    expect([judged.stderr, judged.status]).toEqual(['', 0])
    expect(judged.stdout).toBe(`${size} records, 3 checkpoints, 12 inclusion and 3 consistency proofs\n`)
  }, 60_000)
})
