/** What travels in the revocation feed, read and verified: frames (also snapshots and deltas) and statements of "now". */
import { encodeBase64url } from './base64url.ts'
import { hmacSha256, sha256Base64url } from './crypto.ts'
import { type Epoch, parseEpoch } from './epoch.ts'
import type { Jwks } from './jwks.ts'
import { checkHeader, parseJws } from './jws.ts'
import { DIMENSIONS, type Dimension, type Shape } from './shapes.ts'
import { checkSignatureAnywhere } from './signature.ts'
import { isJsonObject, type JsonObject, type JsonValue } from './strict-json.ts'
import { apart } from './utf8.ts'

export interface FeedEntry {
  readonly epoch: Epoch
  readonly shape: Shape
  /** Keyed digest of the value. */
  readonly value: string
  /** Unix seconds; by then no token that it could match is alive. */
  readonly expiresAt: number
  /** Kills whatever `rev` a token claims. */
  readonly absolute: boolean
}

export interface FeedFrame {
  readonly kind: 'live' | 'delta' | 'snapshot'
  /** One start of one service process. */
  readonly run: string
  readonly seq: number
  /** The service's monotonic clock, ms, read before the epoch. */
  readonly s: number
  /** Digest of the frame before in the chain. */
  readonly prev: string
  /** Names the key of the value digests. */
  readonly keyId: string
  /** The frame holds every live entry in (after, epoch]; absent on a snapshot, which holds all. */
  readonly after?: Epoch
  readonly epoch: Epoch
  readonly entries: readonly FeedEntry[]
  /** SHA-256 of its own text: the `prev` of its successor. */
  readonly digest: string
  /** The newest checkpoint of the service's audit log, a signed note. */
  readonly checkpoint?: string
  /** Digest of the key set that the service publishes. */
  readonly keySet?: string
}

export interface Statement {
  readonly run: string
  readonly s: number
  readonly epoch: Epoch
  readonly nonces: readonly string[]
  /** Unix seconds at the service. */
  readonly time: number
}

/** A snapshot of some hundred thousand revocations; what is longer is not one of ours. */
export const MAX_FEED_BYTES = 67_108_864
const MAX_FEED_MEMBERS = 8_000_000
const MAX_STATEMENT_BYTES = 65_536

/** Tells keys of value digests apart without telling anything about them. */
export const feedKeyId = (key: Uint8Array): string =>
  encodeBase64url(hmacSha256(key, 'errand feed key id')).slice(0, 11)

/** The signed payload, where issuer, kind, key and signature are right; otherwise undefined. */
async function readSigned(
  text: unknown,
  typ: string,
  limits: { readonly maxBytes: number; readonly maxMembers?: number },
  { issuer, jwks }: { readonly issuer: string; readonly jwks: Jwks },
): Promise<JsonObject | undefined> {
  const parsed = parseJws(text, limits)
  if (!parsed.ok) return undefined
  const header = checkHeader(parsed.value.header, { typ: [typ], algs: ['ES256'], kid: 'required' })
  if (!header.ok || header.value.kid === undefined) return undefined
  const key = await jwks.find(header.value.kid, 'feed')
  if (!key.ok || !(await checkSignatureAnywhere(parsed.value, key.value)).ok) return undefined
  return parsed.value.payload['iss'] === issuer ? parsed.value.payload : undefined
}

export async function readFrame(
  text: unknown,
  deps: { readonly issuer: string; readonly jwks: Jwks },
): Promise<FeedFrame | undefined> {
  const limits = { maxBytes: MAX_FEED_BYTES, maxMembers: MAX_FEED_MEMBERS }
  const payload = await readSigned(text, 'errand-frame+jwt', limits, deps)
  if (!payload) return undefined
  const { run, seq, s, prev, k } = payload
  const kind = payload['kind'] ?? 'live'
  const epoch = parseEpoch(payload['epoch'])
  const after = parseEpoch(payload['after'])
  if (kind !== 'live' && kind !== 'delta' && kind !== 'snapshot') return undefined
  if (typeof run !== 'string' || typeof prev !== 'string' || typeof k !== 'string' || !epoch) return undefined
  if (!isCount(seq) || !isCount(s) || (kind !== 'snapshot' && !after)) return undefined
  const list = payload['entries'] ?? []
  if (!Array.isArray(list)) return undefined
  const entries: FeedEntry[] = []
  for (const item of list as readonly JsonValue[]) {
    const entry = readEntry(item)
    if (!entry) return undefined
    entries.push(entry)
  }
  const digest = sha256Base64url(text as string)
  const { cp, ks } = payload
  return {
    kind,
    run: apart(run),
    seq,
    s,
    prev,
    keyId: k,
    ...(after ? { after } : {}),
    epoch,
    entries,
    digest,
    ...(typeof cp === 'string' ? { checkpoint: apart(cp) } : {}),
    ...(typeof ks === 'string' ? { keySet: apart(ks) } : {}),
  }
}

export async function readStatement(
  text: unknown,
  deps: { readonly issuer: string; readonly jwks: Jwks },
): Promise<Statement | undefined> {
  const payload = await readSigned(text, 'errand-now+jwt', { maxBytes: MAX_STATEMENT_BYTES }, deps)
  if (!payload) return undefined
  const { run, s, nonces, time } = payload
  const epoch = parseEpoch(payload['epoch'])
  if (typeof run !== 'string' || !isCount(s) || !isCount(time) || !epoch) return undefined
  if (!Array.isArray(nonces) || !nonces.every((nonce) => typeof nonce === 'string')) return undefined
  return { run: apart(run), s, epoch, nonces: nonces as readonly string[], time }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

function readEntry(item: JsonValue): FeedEntry | undefined {
  if (!isJsonObject(item)) return undefined
  const { d, v, x, a } = item
  const epoch = parseEpoch(item['e'])
  // A shape of dimensions that this version does not know could not be matched: better no frame than half of one.
  if (!epoch || !isShape(d) || typeof v !== 'string' || !isCount(x)) return undefined
  return { epoch, shape: d, value: v, expiresAt: x, absolute: a === true }
}

export function isShape(text: unknown): text is Shape {
  if (text === '') return true
  if (typeof text !== 'string') return false
  const names = text.split('+')
  return names.every(
    (name, index) => DIMENSIONS.includes(name as Dimension) && (index === 0 || names[index - 1]! < name),
  )
}
