/** What the tree over the audit log costs the exchange, and how long a check of a long log takes. */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Bench } from './bench.ts'
import { recordsIn } from './fill.ts'
import { openSite, prepare } from './load.ts'
import { cpu, perSecond, race } from './race.ts'
import { ratio } from './spread.ts'

const exec = promisify(execFile)

/** The same build without the tree: no leaf is hashed, no tile written, no checkpoint signed. */
async function withoutTree(dist: string): Promise<void> {
  const file = join(dist, 'main.js')
  let text = await readFile(file, 'utf8')
  for (const [there, instead] of [
    ['function leavesOf(frames) {', 'function leavesOf(frames) {\n\treturn Buffer.alloc(0);'],
    ['every(CHECKPOINT_EVERY_MS, checkpoints.tick,', 'every(CHECKPOINT_EVERY_MS, async () => undefined,'],
  ] as const) {
    if (!text.includes(there)) throw new Error(`the build has no «${there}» to leave out`)
    text = text.replace(there, instead)
  }
  await writeFile(file, text)
}

export async function logSection(bench: Bench): Promise<void> {
  const { quick, core, nodeFlags, note, say } = bench
  const pinned = { nodeFlags, ...(core === undefined ? {} : { core }) }
  const sites = [await openSite(pinned), await openSite({ ...pinned, dist: withoutTree })]
  try {
    const [with_, without] = sites
    const results = await race(bench, {
      'with the tree': { pid: with_!.pid, prepare: (count: number) => prepare(with_!, 'steady', count) },
      'without it': { pid: without!.pid, prepare: (count: number) => prepare(without!, 'steady', count) },
    })
    for (const [name, rounds] of Object.entries(results)) note(`exchange ${name}: CPU`, cpu(rounds), 'µs')
    note(
      'exchange, CPU with the tree to without',
      ratio(cpu(results['with the tree']), cpu(results['without it'])),
      '×',
      {
        atMost: 1.1,
      },
    )
    note(
      'exchange, throughput with the tree to without',
      ratio(perSecond(results['with the tree']), perSecond(results['without it'])),
      '×',
      { atLeast: 0.9 },
    )
  } finally {
    for (const each of sites) await each.close()
  }

  const count = quick ? 20_000 : 1_000_000
  say(`  ${count} records`)
  const long = await openSite({ ...pinned, fill: recordsIn(count) })
  try {
    note(`start with ${count} records that have no tree yet`, long.service.startMs, 'ms', { atMost: 5000 })
    await until(join(long.folder.path, 'data/audit'), count)
    await long.service.stop()
    const check = async () => {
      const began = performance.now()
      const { stdout } = await exec(
        process.execPath,
        [resolve('bin/errand.js'), 'audit', 'verify', join(long.folder.path, 'data'), '--json'],
        { maxBuffer: 1 << 24 },
      )
      const report = JSON.parse(stdout) as { readonly ok: boolean; readonly tree: { readonly signed: number } }
      if (!report.ok || report.tree.signed < count) throw new Error(`the log does not verify: ${stdout}`)
      return (performance.now() - began) / 1000
    }
    note(`errand audit verify of ${count} records`, [await check(), await check(), await check()], 's', {
      note: 'every record, the tree over them, every tile and checkpoint',
    })
  } finally {
    await long.folder.remove()
  }
}

/** The background has made the tree, and signed it. */
async function until(folder: string, count: number): Promise<void> {
  const log = (await readFile(join(folder, 'log-id'), 'latin1')).trim()
  for (;;) {
    const note = await readFile(join(folder, log, 'checkpoint'), 'utf8').catch(() => '')
    if (Number(note.split('\n')[1]) > count) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
