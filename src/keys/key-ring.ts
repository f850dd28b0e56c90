/** The signing keys in force: signs with the active key of a purpose, and knows which keys still verify. */
import type { KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import { ok, type Result, refuse, type Slot, Unavailable } from '../oauth/refusal.ts'
import { type EvidenceKey, evidenceKey, isPublished, type JwksDocument, jwksDocument } from './jwks-document.ts'
import type { ALGORITHM, KeyPurpose, KeyState, KeyStore, StoredKey } from './key-store.ts'
import { isMadeAsNow, newKey } from './new-key.ts'
import type { RemoteRef, RemoteSigner } from './remote-signer.ts'
import type { Sealer } from './seal.ts'
import { type OpenedKey, unsealKey } from './sealed-key.ts'
import { createSigning, type Signed } from './signing.ts'
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
  /** Of one that is made: who has its private half, where that is not here. */
  readonly signer?: string
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
   * `Unavailable('no_active_key')` where nothing may sign, and `Unavailable('signer_unavailable')` where who has the
   * key does not answer. Never another key instead.
   */
  sign(purpose: KeyPurpose, header: { readonly typ: string }, payload: object): Signed<string>
  /**
   * By exactly this key, active now or a moment ago: claims are drafted, with the kid that revocation was checked
   * for, before they are signed. Throws as `sign` does.
   */
  signWith(kid: string, header: { readonly typ: string }, payload: object | string): Signed<string>
  /** Over the bytes as they are, by the active key of a purpose whose keys are of Ed25519. Throws as `sign` does. */
  signBytes(purpose: RawPurpose, bytes: Uint8Array): Signed<Uint8Array>
  /** Throws as `sign` does, before anything is done that a signature is to follow. */
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
  /** Who signs with it, where that is not done here. */
  signerOf(kid: string): { readonly kind: string; readonly ref: RemoteRef } | undefined
  /** Whether every purpose has a key that may sign at this moment, for `/ready`. */
  healthy(): boolean
  /** Whether those who sign elsewhere answer. */
  signersAnswer(): boolean
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
  /** Who makes the keys of some purposes, and signs with them. */
  readonly signer?: RemoteSigner
}

/** Opens the ring on a store; where a purpose has no active key it makes one, so at first start nothing else is needed. */
export async function openKeyRing(deps: KeyRingDeps): Promise<KeyRing> {
  const { store, sealer, now, monotonic, announce, signer } = deps
  const staleAfterSeconds = deps.staleAfterSeconds ?? REPLICA_LAG_SECONDS
  const opened = new Map<string, OpenedKey>()
  let stored: ReadonlyMap<string, StoredKey> = new Map()
  let active: ReadonlyMap<KeyPurpose, StoredKey> = new Map()
  let document = jwksDocument([])
  let readAt = monotonic()
  let reading = 0
  let shown = 0

  function open(key: StoredKey): OpenedKey {
    const known = opened.get(key.kid)
    if (known) return known
    const fresh = unsealKey(sealer, key)
    opened.set(key.kid, fresh)
    return fresh
  }

  // Of one that signs no more nothing is kept open: evidence is read seldom.
  const glance = (key: StoredKey) => opened.get(key.kid) ?? unsealKey(sealer, key)

  function evidenceOf(key: StoredKey): EvidenceKey {
    const { alg, publicJwk } = glance(key)
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
    show(list)
    shown = turn
    readAt = startedAt
  }

  function show(list: readonly StoredKey[]): void {
    const published = list.filter((key) => isPublished(key.state))
    const next = jwksDocument(published.map((key) => ({ ...key, ...publicHalf(key) })))
    stored = new Map(list.map((key) => [key.kid, key]))
    active = new Map(list.filter((key) => key.state === 'active').map((key) => [key.purpose, key]))
    document = next
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

  const hasKey = (purpose: KeyPurpose): boolean => {
    const key = active.get(purpose)
    const held = key && open(key).held
    return held !== undefined && ('privateKey' in held || held.kind === signer?.kind)
  }
  const signing = createSigning({ find: (kid) => stored.get(kid), activeKey, open, now, ...(signer ? { signer } : {}) })

  function verifyKey(kid: string): VerifyKey | undefined {
    const key = stored.get(kid)
    if (!key) return undefined
    const { purpose, state } = key
    if (!isPublished(state)) return { kid, purpose, state, jwk: key.publicJwk }
    const { publicJwk: jwk, publicKey } = open(key)
    return { kid, purpose, state, jwk, publicKey }
  }

  async function prepare(purpose: KeyPurpose, cause: KeyMove['cause']): Promise<string> {
    const key = await newKey(deps, purpose, cause, (kid) => stored.has(kid))
    const { kid } = key
    const madeBy = signer?.makes(purpose) ? { signer: signer.kind } : {}
    await announce({ kid, purpose, to: 'prepared', cause, ...madeBy })
    const inserted = await store.insert({
      ...key,
      state: 'prepared',
      // After the key it is to succeed, also within one second or when the clock was set back: `step.ts` goes by it.
      preparedAt: Math.max(now(), (active.get(purpose)?.activatedAt ?? -1) + 1),
    })
    await refresh()
    // Of one that is made elsewhere another replica may have been told too. Else it is 96 bits of a broken random source.
    const before = inserted ? undefined : stored.get(kid)
    const isShared = signer?.makes(purpose) && before?.purpose === purpose && isPublished(before.state)
    if (!inserted && !isShared) throw new Error(`kid ${kid} was used before`)
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
    const at = now()
    const done = await store.move(kid, ['prepared', 'active', 'retiring', 'retired'], 'compromised', at)
    // At once: should the store not be read now, what was in force before would sign by it.
    if (done)
      show([...stored.values()].map((key) => (key.kid === kid ? { ...key, state: 'compromised', retiredAt: at } : key)))
    const unread = await refresh().then(
      () => undefined,
      (error: unknown) => error,
    )
    // A disk that is full must not keep a stolen key alive: here the record comes second.
    if (done && before)
      await announce({ kid, purpose: before.purpose, from: before.state, to: 'compromised', cause: 'compromised' })
    if (unread !== undefined) throw unread
    return done
  }

  /** Keys are made elsewhere now than those that are there: the next one is of the new kind, and takes over in its time. */
  async function moveHouse(purpose: KeyPurpose): Promise<void> {
    const isAtHome = (key: StoredKey) => isMadeAsNow(deps, purpose, open(key))
    const spares = [...stored.values()].filter((key) => key.purpose === purpose && key.state === 'prepared')
    for (const { kid } of spares.filter((key) => !isAtHome(key))) {
      await announce({ kid, purpose, from: 'prepared', to: 'retired', cause: 'asked' })
      await store.move(kid, ['prepared'], 'retired', now())
      await refresh()
    }
    const current = active.get(purpose)
    if (!current || isAtHome(current)) return
    const next = spares.find(isAtHome)?.kid ?? (await prepare(purpose, 'asked'))
    const { held } = open(current)
    // Who has the active one is not named any more, so nothing signs: waiting for caches would only prolong it.
    if ('kind' in held && held.kind !== signer?.kind) await activate(next, 'asked')
  }

  await refresh()
  // Together: each step of a key is durable before its next one, and what all of them write at a time shares one sync.
  await someAtOnce(deps.purposes, async (purpose) => {
    await moveHouse(purpose)
    while (!active.has(purpose)) {
      const waiting = [...stored.values()].find((key) => key.purpose === purpose && key.state === 'prepared')
      await activate(waiting?.kid ?? (await prepare(purpose, 'first_start')), 'first_start')
    }
  })

  return {
    ...signing,
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
    signerOf(kid) {
      const key = stored.get(kid)
      const held = key && glance(key).held
      return held && 'kind' in held ? held : undefined
    },
    healthy: () => deps.purposes.every(hasKey) && (monotonic() - readAt) / 1000 <= staleAfterSeconds,
    signersAnswer: () => signer?.answers() ?? true,
    refresh,
    prepare,
    activate,
    retire,
    compromise,
  }
}
