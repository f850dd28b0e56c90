/** `errand audit verify|prove|verify-proof`: the log as evidence, checked without the service. */
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkAuditLog } from '../audit/checker.ts'
import type { CheckedBy } from '../audit/check-tree.ts'
import { readNoteKeys } from '../audit/note-keys.ts'
import { checkProof, PROOF_FORMAT, readProofFile } from '../audit/proof-file.ts'
import { recordLine } from './audit.ts'
import { CliError, EXIT, usage } from './cli.ts'
import { adminClient, placesOf } from './places.ts'
import { json, safe } from './print.ts'
import { writeNew } from './release-create.ts'
import { number, object, objects } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

const KEYS_HINT = 'errand keys export-jwks --all prints every public key of the service.'

const SIGNATURES: Readonly<Record<CheckedBy, string>> = {
  given_keys: 'signatures good',
  kept_keys: 'signatures good by the keys beside the log: who could rewrite it could rewrite those; see --jwks',
  no_keys: 'signatures not checked: there are no keys beside the log; see --jwks',
}

export const verify = verb({
  description:
    'Checks a log on disk, or a copy of it, without the service: every record, the tree over them, and every checkpoint that was kept. Each damage is named by index and kind; the exit code is then 2.',
  args: {
    folder: {
      type: 'positional',
      description: 'the log’s folder, or the data folder around it (default ERRAND_DATA or data/)',
      required: false,
    },
    jwks: { type: 'string', valueHint: 'file', description: 'the issuer’s public keys, for the signatures' },
    checkpoint: { type: 'string', valueHint: 'file', description: 'compare with this one too: a witness’s, say' },
    ...JSON_FLAG,
  },
  examples: [
    'errand audit verify',
    'errand audit verify /backup/audit --jwks keys.json --checkpoint seen-on-monday.txt',
    'errand audit verify /backup/audit --json',
  ],
  async run(args, cli) {
    const folder = args.folder === undefined ? join(placesOf(cli).dataDir, 'audit') : await logIn(args.folder)
    const { checkpoint } = args
    const jwks = args.jwks === undefined ? undefined : await keysIn(args.jwks)
    const report = await checkAuditLog({
      folder,
      ...(jwks === undefined ? {} : { jwks }),
      ...(checkpoint === undefined ? {} : { others: [{ file: checkpoint, note: await fileAt(checkpoint) }] }),
    }).catch((error: NodeJS.ErrnoException): never => {
      throw new CliError(EXIT.usage, `${safe(folder)} cannot be read (${error.code ?? 'unknown error'})`, [
        'Name the folder: errand audit verify <folder>, or set ERRAND_DATA.',
      ])
    })
    if (args.json) cli.out(json(report))
    else {
      for (const { index, kind, file, detail } of report.damage)
        cli.out(`${cli.colors.red(kind)} at index ${index} in ${safe(file)}: ${safe(detail)}`)
      const { tree, records, segments, logId } = report
      const size = `${records} records, segments: ${segments}, log ${safe(logId)}`
      cli.out(report.ok ? `${cli.colors.green('whole')}: ${size}` : `${cli.colors.red('damaged')}: ${size}`)
      if (tree.checkpoints > 0)
        cli.out(`signed: the first ${tree.signed}; checkpoints: ${tree.checkpoints}, ${SIGNATURES[tree.signatures]}`)
    }
    // The exit code that monitoring looks for: 2, not the 1 of a refusal.
    return report.ok ? EXIT.ok : EXIT.usage
  },
})

export const prove = verb({
  description:
    'Writes a record and the proof that it is in the log to one file, which verifies anywhere with the issuer’s public keys alone.',
  args: {
    record: { type: 'positional', description: 'jti of a token, or index of a record', required: true },
    out: { type: 'string', valueHint: 'file', description: 'where to write it; a file that is there is kept' },
    ...JSON_FLAG,
  },
  examples: [
    'errand audit prove 1047',
    'errand audit prove $JTI --out proof.json && errand audit verify-proof proof.json --jwks keys.json',
  ],
  async run(args, cli) {
    const client = await adminClient(cli)
    const byIndex = /^(?:0|[1-9][0-9]{0,14})$/.test(args.record)
    const proof = await client.get('/log/proof', byIndex ? { index: args.record } : { jti: args.record })
    const index = number(proof['index']) ?? 0
    const [record] = objects((await client.get('/audit/records', { from: String(index), limit: '1' }))['records'])
    const text = json({ format: PROOF_FORMAT, ...proof, record })
    if (args.out === undefined) cli.out(text)
    else {
      await writeNew(args.out, `${text}\n`)
      if (args.json) cli.out(json({ file: args.out, index, size: proof['size'] }))
      else cli.err(`record ${index} of ${safe(proof['log'])}, proven in a tree of ${safe(proof['size'])}: ${args.out}`)
    }
    return EXIT.ok
  },
})

export const verifyProof = verb({
  description: 'Verifies a record and its proof, as errand audit prove wrote them, without the service.',
  args: {
    proof: { type: 'positional', description: 'the file', required: true },
    jwks: { type: 'string', valueHint: 'file', description: 'the issuer’s public keys', required: true },
    ...JSON_FLAG,
  },
  examples: ['errand keys export-jwks --all > keys.json', 'errand audit verify-proof proof.json --jwks keys.json'],
  async run(args, cli) {
    const proof = readProofFile(await fileAt(args.proof))
    if (proof === undefined) throw usage(`${args.proof} is no proof`, 'errand audit prove writes one.')
    const proven = checkProof(proof, readNoteKeys(await keysIn(args.jwks)))
    if (!proven.ok) {
      if (args.json) cli.out(json({ ok: false, why: proven.why }))
      throw new CliError(EXIT.refused, `the proof does not hold: ${safe(proven.why)}`)
    }
    const { origin, size, record } = proven
    if (args.json) cli.out(json({ ok: true, origin, size, index: record.i, record }))
    else {
      cli.out(`${cli.colors.green('proven')}: record ${record.i} of ${safe(origin)}, in a tree of ${size}`)
      cli.out(recordLine(cli, object(record)))
    }
    return EXIT.ok
  },
})

export const fileAt = (path: string): Promise<string> =>
  readFile(path, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    throw usage(`${safe(path)} cannot be read (${error.code ?? 'unknown error'})`)
  })

export async function keysIn(path: string): Promise<string> {
  const text = await fileAt(path)
  if (readNoteKeys(text, { compromisedToo: true }).length > 0) return text
  throw usage(`${safe(path)} holds no key that signs checkpoints (kty OKP, crv Ed25519)`, KEYS_HINT)
}

/** A data folder holds the log in `audit/`. */
export async function logIn(folder: string): Promise<string> {
  const audit = join(folder, 'audit')
  return access(audit).then(
    () => audit,
    () => folder,
  )
}
