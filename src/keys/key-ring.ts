/** The signing keys in force: signs with the active key of a purpose, and knows which keys still verify. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import { calculateJwkThumbprint } from 'jose/jwk/thumbprint'
import { ok, type Result, refuse, type Slot, Unavailable } from '../oauth/refusal.ts'
import { freshKeyFor } from './fresh-key.ts'
import { type EvidenceKey, evidenceKey, isPublished, type JwksDocument, jwksDocument } from './jwks-document.ts'
import {
  ALGORITHM,
  type KeyAlgorithm,
  type KeyPurpose,
  type KeyState,
  type KeyStore,
  type StoredKey,
} from './key-store.ts'
import type { Sealer } from './seal.ts'
import { algorithmOf, signJws, signRaw } from './sign.ts'
import { someAtOnce } from './some-at-once.ts'

/** How far a replica's picture of the keys may lag before it stops signing; schedules leave room for it. */
export const REPLICA_LAG_SECONDS = 30

/** A key changes its state: written down before it happens (afterwards only where it was compromised). */
export interface KeyMove {
  readonly kid: string
  readonly purpose: KeyPurpose
  readonly from?: KeyState
  readonly to: KeyState
  readonly cause: 'first_start' | 'schedule' | 'asked' | 'compromised'
}

export interface VerifyKey {
  readonly kid: string
  readonly purpose: KeyPurpose
  readonly state: KeyState
  readonly jwk: JWK
  /** Absent once the key is retired or compromised: nothing is verified with it any more. */
  readonly publicKey?: KeyObject
}

/** One whose keys sign bytes that are no JWS. */
type RawPurpose = { [P in KeyPurpose]: (typeof ALGORITHM)[P] extends 'EdDSA' ? P : never }[KeyPurpose]

export interface KeyRing {
  /**
   * A compact JWS by the active key of that purpose; `alg` and `kid` are set here. Throws
   * `Unavailable('no_active_key')` where nothing may sign. Never another key instead.
   */
  sign(purpose: KeyPurpose, header: { readonly typ: string }, payload: object): string
  /**
   * By exactly this key, active now or a moment ago: claims are drafted, with the kid that revocation was checked
   * for, before they are signed. Throws as `sign` does.
   */
  signWith(kid: string, header: { readonly typ: string }, payload: object | string): string
  /** Over the bytes as they are, by the active key of a purpose whose keys are of Ed25519. Throws as `sign` does. */
  signBytes(purpose: RawPurpose, bytes: Uint8Array): Uint8Array
  /** Throws as `sign` does. */
  activeKid(purpose: KeyPurpose): string
  /** Of a key that was ever ours, whatever became of it: for reading old evidence, never for accepting a token. */
  publicKeyEver(kid: string): EvidenceKey | undefined
  /** Every one of them, oldest first. */
  publicKeysEver(): readonly EvidenceKey[]
  /** Any key that was ever ours, whatever its state. */
  verifyKey(kid: string): VerifyKey | undefined
  /** Of a key that is published. */
  publicJwk(kid: string): JWK | undefined
  /** The key with which a token at one of our own endpoints is verified, or why there is none. */
  keyFor(kid: string, purpose: KeyPurpose, slot: Slot): Result<VerifyKey & { readonly publicKey: KeyObject }>
  jwks(): JwksDocument
  keys(): readonly StoredKey[]
  /** Whether every purpose can sign at this moment, for `/ready`. */
  healthy(): boolean
  /** Reads the store again: what other replicas did. */
  refresh(): Promise<void>
  /** Makes a key, stores it sealed and publishes it. Answers its kid. */
  prepare(purpose: KeyPurpose, cause: KeyMove['cause']): Promise<string>
  /** False where another replica was faster. */
  activate(kid: string, cause: KeyMove['cause']): Promise<boolean>
  retire(kid: string, cause: KeyMove['cause']): Promise<boolean>
  /** From any state; the key signs and verifies nothing more here as soon as this resolves. */
  compromise(kid: string): Promise<boolean>
}

export interface KeyRingDeps {
  readonly store: KeyStore
  readonly sealer: Sealer
  /** Unix seconds. */
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly purposes: readonly KeyPurpose[]
  readonly announce: (move: KeyMove) => Promise<void>
  /** `Infinity` where no other process moves keys in this store. */
  readonly staleAfterSeconds?: number
}

const SEAL_LABEL = 'signing-key'
const sealContext = (kid: string, purpose: KeyPurpose) => JSON.stringify([kid, purpose])

interface Opened {
  /** Of the key itself: a purpose that is given another algorithm gets it with its next key. */
  readonly alg: KeyAlgorithm
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly publicJwk: JWK
}

/** Opens the ring on a store; where a purpose has no active key it makes one, so at first start nothing else is needed. */
export async function openKeyRing(deps: KeyRingDeps): Promise<KeyRing> {
  const { store, sealer, now, monotonic, announce } = deps
  const staleAfterSeconds = deps.staleAfterSeconds ?? REPLICA_LAG_SECONDS
  const opened = new Map<string, Opened>()
  let stored: ReadonlyMap<string, StoredKey> = new Map()
  let active: ReadonlyMap<KeyPurpose, StoredKey> = new Map()
  let document = jwksDocument([])
  let readAt = monotonic()
  let reading = 0
  let shown = 0

  function open(key: StoredKey): Opened {
    const known = opened.get(key.kid)
    if (known) return known
    const fresh = unseal(key)
    opened.set(key.kid, fresh)
    return fresh
  }

  // The public half is taken from the sealed one: who can write the store cannot make us publish a key of theirs.
  function unseal(key: StoredKey): Opened {
    const bytes = sealer.open(SEAL_LABEL, sealContext(key.kid, key.purpose), key.sealed)
    const privateKey = createPrivateKey({ key: JSON.parse(Buffer.from(bytes).toString('utf8')), format: 'jwk' })
    const publicKey = createPublicKey(privateKey)
    const alg = algorithmOf(privateKey)
    return { alg, privateKey, publicKey, publicJwk: publicKey.export({ format: 'jwk' }) as JWK }
  }

  // Of one that signs no more nothing is kept open: evidence is read seldom.
  function evidenceOf(key: StoredKey): EvidenceKey {
    const { alg, publicJwk } = opened.get(key.kid) ?? unseal(key)
    return evidenceKey({ ...key, alg, publicJwk })
  }

  const publicHalf = (key: StoredKey) => {
    const { alg, publicJwk } = open(key)
    return { alg, publicJwk }
  }

  async function refresh(): Promise<void> {
    const turn = ++reading
    const startedAt = monotonic()
    const list = await store.list()
    // Of overlapping reads the one begun last wins, whichever ends last.
    if (turn < shown) return
    const published = list.filter((key) => isPublished(key.state))
    const next = jwksDocument(published.map((key) => ({ ...key, ...publicHalf(key) })))
    shown = turn
    stored = new Map(list.map((key) => [key.kid, key]))
    active = new Map(list.filter((key) => key.state === 'active').map((key) => [key.purpose, key]))
    document = next
    readAt = startedAt
    for (const kid of opened.keys()) {
      const key = stored.get(kid)
      if (!key || !isPublished(key.state)) opened.delete(kid)
    }
  }

  function activeKey(purpose: KeyPurpose): StoredKey {
    if ((monotonic() - readAt) / 1000 > staleAfterSeconds)
      throw new Unavailable('no_active_key', `the key store has not been read for ${staleAfterSeconds} s`)
    const key = active.get(purpose)
    if (!key) throw new Unavailable('no_active_key', `no active key for ${purpose}`)
    return key
  }

  function signWith(kid: string, header: { readonly typ: string }, payload: object | string): string {
    const key = stored.get(kid)
    const justRetiring = key?.state === 'retiring' && now() - (key.retiringAt ?? 0) <= REPLICA_LAG_SECONDS
    if (!key || (activeKey(key.purpose).kid !== kid && !justRetiring))
      throw new Unavailable('no_active_key', `key ${kid} may not sign`)
    const { alg, privateKey } = open(key)
    return signJws(alg, privateKey, { alg, kid, typ: header.typ }, payload)
  }

  function verifyKey(kid: string): VerifyKey | undefined {
    const key = stored.get(kid)
    if (!key) return undefined
    const { purpose, state } = key
    if (!isPublished(state)) return { kid, purpose, state, jwk: key.publicJwk }
    const { publicJwk: jwk, publicKey } = open(key)
    return { kid, purpose, state, jwk, publicKey }
  }

  async function prepare(purpose: KeyPurpose, cause: KeyMove['cause']): Promise<string> {
    const alg = ALGORITHM[purpose]
    const privateKey = await freshKeyFor(alg)
    const publicKey = createPublicKey(privateKey)
    const publicJwk = publicKey.export({ format: 'jwk' }) as JWK
    // A prefix of RFC 7638's thumbprint: tokens of a chain name up to four kids and have 2 KB.
    const kid = (await calculateJwkThumbprint(publicJwk)).slice(0, 16)
    const bytes = Buffer.from(JSON.stringify(privateKey.export({ format: 'jwk' })))
    const sealed = sealer.seal(SEAL_LABEL, sealContext(kid, purpose), bytes)
    await announce({ kid, purpose, to: 'prepared', cause })
    const inserted = await store.insert({
      kid,
      purpose,
      alg,
      state: 'prepared',
      publicJwk,
      sealed,
      // After the key it is to succeed, also within one second or when the clock was set back: `step.ts` goes by it.
      preparedAt: Math.max(now(), (active.get(purpose)?.activatedAt ?? -1) + 1),
    })
    if (!inserted) throw new Error(`kid ${kid} was used before`) // 96 bits: a broken random source, not bad luck
    await refresh()
    return kid
  }

  async function activate(kid: string, cause: KeyMove['cause']): Promise<boolean> {
    const key = stored.get(kid)
    if (key?.state !== 'prepared') return false
    const previous = active.get(key.purpose)
    await announce({ kid, purpose: key.purpose, from: 'prepared', to: 'active', cause })
    if (previous) await announce({ kid: previous.kid, purpose: key.purpose, from: 'active', to: 'retiring', cause })
    const done = await store.activate(kid, previous?.kid, now())
    await refresh()
    return done
  }

  async function retire(kid: string, cause: KeyMove['cause']): Promise<boolean> {
    const key = stored.get(kid)
    if (key?.state !== 'retiring') return false
    await announce({ kid, purpose: key.purpose, from: 'retiring', to: 'retired', cause })
    const done = await store.move(kid, ['retiring'], 'retired', now())
    await refresh()
    return done
  }

  async function compromise(kid: string): Promise<boolean> {
    const before = stored.get(kid)
    const done = await store.move(kid, ['prepared', 'active', 'retiring', 'retired'], 'compromised', now())
    await refresh()
    // A disk that is full must not keep a stolen key alive: here the record comes second.
    if (done && before)
      await announce({ kid, purpose: before.purpose, from: before.state, to: 'compromised', cause: 'compromised' })
    return done
  }

  await refresh()
  // Together: each step of a key is durable before its next one, and what all of them write at a time shares one sync.
  await someAtOnce(deps.purposes, async (purpose) => {
    while (!active.has(purpose)) {
      const waiting = [...stored.values()].find((key) => key.purpose === purpose && key.state === 'prepared')
      await activate(waiting?.kid ?? (await prepare(purpose, 'first_start')), 'first_start')
    }
  })

  return {
    sign: (purpose, header, payload) => signWith(activeKey(purpose).kid, header, payload),
    signWith,
    signBytes(purpose, bytes) {
      const { alg, privateKey } = open(activeKey(purpose))
      if (alg !== 'EdDSA') throw new Unavailable('no_active_key', `the key of ${purpose} is no Ed25519 key`)
      return signRaw(privateKey, bytes)
    },
    activeKid: (purpose) => activeKey(purpose).kid,
    publicKeyEver(kid) {
      const key = stored.get(kid)
      return key && evidenceOf(key)
    },
    publicKeysEver: () => [...stored.values()].sort((a, b) => a.preparedAt - b.preparedAt).map(evidenceOf),
    verifyKey,
    publicJwk: (kid) => verifyKey(kid)?.publicKey && verifyKey(kid)?.jwk,
    keyFor(kid, purpose, slot) {
      const key = verifyKey(kid)
      if (!key) return refuse('unknown_kid', slot)
      if (key.purpose !== purpose) return refuse('key_scope', slot)
      // A prepared key has signed nothing yet: whatever bears its kid is not ours.
      if (key.publicKey === undefined || key.state === 'prepared') return refuse('key_state', slot)
      return ok({ ...key, publicKey: key.publicKey })
    },
    jwks: () => document,
    keys: () => [...stored.values()],
    healthy: () =>
      deps.purposes.every((purpose) => active.has(purpose)) && (monotonic() - readAt) / 1000 <= staleAfterSeconds,
    refresh,
    prepare,
    activate,
    retire,
    compromise,
  }
}
