/** `errand audit export|verify-bundle`: a task as evidence, and judging it without the service. */
import { checkAuditLog } from '../audit/checker.ts'
import {
  checkEvidence,
  type Evidence,
  type EvidenceFault,
  type Judged,
  namesTask,
  readEvidence,
} from '../audit/evidence.ts'
import { policyDigestOf } from '../policy/kept-policies.ts'
import { recordLine } from './audit.ts'
import { fileAt, keysIn, logIn } from './audit-verify.ts'
import { CliError, EXIT, usage } from './cli.ts'
import { taskId } from './known.ts'
import { adminClient } from './places.ts'
import { json, safe } from './print.ts'
import { writeNew } from './release-create.ts'
import { object, objects } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const exportBundle = verb({
  description:
    'Writes a task as evidence to one file: every record of the log that names it, with proofs, every public key there ever was, and the policies that decided. Subjects are keyed hashes in it; tokens and secrets are in no record. That it was taken is recorded.',
  args: {
    task: { type: 'string', valueHint: 'task_…', description: 'which task', required: true },
    out: { type: 'string', valueHint: 'file', description: 'where to write it; a file that is there is kept' },
    ...JSON_FLAG,
  },
  examples: ['errand audit export --task task_9sQy3oQk2hYzR1bN5dWgTA --out bundle.json'],
  async run(args, cli) {
    const id = taskId(args.task, '--task')
    const bundle = await (await adminClient(cli)).get(`/audit/tasks/${id}/bundle`)
    if (args.out === undefined) {
      cli.out(json(bundle))
      return EXIT.ok
    }
    await writeNew(args.out, `${json(bundle)}\n`)
    const records = objects(bundle['records']).length
    if (args.json) cli.out(json({ file: args.out, records, size: bundle['size'] }))
    else cli.err(`${records} records of ${safe(id)}, proven in a tree of ${safe(bundle['size'])}: ${args.out}`)
    return EXIT.ok
  },
})

export const verifyBundle = verb({
  description:
    'Verifies a task’s evidence without the service: each record and its proof, the policies by their digests, and that it holds what the issuer signed. With --log, also that the issuer left out no record that names the task. What is wrong is named by a word; the exit code is then 1.',
  args: {
    bundle: { type: 'positional', description: 'the file', required: true },
    jwks: { type: 'string', valueHint: 'file', description: 'the issuer’s public keys; without it those in the file' },
    log: {
      type: 'string',
      valueHint: 'folder',
      description: 'the log, or a copy of it, to look for what was left out',
    },
    ...JSON_FLAG,
  },
  examples: [
    'errand audit verify-bundle bundle.json --jwks keys.json',
    'errand audit verify-bundle bundle.json --jwks keys.json --log /backup/audit',
  ],
  async run(args, cli) {
    const evidence = readEvidence(await fileAt(args.bundle))
    if (evidence === undefined) throw usage(`${args.bundle} is no evidence`, 'errand audit export writes it.')
    const jwks = args.jwks === undefined ? undefined : await keysIn(args.jwks)
    const deps = { policyDigest: policyDigestOf, ...(jwks === undefined ? {} : { jwks }) }
    let judged = checkEvidence(evidence, deps)
    if (judged.ok && args.log !== undefined) judged = await against(await logIn(args.log), evidence, judged, jwks)
    if (!judged.ok) {
      if (args.json) cli.out(json(judged))
      throw new CliError(EXIT.refused, `${judged.fault}: ${safe(judged.detail)}`)
    }
    const { task, origin, size, records, missingPolicies, byOwnKeys } = judged
    const shown = { task, origin, size, records: records.length, missing_policies: missingPolicies }
    if (args.json)
      cli.out(json({ ok: true, ...shown, by_own_keys: byOwnKeys, compared_with_log: args.log !== undefined }))
    else {
      for (const record of records) cli.out(recordLine(cli, object(record)))
      cli.out(
        `${cli.colors.green('whole')}: ${records.length} records of ${safe(task)} in ${safe(origin)}, a tree of ${size}`,
      )
      cli.out(
        args.log === undefined
          ? 'that these are all records which name it is what the issuer signed; --log looks for others'
          : `no other record of the first ${size} names it`,
      )
      if (missingPolicies.length > 0) cli.out(`without the text of policies ${missingPolicies.map(safe).join(' ')}`)
      if (byOwnKeys) cli.out('by the keys in the file: who made it could have made those; see --jwks')
    }
    return EXIT.ok
  },
})

/** Whoever has the log need not believe the issuer that the file holds everything. */
async function against(
  folder: string,
  { checkpoint, size, task, records }: Evidence,
  judged: Judged,
  jwks: string | undefined,
): Promise<Judged> {
  const no = (fault: EvidenceFault, detail: string): Judged => ({ ok: false, fault, detail })
  const held = new Set(records.map(({ record }) => record.i))
  const leftOut: number[] = []
  const report = await checkAuditLog({
    folder,
    ...(jwks === undefined ? {} : { jwks }),
    others: [{ file: 'the bundle', note: checkpoint }],
    onRecord: (index, payload) => {
      if (index < size && !held.has(index) && namesTask(payload, task)) leftOut.push(index)
    },
  }).catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${safe(folder)} cannot be read (${error.code ?? 'unknown error'})`)
  })
  const [damage] = report.damage
  if (damage) return no('log_damaged', `${damage.kind} at index ${damage.index} in ${damage.file}: ${damage.detail}`)
  return leftOut.length > 0 ? no('record_left_out', `record ${leftOut[0]} names the task, and is not in it`) : judged
}
