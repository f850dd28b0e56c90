/** Checks a receipt offline, with the issuer's public keys alone. What does not hold is named by one code each. */
import { createPublicKey, verify } from 'node:crypto'
import { decodeBase64url } from '@errand/verifier/base64url.ts'
import { isUsableEd25519Point } from '@errand/verifier/ed25519.ts'
import { checkHeader, readCompactJws } from '@errand/verifier/jws.ts'
import { isJsonObject, type JsonObject, type JsonValue, parseStrictObject } from '@errand/verifier/strict-json.ts'
import { canonicalize } from '../audit/canonical.ts'
import { type Checkpoint, openCheckpoint, originOf } from '../audit/checkpoint.ts'
import { leafHash } from '../audit/leaf.ts'
import type { Json } from '../audit/log.ts'
import { verifyInclusion } from '../audit/merkle.ts'
import { noteKey } from '../audit/note.ts'
import { TYP } from '../oauth/words.ts'
import { statementDigest } from './receipt.ts'

export type ReceiptFault =
  | 'not_a_receipt' // no compact JWS, or another kind of one
  | 'no_keys' // the key set holds no key that could have signed it
  | 'unknown_kid'
  | 'key_compromised' // whoever has it can write any receipt
  | 'bad_signature'
  | 'incomplete' // signed, and not what a receipt must say
  | 'bad_checkpoint' // not signed by a key of the issuer, or of another log
  | 'not_in_log' // a record is not what the checkpoint was signed over
  | 'differs_from_log' // it says something else than the record of the revocation
  | 'statement_changed' // it is not the statement whose digest was recorded

export type CheckedReceipt =
  | {
      readonly ok: true
      readonly statement: JsonObject
      readonly log: { readonly id: string; readonly size: number; readonly indexes: readonly number[] }
      /** False where the disk was full when it was made: then the record of the receipt alone is proven. */
      readonly recorded: boolean
    }
  | { readonly ok: false; readonly fault: ReceiptFault; readonly detail: string }

/** Ten thousand tasks are a twentieth of it. */
const LIMITS = { maxBytes: 16 << 20, maxMembers: 1_000_000 }

interface ReceiptKey {
  readonly kid: string
  readonly raw: Uint8Array
  readonly compromised: boolean
}

/** Keys of a JWKS that sign receipts and checkpoints; those of other purposes are none. */
function keysIn(jwks: unknown): readonly ReceiptKey[] {
  const keys = isJsonObject(jwks as JsonValue) ? (jwks as JsonObject)['keys'] : undefined
  if (!Array.isArray(keys)) return []
  return keys.filter(isJsonObject).flatMap(({ kid, kty, crv, x, alg, errand_use, errand_state }) => {
    const raw = typeof x === 'string' ? decodeBase64url(x) : undefined
    const fits = kty === 'OKP' && crv === 'Ed25519' && (alg ?? 'EdDSA') === 'EdDSA'
    if (!fits || (errand_use ?? 'checkpoint') !== 'checkpoint') return []
    if (typeof kid !== 'string' || !raw || !isUsableEd25519Point(raw)) return []
    return [{ kid, raw, compromised: errand_state === 'compromised' }]
  })
}

export function checkReceipt(text: string, jwks: unknown): CheckedReceipt {
  const no = (fault: ReceiptFault, detail: string) => ({ ok: false, fault, detail }) as const
  const keys = keysIn(jwks)
  if (keys.length === 0) return no('no_keys', 'the key set has no Ed25519 key for checkpoints')
  const parsed = readCompactJws(text, LIMITS)
  if (!parsed.ok) return no('not_a_receipt', `it is no compact JWS (${parsed.fault})`)
  const { header, payloadBytes, signingInput, signature } = parsed.value
  const head = checkHeader(header, { typ: [TYP.receipt], algs: ['EdDSA'], kid: 'required' })
  if (!head.ok) return no('not_a_receipt', `its header is not that of a receipt (${head.fault})`)
  const key = keys.find(({ kid }) => kid === head.value.kid)
  if (!key) return no('unknown_kid', `no key ${head.value.kid} is among those given`)
  if (key.compromised) return no('key_compromised', `key ${key.kid} was given up: whoever has it may have signed this`)
  if (!verify(null, Buffer.from(signingInput, 'latin1'), publicKey(key.raw), signature))
    return no('bad_signature', `it is not what key ${key.kid} signed`)

  const payload = parseStrictObject(payloadBytes, LIMITS)
  if (!payload.ok) return no('incomplete', `its payload is no plain JSON (${payload.fault})`)
  const { log, ...statement } = payload.value
  const { iss, revocation } = statement
  if (typeof iss !== 'string' || !isObject(revocation) || !isObject(log)) return no('incomplete', 'a member is missing')
  const anchor = anchorIn(log)
  if (!anchor) return no('incomplete', 'its place in the log is not what it must be')

  const origin = originOf(iss, anchor.id)
  const checkpoint = openCheckpoint(
    anchor.checkpoint,
    keys.filter(({ compromised }) => !compromised).map(({ raw }) => noteKey(origin, raw)),
  )
  if (checkpoint?.origin !== origin || checkpoint.size !== anchor.size)
    return no('bad_checkpoint', `it is no checkpoint of ${origin} that one of the keys signed`)
  for (const each of anchor.records)
    if (!isUnder(each, checkpoint)) return no('not_in_log', `the record at index ${each.index} is not under it`)

  const records = anchor.records.map(({ record, index }) => ({ ...(JSON.parse(record) as JsonObject), index }))
  const id = revocation['id']
  const about = (type: string) =>
    records.find((each) => {
      const { type: its, cause, log: logId, i, index } = each as JsonObject
      return its === type && cause === id && logId === anchor.id && i === index
    }) as JsonObject | undefined
  const issued = about('receipt.issued')
  if (detailsOf(issued)['statement'] !== statementDigest(statement))
    return no('statement_changed', 'the log has the digest of another statement')
  const added = about('revocation.added')
  const difference = added && differenceIn(revocation, added)
  if (difference !== undefined) return no('differs_from_log', `the log has another ${difference}`)
  return {
    ok: true,
    statement,
    log: { id: anchor.id, size: anchor.size, indexes: anchor.records.map(({ index }) => index) },
    recorded: added !== undefined,
  }
}

const isObject = (value: JsonValue | undefined): value is JsonObject => value !== undefined && isJsonObject(value)
const detailsOf = (record: JsonObject | undefined): JsonObject => {
  const details = record?.['details']
  return isObject(details) ? details : {}
}

const publicKey = (raw: Uint8Array) =>
  createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') }, format: 'jwk' })

interface Record {
  readonly index: number
  readonly record: string
  readonly path: readonly Buffer[]
}

function anchorIn({ id, size, checkpoint, records }: JsonObject) {
  if (typeof id !== 'string' || typeof size !== 'number' || typeof checkpoint !== 'string') return undefined
  if (!Array.isArray(records)) return undefined
  const read = records.map((each: JsonValue): Record | undefined => {
    if (!isJsonObject(each)) return undefined
    const { index, record, path } = each
    if (typeof index !== 'number' || typeof record !== 'string' || !Array.isArray(path)) return undefined
    return { index, record, path: path.map((hash) => Buffer.from(String(hash), 'base64')) }
  })
  const whole = read.filter((each) => each !== undefined)
  return whole.length === records.length ? { id, size, checkpoint, records: whole } : undefined
}

const isUnder = ({ index, record, path }: Record, { size, root }: Checkpoint): boolean =>
  verifyInclusion(leafHash(Buffer.from(record)), index, size, path, root)

/** What the record of a revocation says otherwise. */
function differenceIn(revocation: JsonObject, record: JsonObject): string | undefined {
  const { match, mode, taken, taken_total, before, reason, confirmed_by } = detailsOf(record)
  const { epoch, by, subject } = record
  const logged: { readonly [name: string]: JsonValue | undefined } = {
    epoch,
    by,
    subject,
    match,
    mode,
    taken,
    taken_total,
    before,
    reason,
    confirmed_by,
  }
  const text = (value: JsonValue | undefined) => (value === undefined ? '' : canonicalize(value as Json))
  return Object.keys(logged).find((name) => text(logged[name]) !== text(revocation[name]))
}
