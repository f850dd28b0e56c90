/** A standing login at Vault: its token is renewed while it lives, and got anew where Vault has ended it. */
import { setTimeout as pause } from 'node:timers/promises'
import { logIn, tokenIn, type VaultLogin, type VaultToken } from './vault-login.ts'
import { type Json, VaultFailure, type VaultPort } from './vault-port.ts'

export interface VaultSession {
  /** Where Vault says 403 the token may have ended: once more with another one, if that can be had. */
  ask<T>(question: (vault: VaultPort) => Promise<T>): Promise<T>
  /** Gives a token back that was got by a login. */
  close(): Promise<void>
}

export interface VaultSessionDeps {
  /** With a token, or as a stranger. */
  readonly open: (token?: string) => Promise<VaultPort>
  readonly login: () => Promise<VaultLogin>
  /** Milliseconds. */
  readonly monotonic: () => number
}

interface Held {
  readonly vault: VaultPort
  /** Got by a login, and ours to give back. */
  readonly own: boolean
  readonly since: number
  lifetime: number
  renewable: boolean
  renewAt: number
  endsAt: number
}

/** Of a token that is younger than this, a 403 is not for its age: another one would hear the same. */
const YOUNG_MS = 5_000
const AGAIN_MS = 5_000
const CLOSING_MS = 1_000

export function createVaultSession({ open, login, monotonic }: VaultSessionDeps): VaultSession {
  let held: Held | undefined
  let entering: Promise<Held> | undefined
  let renewing: Promise<void> | undefined

  const holding = (vault: VaultPort, own: boolean, since: number, { lifetimeSeconds, renewable }: VaultToken): Held => {
    const lifetime = lifetimeSeconds > 0 ? lifetimeSeconds * 1000 : Number.POSITIVE_INFINITY
    return { vault, own, since, lifetime, renewable, renewAt: since + lifetime / 2, endsAt: since + lifetime }
  }

  async function enter(): Promise<Held> {
    const by = await login()
    const since = monotonic()
    if ('token' in by) {
      const vault = await open(by.token)
      const { ttl, renewable, expire_time } = ((await vault.read(['auth', 'token', 'lookup-self']))['data'] ??
        {}) as Json
      // 0 is what is left of one in its last second, too.
      const lifetimeSeconds = expire_time === null || typeof ttl !== 'number' ? 0 : Math.max(ttl, 1)
      return holding(vault, false, since, { token: by.token, lifetimeSeconds, renewable: renewable === true })
    }
    const given = await logIn(await open(), by)
    return holding(await open(given.token), true, since, given)
  }

  /** One login for all who ask for it at a time, and none where somebody has been faster. */
  function another(than: Held | undefined): Promise<Held> {
    if (held !== undefined && held !== than) return Promise.resolve(held)
    entering ??= enter()
      .then((fresh) => {
        held = fresh
        return fresh
      })
      .finally(() => {
        entering = undefined
      })
    return entering
  }

  /** Whatever comes of it, the token at hand serves until its end. */
  async function renew(it: Held): Promise<void> {
    const asked = monotonic()
    it.renewAt = asked + AGAIN_MS
    if (it.renewable) {
      const answer = await it.vault.write(['auth', 'token', 'renew-self'], {}).catch((error: unknown) => {
        if (!(error instanceof VaultFailure)) throw error
      })
      if (answer) {
        const { lifetimeSeconds, renewable } = tokenIn(answer, 'a renewal')
        const lifetime = lifetimeSeconds > 0 ? lifetimeSeconds * 1000 : it.lifetime
        it.renewable = renewable
        it.endsAt = asked + lifetime
        it.renewAt = asked + Math.max(lifetime / 2, 500)
        // Given less than before it is near its greatest age: renewing alone leads nowhere.
        if (lifetime >= it.lifetime / 2) return
      }
    }
    await another(it)
  }

  async function current(): Promise<Held> {
    const it = held ?? (await another(undefined))
    const now = monotonic()
    if (now >= it.endsAt) return another(it)
    if (now >= it.renewAt) {
      renewing ??= renew(it)
        .catch(() => undefined) // asked again in a while; who needs it meets the failure itself
        .finally(() => {
          renewing = undefined
        })
    }
    return it
  }

  return {
    async ask(question) {
      const it = await current()
      try {
        return await question(it.vault)
      } catch (error) {
        if (!(error instanceof VaultFailure) || error.status !== 403) throw error
        if (held === it && monotonic() - it.since < YOUNG_MS) throw error
        return question((await another(it)).vault)
      }
    },
    async close() {
      await Promise.race([renewing, pause(CLOSING_MS, undefined, { ref: false })])
      const last = held
      held = undefined
      // Not for long: it ends by itself, and whoever stops the service waits.
      if (last?.own) await last.vault.write(['auth', 'token', 'revoke-self'], {}, CLOSING_MS).catch(() => undefined)
    },
  }
}
