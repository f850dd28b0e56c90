/** Makes receipts: gathers what is known, records that a receipt is given, waits for the checkpoint over it, and signs. */
import { canonicalize } from '../audit/canonical.ts'
import type { Checkpoints, LogTree } from '../audit/checkpoints.ts'
import { leafHash } from '../audit/leaf.ts'
import type { AuditLog, AuditReader, Json } from '../audit/log.ts'
import { proveInclusion } from '../audit/log-proof.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import type { PartContainments } from './component-containments.ts'
import { type Anchor, type AnchoredRecord, type Statement, statementDigest, statementOf } from './receipt.ts'
import type { Revocation } from './revocation-log.ts'

/** A checkpoint comes twice a second. */
const WAIT_MS = 3_000

export interface Receipts {
  /** A compact JWS. Throws `Unavailable('audit_unavailable')` where the log cannot hold or prove it. */
  issue(
    entry: Revocation,
    request: { readonly by: string; readonly named: boolean; readonly correlation?: string },
  ): Promise<{ readonly receipt: string; readonly statement: Statement }>
}

export interface ReceiptsDeps {
  readonly issuer: string
  readonly now: () => number
  readonly containments: PartContainments
  readonly audit: Pick<AuditLog, 'append' | 'logId'>
  readonly reader: Pick<AuditReader, 'get'>
  readonly tree: LogTree
  readonly checkpoints: Pick<Checkpoints, 'covering'>
  /** By the active `checkpoint` key. */
  readonly sign: (header: { readonly typ: string }, payload: object) => string | Promise<string>
}

export function createReceipts(deps: ReceiptsDeps): Receipts {
  const { issuer, now, containments, audit, reader, tree, checkpoints } = deps
  const unproven = (why: string) => new Unavailable('audit_unavailable', why)

  async function anchor(indexes: readonly number[]): Promise<Anchor> {
    const signed = await checkpoints.covering(Math.max(...indexes), WAIT_MS)
    if (signed === undefined) throw unproven('no checkpoint covers that record yet')
    const { size, root } = signed.checkpoint
    const records: AnchoredRecord[] = []
    for (const index of indexes) {
      const [record, proof] = await Promise.all([
        reader.get(index),
        proveInclusion(tree, audit.logId, index, size, root),
      ])
      const text = record && canonicalize(record as unknown as Json)
      if (!text || !proof || leafHash(Buffer.from(text)).toString('base64') !== proof.leaf_hash)
        throw unproven('the stored tree does not hold what the log holds')
      records.push({ index, record: text, path: proof.path })
    }
    return { id: audit.logId, size, checkpoint: signed.note, records }
  }

  return {
    async issue(entry, { by, named, correlation }) {
      const [record, containment, tasks, releases] = await Promise.all([
        containments.recordOf(entry),
        containments.of(entry),
        containments.tasksOf(entry),
        containments.releasesOf(entry),
      ])
      const statement = statementOf({ issuer, now: now(), entry, record, containment, tasks, releases, named })
      const { index } = await audit.append({
        type: 'receipt.issued',
        cause: entry.id,
        by,
        ...(correlation === undefined ? {} : { correlation }),
        details: { statement: statementDigest(statement), contained: containment.contained },
      })
      const log = await anchor([...(record === undefined ? [] : [record.i]), index])
      return { receipt: await deps.sign({ typ: TYP.receipt }, { ...statement, log }), statement }
    },
  }
}
