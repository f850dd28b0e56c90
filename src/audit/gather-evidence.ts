/** Makes the evidence of a task: finds what names it, proves each record under one checkpoint, and signs what it found. */
import type { Checkpoints, LogTree } from './checkpoints.ts'
import { EVIDENCE_FORMAT, type Evidence, type PoliciesInForce, policiesNamed, statementText } from './evidence.ts'
import type { AuditReader, AuditRecord, Json } from './log.ts'
import { proveInclusion } from './log-proof.ts'
import { formatNote, type NoteSignature } from './note.ts'
import { Unavailable } from '../oauth/refusal.ts'

export interface EvidenceDeps {
  readonly logId: string
  readonly reader: Pick<AuditReader, 'search'>
  readonly tree: LogTree
  readonly checkpoints: Pick<Checkpoints, 'covering'>
  /** The policies of that digest, where they were kept. */
  readonly policies: (digest: string) => Promise<PoliciesInForce['policies']>
  /** Every public key there ever was. */
  readonly keys: () => readonly Json[]
  /** By the active `checkpoint` key. */
  readonly sign: (text: string) => NoteSignature | Promise<NoteSignature>
}

/** Throws `Unavailable('audit_unavailable')` where the log cannot prove it. `from` must be under the checkpoint. */
export type GatherEvidence = (
  task: string,
  from: number,
) => Promise<{ readonly ok: true; readonly evidence: Evidence } | { readonly ok: false; readonly most: number }>

/** In one answer; more are proven one by one. */
const MAX_RECORDS = 2000
const MAX_SEARCHED = 10_000
/** A checkpoint comes each second. */
const WAIT_MS = 3_000

const unproven = (why: string) => new Unavailable('audit_unavailable', why)

export const createGatherEvidence =
  ({ logId, reader, tree, checkpoints, policies, keys, sign }: EvidenceDeps): GatherEvidence =>
  async (task, from) => {
    const signed = await checkpoints.covering(from, WAIT_MS)
    if (signed === undefined) throw unproven('no checkpoint covers that record yet')
    const { size, root, origin } = signed.checkpoint
    const under = (records: readonly AuditRecord[]) => records.filter(({ i }) => i < size)

    const named = under(await reader.search({ mentions: task, limit: MAX_SEARCHED }))
    if (named.length > MAX_RECORDS) return { ok: false, most: MAX_RECORDS }
    const decided = policiesNamed(named)
    const records = [
      ...named,
      ...(await causesOf(named, reader)).filter(({ i }) => i < size),
      ...loadedBefore(named, decided, under(await reader.search({ type: 'config.loaded', limit: MAX_SEARCHED }))),
    ]
    const inOrder = [...new Map(records.map((record) => [record.i, record])).values()].sort((a, b) => a.i - b.i)
    const proven = await Promise.all(
      inOrder.map(async (record) => {
        const proof = await proveInclusion(tree, logId, record.i, size, root)
        if (proof === undefined) throw unproven('the stored tree does not make the root that was signed')
        return { record, path: proof.path }
      }),
    )
    const inForce = await Promise.all(
      decided.map(async (digest): Promise<PoliciesInForce> => {
        const texts = await policies(digest)
        return texts === undefined ? { digest } : { digest, policies: texts }
      }),
    )
    const body = {
      format: EVIDENCE_FORMAT,
      task,
      log: logId,
      size,
      checkpoint: signed.note,
      records: proven,
      policies: inForce,
      jwks: { keys: keys() },
    } as const
    const text = statementText(origin, body)
    return { ok: true, evidence: { ...body, statement: formatNote({ text, signatures: [await sign(text)] }) } }
  }

/** The revocations that ended it or took from it, which may name an agent or a person only. */
async function causesOf(
  named: readonly AuditRecord[],
  reader: EvidenceDeps['reader'],
): Promise<readonly AuditRecord[]> {
  const causes = new Set(
    named.flatMap(({ cause }) => (typeof cause === 'string' && cause.startsWith('rev_') ? cause : [])),
  )
  if (causes.size === 0) return []
  const since = Math.min(...named.map(({ t }) => t))
  const added = await reader.search({ type: 'revocation.added', since, limit: MAX_SEARCHED })
  return added.filter(({ cause }) => typeof cause === 'string' && causes.has(cause))
}

/** When each set of policies that decided came into force, the last time before it did. `loaded` is newest first. */
function loadedBefore(
  named: readonly AuditRecord[],
  decided: readonly string[],
  loaded: readonly AuditRecord[],
): readonly AuditRecord[] {
  return decided.flatMap((digest) => {
    const first = named.findLast((record) => policiesNamed([record]).includes(digest))
    const policyOf = ({ details }: AuditRecord) => (details as { readonly policy?: Json } | undefined)?.policy
    return loaded.find((record) => record.i < (first?.i ?? 0) && policyOf(record) === digest) ?? []
  })
}
