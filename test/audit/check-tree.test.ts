import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canonicalize } from '../../src/audit/canonical.ts'
import { checkAuditLog } from '../../src/audit/checker.ts'
import { checkpointText, originOf } from '../../src/audit/checkpoint.ts'
import { createGrowingTree } from '../../src/audit/growing-tree.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import type { Json } from '../../src/audit/log.ts'
import { formatNote } from '../../src/audit/note.ts'
import { openAuditLog } from '../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from './fixtures.ts'
import { harmAndCheck, JWKS, makeLog } from './harmed-log.ts'
import { LOG } from './log-file.ts'
import { ISSUER, signerOf } from './signer.ts'

describe('checking the tree of a log', () => {
  let folder: string
  beforeAll(async () => {
    folder = await makeLog()
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))
  const origin = originOf(ISSUER, LOG)
  const signed = (key: number, size: number, root: Buffer) => {
    const text = checkpointText({ origin, size, root })
    return formatNote({ text, signatures: [signerOf(key).signature(origin, text)] })
  }
  const against = async (note: string, jwks: string | undefined = JWKS) =>
    checkAuditLog({ folder, jwks, others: [{ file: 'witness.txt', note }] })

  it('FI-14 Q1 finds every edit of records, tiles and checkpoints, also where every CRC and index was made right', async () => {
    await expect(harmAndCheck(340)).resolves.toBeUndefined()
  }, 60_000)

  it('takes the keys beside the log where none are given, and says so', async () => {
    expect(await checkAuditLog({ folder })).toMatchObject({
      ok: true,
      tree: { signatures: 'kept_keys', signed: 300, checkpoints: 2, tiles: 1, root: expect.any(String) },
    })
    const other = JSON.stringify({ keys: [signerOf(2).jwk] })
    const report = await checkAuditLog({ folder, jwks: other })
    expect(report.damage.map(({ kind, file }) => [kind, file])).toEqual([
      ['bad_checkpoint', 'checkpoints/0000000000000040'],
      ['bad_checkpoint', 'checkpoint'],
    ])
  })

  it('Q3 Q4 compares with what a witness holds: whoever has the keys too cannot rewrite what was seen', async () => {
    const log = await openAuditLog({
      folder,
      now: () => 0,
      subjectVault: vaultOver(memorySubjectKeys()),
      every: manualTimer().every,
    })
    const tree = createGrowingTree()
    for (const record of await log.from(0, 100)) tree.append(leafHash(Buffer.from(canonicalize(record as Json))))
    await log.close()
    expect(await against(signed(1, 100, tree.root()))).toMatchObject({ ok: true, tree: { checkpoints: 3 } })
    expect((await against(signed(1, 100, Buffer.alloc(32, 7)))).damage).toMatchObject([
      { kind: 'checkpoint_mismatch', index: expect.any(Number), file: 'witness.txt' },
    ])
    expect((await against(signed(1, 301, Buffer.alloc(32, 7)))).damage).toMatchObject([
      { kind: 'checkpoint_ahead', index: 300, file: 'witness.txt' },
    ])
    expect((await against(signed(2, 100, tree.root()))).damage).toMatchObject([{ kind: 'bad_checkpoint', index: 100 }])
    expect((await against('no note')).damage).toMatchObject([{ kind: 'bad_checkpoint', file: 'witness.txt' }])
  })

  it('tells a tile that was changed from a record that was', async () => {
    const file = join(folder, LOG, 'tile', '0', '000')
    const bytes = await readFile(file)
    const bent = Buffer.from(bytes)
    bent[32 * 77]! ^= 1
    await writeFile(file, bent)
    expect((await checkAuditLog({ folder })).damage).toMatchObject([
      { kind: 'bad_tile', index: 77, file: 'tile/0/000' },
    ])
    await writeFile(file, bytes)
  })
})
