import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { checkpointText, originOf } from '../../src/audit/checkpoint.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import { consistencyProof, type ReadHashes, rootAt } from '../../src/audit/merkle.ts'
import { formatNote } from '../../src/audit/note.ts'
import { ISSUER, signerOf } from '../audit/signer.ts'
import { type Double, serviceDouble } from './double.ts'

const ORIGIN = originOf(ISSUER, '0a1b2c3d')
/** A log of small trees; `history` makes another one. */
const tree = (history = ''): ReadHashes => {
  const hashOf = async (level: number, index: number): Promise<Buffer> =>
    level === 0
      ? leafHash(Buffer.from(`${history}${index}`))
      : rootAt(2 ** level, async (subtrees) =>
          Promise.all(subtrees.map((each) => hashAt(each.level, each.index + index * 2 ** (level - each.level)))),
        )
  const hashAt = async (level: number, index: number): Promise<Buffer> => {
    if (level === 0) return hashOf(0, index)
    const { createHash } = await import('node:crypto')
    const [left, right] = [await hashAt(level - 1, 2 * index), await hashAt(level - 1, 2 * index + 1)]
    return createHash('sha256').update(Buffer.of(1)).update(left).update(right).digest()
  }
  return (subtrees) => Promise.all(subtrees.map(({ level, index }) => hashAt(level, index)))
}
const noteOf = async (size: number, { history = '', key = 1, origin = ORIGIN } = {}) => {
  const text = checkpointText({ origin, size, root: await rootAt(size, tree(history)) })
  return formatNote({ text, signatures: [signerOf(key).signature(origin, text)] })
}

let service: Double
let folder: string
let state: string
beforeAll(async () => {
  service = await serviceDouble()
})
afterAll(() => service.close())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-witness-'))
  state = join(folder, 'seen')
  await writeFile(join(folder, 'keys.json'), JSON.stringify({ keys: [signerOf(1).jwk] }))
  service.received.length = 0
})

/** What the log shows from now on. */
const shows = async (size: number, from: number | undefined, more: Parameters<typeof noteOf>[1] = {}) => {
  const checkpoint = await noteOf(size, more)
  service.answers.set('GET /log/proof', { checkpoint })
  const path = from && from <= size ? await consistencyProof(from, size, tree(more.history)) : []
  service.answers.set('GET /log/consistency', { checkpoint, path: path.map((hash) => hash.toString('base64')) })
  return checkpoint
}
const look = (...more: readonly string[]) =>
  service.cli('witness', '--state', state, '--once', '--jwks', join(folder, 'keys.json'), ...more)

describe('errand witness', () => {
  it('Q3 keeps what it has seen, and follows a log that only grows', async () => {
    const first = await shows(5, undefined)
    expect(await look()).toMatchObject({ exit: 0, out: `${ORIGIN}: 5 records, as before\n` })
    expect(await readFile(state, 'utf8')).toBe(first)
    const next = await shows(13, 5)
    expect((await look('--json')).out).toContain('"size": 13')
    expect(service.received.at(-1)).toMatchObject({ path: '/log/consistency', query: { from: '5' } })
    expect(await readFile(state, 'utf8')).toBe(next)
    expect(await look()).toMatchObject({ exit: 0, out: '' })
    await rm(folder, { recursive: true })
  })

  it.each<[string, string, Parameters<typeof noteOf>, string]>([
    ['another history of the same size', 'forked', [13, { history: 'x' }], 'two roots over 13 records'],
    ['a longer one that is not its continuation', 'forked', [20, { history: 'x' }], 'no proof that the first 13 of 20'],
    ['a shorter one', 'went_back', [12], '12 records are signed, and 13 were before'],
    [
      'another log',
      'another_log',
      [13, { origin: originOf(ISSUER, '99999999') }],
      'and errand.example/log/0a1b2c3d was',
    ],
    ['a checkpoint by another key', 'unsigned', [14, { key: 2 }], 'no checkpoint that a key of the issuer signed'],
  ])('Q3 Q4 raises an alarm at %s, and keeps both as evidence', async (_, alarm, [size, more], why) => {
    const seen = await shows(13, undefined)
    await look()
    const shown = await shows(size, 13, more)
    const { exit, out, err } = await look()
    expect(exit).toBe(2)
    expect(err).toContain(alarm)
    expect(err).toContain(why)
    expect(JSON.parse(out)).toMatchObject({ alarm, held: seen, presented: shown })
    expect(await readFile(state, 'utf8')).toBe(seen)
    const file = (await readdir(folder)).find((name) => name.startsWith(`seen.${alarm}-`))!
    expect(JSON.parse(await readFile(join(folder, file), 'utf8'))).toMatchObject({ held: seen, presented: shown })
    // It stays an alarm: nothing was forgotten.
    expect((await look()).exit).toBe(2)
    await rm(folder, { recursive: true })
  })

  it('goes on asking while the log cannot be reached, and says so once', async () => {
    await shows(5, undefined)
    await look()
    service.world.reachable = false
    expect((await look()).exit).toBe(3)
    let turns = 0
    service.world.wait = async () => {
      turns += 1
      if (turns < 3) return
      service.world.reachable = true
      if (turns === 4) await shows(12, undefined)
    }
    const jwks = join(folder, 'keys.json')
    const { exit, err } = await service.cli('witness', '--state', state, '--jwks', jwks, '--every', '1')
    expect(exit).toBe(2)
    expect(err.match(/no answer from/g)).toHaveLength(1)
    expect(err).toContain('the log answers again')
    expect(err).toContain('forked')
    await rm(folder, { recursive: true })
  })

  it('starts from no state that it cannot read, and with no key that signs nothing', async () => {
    await shows(5, undefined)
    await writeFile(state, 'not a note')
    expect(await look()).toMatchObject({ exit: 2, err: expect.stringContaining('holds no checkpoint') })
    await writeFile(join(folder, 'keys.json'), '{}')
    expect(await look()).toMatchObject({ exit: 2, err: expect.stringContaining('export-jwks') })
    expect((await look('--client', 'tool:crm')).err).toContain('go together')
    await rm(folder, { recursive: true })
  })
})
