/** Signs by the keys that a ring shows: here where they are here, and else with who has them, believing no answer unseen. */
import { Unavailable } from '../oauth/refusal.ts'
import { type KeyRing, REPLICA_LAG_SECONDS } from './key-ring.ts'
import type { KeyPurpose, StoredKey } from './key-store.ts'
import type { RemoteSigner } from './remote-signer.ts'
import type { OpenedKey } from './sealed-key.ts'
import { isSignature, signingInput, signJws, signRaw } from './sign.ts'

/** At once where the private key is here; where somebody else has it, as soon as that one has signed. */
export type Signed<T> = T | Promise<T>

interface SigningDeps {
  readonly find: (kid: string) => StoredKey | undefined
  /** Throws where none may sign. */
  readonly activeKey: (purpose: KeyPurpose) => StoredKey
  readonly open: (key: StoredKey) => OpenedKey
  readonly signer?: RemoteSigner
  readonly now: () => number
}

export function createSigning({
  find,
  activeKey,
  open,
  signer,
  now,
}: SigningDeps): Pick<KeyRing, 'sign' | 'signWith' | 'signBytes' | 'activeKid'> {
  function signing(kid: string): StoredKey {
    const key = find(kid)
    const justRetiring = key?.state === 'retiring' && now() - (key.retiringAt ?? 0) <= REPLICA_LAG_SECONDS
    if (!key || (activeKey(key.purpose).kid !== kid && !justRetiring))
      throw new Unavailable('no_active_key', `key ${kid} may not sign`)
    return key
  }

  function signerFor(kid: string, kind: string): RemoteSigner {
    if (signer?.kind === kind) return signer
    throw new Unavailable('no_active_key', `key ${kid} is with ${kind}, which errand.yaml does not name`)
  }

  async function signedElsewhere(kid: string, { alg, publicKey, held }: OpenedKey, bytes: Uint8Array) {
    if ('privateKey' in held) throw new Error(`key ${kid} is here`)
    const signature = await signerFor(kid, held.kind).sign(held.ref, alg, bytes)
    if (!isSignature(alg, publicKey, bytes, signature))
      throw new Unavailable('signer_unavailable', `what ${held.kind} answered is no signature by key ${kid}`)
    signing(kid) // it may have been given up meanwhile
    return signature
  }

  function signWith(kid: string, header: { readonly typ: string }, payload: object | string): Signed<string> {
    const key = open(signing(kid))
    const { alg, held } = key
    const head = { alg, kid, typ: header.typ }
    if ('privateKey' in held) return signJws(alg, held.privateKey, head, payload)
    const input = signingInput(alg, head, payload)
    return signedElsewhere(kid, key, Buffer.from(input, 'latin1')).then(
      (signature) => `${input}.${Buffer.from(signature).toString('base64url')}`,
    )
  }

  return {
    sign: (purpose, header, payload) => signWith(activeKey(purpose).kid, header, payload),
    signWith,
    signBytes(purpose, bytes) {
      const { kid } = activeKey(purpose)
      const key = open(signing(kid))
      if (key.alg !== 'EdDSA') throw new Unavailable('no_active_key', `the key of ${purpose} is no Ed25519 key`)
      return 'privateKey' in key.held ? signRaw(key.held.privateKey, bytes) : signedElsewhere(kid, key, bytes)
    },
    activeKid(purpose) {
      const key = activeKey(purpose)
      const { held } = open(key)
      if ('kind' in held) signerFor(key.kid, held.kind).ready()
      return key.kid
    },
  }
}
