/** The key store's promise in memory: what tests of the ring and of rotation stand on. */
import type { KeyStore, StoredKey } from '../../src/keys/key-store.ts'

export interface MemoryKeyStore extends KeyStore {
  /** Puts rows there as they are, past the promises: what somebody with the store's password could do. */
  plant(key: StoredKey): void
}

export function memoryKeyStore(): MemoryKeyStore {
  const keys = new Map<string, StoredKey>()
  const activeOf = (purpose: StoredKey['purpose']) =>
    [...keys.values()].find((key) => key.purpose === purpose && key.state === 'active')
  return {
    plant: (key) => void keys.set(key.kid, key),
    list: async () => [...keys.values()],
    insert: async (key) => {
      if (keys.has(key.kid)) return false
      keys.set(key.kid, key)
      return true
    },
    activate: async (kid, expectedActive, at) => {
      const key = keys.get(kid)
      if (key?.state !== 'prepared') return false
      const active = activeOf(key.purpose)
      if (active?.kid !== expectedActive) return false
      if (active) keys.set(active.kid, { ...active, state: 'retiring', retiringAt: at })
      keys.set(kid, { ...key, state: 'active', activatedAt: at })
      return true
    },
    move: async (kid, from, to, at) => {
      const key = keys.get(kid)
      if (!key || !from.includes(key.state)) return false
      keys.set(kid, { ...key, state: to, retiredAt: at })
      return true
    },
  }
}
