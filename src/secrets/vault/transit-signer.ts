/** Signs with keys of a transit engine: each version of one is a key of ours, with a kid of its own. */
import type { Fetch } from '@errand/verifier/http.ts'
import type { SigningSource } from '../../config/signing-source.ts'
import { KeyMaterialError } from '../../keys/key-file.ts'
import { ALGORITHM, type KeyPurpose } from '../../keys/key-store.ts'
import type { RemoteKey, RemoteRef, RemoteSigner } from '../../keys/remote-signer.ts'
import { Unavailable } from '../../oauth/refusal.ts'
import { createLanes } from './lanes.ts'
import { readKey, rotateKey, signWithKey, type TransitKey } from './transit-keys.ts'
import { loginFrom } from './vault-login.ts'
import { createVaultPort, VaultFailure, type VaultPort } from './vault-port.ts'
import { createVaultSession, type VaultSession } from './vault-session.ts'

export type TransitSource = NonNullable<SigningSource['vault_transit']>

export interface TransitSigner extends RemoteSigner {
  /** Logs in, so that the first signature need not wait for it. What fails is told to who needs it. */
  begin(): void
  close(): Promise<void>
}

interface TransitDeps {
  readonly fetch: Fetch
  /** Milliseconds. */
  readonly monotonic: () => number
}

/** After so many failures in a row nobody waits any more: one asks each second whether it is back. */
const MOST_FAILURES = 3
const AGAIN_MS = 1_000
const WAITING_PER_LANE = 16
/** For logins and new keys, for which no caller with a token to come is kept waiting: one of RSA takes a while to make. */
const PATIENT_MS = 10_000

export const openVaultSession = (source: TransitSource, { fetch, monotonic }: TransitDeps): VaultSession => {
  const { address, namespace } = source
  return createVaultSession({
    open: (token) =>
      createVaultPort({
        address,
        namespace,
        fetch,
        timeoutMs: PATIENT_MS,
        ...(token === undefined ? {} : { token }),
      }),
    login: loginFrom(source),
    monotonic,
  })
}

export function createTransitSigner(source: TransitSource, deps: TransitDeps): TransitSigner {
  const { mount, keys, timeout_milliseconds: milliseconds, max_concurrent: lanesOpen } = source
  const session = openVaultSession(source, deps)
  const lanes = createLanes({ lanes: lanesOpen, mostWaiting: lanesOpen * WAITING_PER_LANE, milliseconds })
  let failures = 0
  let againAt = 0

  const isAway = () => failures >= MOST_FAILURES && deps.monotonic() < againAt

  async function asking<T>(what: string, question: () => Promise<T>): Promise<T> {
    if (isAway()) throw away(source, 'it has not answered lately')
    if (failures >= MOST_FAILURES) againAt = deps.monotonic() + AGAIN_MS
    try {
      const answer = await question()
      failures = 0
      return answer
    } catch (error) {
      if (isOutage(error)) {
        failures += 1
        againAt = deps.monotonic() + AGAIN_MS
      }
      throw unavailable(source, what, error)
    }
  }

  const keyFor = (purpose: KeyPurpose): TransitKey => {
    const key = keys[purpose as keyof typeof keys]
    if (key === undefined) throw new Unavailable('no_active_key', `no key in Vault is named for ${purpose}`)
    return { mount, key }
  }
  const newest = async (vault: VaultPort, key: TransitKey, purpose: KeyPurpose): Promise<RemoteKey> => {
    const { version, publicJwk } = await readKey(vault, key, ALGORITHM[purpose])
    return { ref: { ...key, version }, publicJwk }
  }

  return {
    kind: 'vault_transit',
    makes: (purpose) => keys[purpose as keyof typeof keys] !== undefined,
    newest: async (purpose) => {
      const key = keyFor(purpose)
      return asking(`read ${key.mount}/keys/${key.key}`, () => session.ask((vault) => newest(vault, key, purpose)))
    },
    make: async (purpose) => {
      const key = keyFor(purpose)
      // Where its answer is lost, the version that was made is found to be the newest next time.
      await asking(`update ${key.mount}/keys/${key.key}/rotate`, () => session.ask((vault) => rotateKey(vault, key)))
      return asking(`read ${key.mount}/keys/${key.key}`, () => session.ask((vault) => newest(vault, key, purpose)))
    },
    sign: (ref, alg, bytes) => {
      const key = keyIn(ref)
      return asking(`update ${key.mount}/sign/${key.key}`, () =>
        lanes.through(() => session.ask((vault) => signWithKey(vault, key, alg, bytes, milliseconds))),
      )
    },
    ready() {
      if (isAway()) throw away(source, 'it has not answered lately')
    },
    begin: () => void session.ask(async () => undefined).catch(() => undefined),
    answers: () => failures < MOST_FAILURES,
    close: () => session.close(),
  }
}

/** Of all its keys, and not of the one that was asked for. */
const isOutage = (error: unknown): boolean =>
  error instanceof VaultFailure && error.status !== 400 && error.status !== 404

/** As it was when the key was made: an engine that is mounted elsewhere now has other keys. */
function keyIn({ mount, key, version }: RemoteRef): TransitKey & { readonly version: number } {
  if (typeof mount !== 'string' || typeof key !== 'string' || typeof version !== 'number')
    throw new Unavailable('no_active_key', 'a key that is said to be in Vault does not say where')
  return { mount, key, version }
}

const away = ({ address }: TransitSource, why: string): Unavailable =>
  new Unavailable('signer_unavailable', `Vault at ${new URL(address).host} does not sign: ${why}`)

function unavailable(source: TransitSource, what: string, error: unknown): unknown {
  if (error instanceof KeyMaterialError) return away(source, error.message)
  return error instanceof VaultFailure ? away(source, whyOf(error, what)) : error
}

/** What to look for, where Vault or nobody answered. */
export function whyOf({ status, message }: VaultFailure, what: string): string {
  switch (status) {
    case 400:
      return `it answered 400 to "${what}": is the key there, and the login good?`
    case 403:
      return `it answered 403: may this login ${what}?`
    case 404:
      return `it answered 404 to "${what}": is the engine mounted there, with that key?`
    case 500:
      return `it answered 500 to "${what}": that version of the key may have been taken from use`
    case 503:
      return 'it answered 503: it is sealed'
    default:
      return message
  }
}
