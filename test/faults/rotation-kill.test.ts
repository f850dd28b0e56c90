/** FI-12: a wish for a new token key each second, the service killed again and again, and a JWKS as old as caches may have it. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Verifier, VerifierOptions } from '@errand/verifier'
import { expect, it } from 'vitest'
import { decode, type KeyPair, newKeyPair } from '../house.ts'
import { openSite, type Replica, verdictOf } from './site.ts'

const ROUNDS = 3
const ROUND_MS = 5_000
const MAX_AGE_SECONDS = 2
const KEYS = `keys: { lifetime_seconds: 60, overlap_seconds: 3, jwks_max_age_seconds: ${MAX_AGE_SECONDS} }\n`

const OTHERS = {
  crm: 'https://crm.example.com/',
  github: 'https://github-gateway.example.com/',
  payments: 'https://payments.example.com/',
  warehouse: 'https://warehouse.example.com/',
}

type Fetch = NonNullable<VerifierOptions['fetch']>

/** A cache in front of a tool that gives out the key set until its last moment, and hears of nothing newer. */
function lazyCache(): Fetch {
  let kept: { readonly answer: Response; readonly at: number } | undefined
  return async (url, init) => {
    if (!String(url).endsWith('/.well-known/jwks.json')) return fetch(url, init)
    const age = kept ? (performance.now() - kept.at) / 1000 : 0
    if (!kept || age >= MAX_AGE_SECONDS) {
      const answer = await fetch(url, init)
      if (!answer.ok) return answer
      kept = { answer, at: performance.now() }
      return answer.clone()
    }
    const headers = new Headers(kept.answer.headers)
    headers.set('age', String(Math.floor(age))) // RFC 9111 §5.1
    return new Response(await kept.answer.clone().text(), { headers })
  }
}

/** Answers 503: a verifier that has lost its service, and holds no key set or epoch any more that is good, is asked again. */
const AWAY = ['revocation_state_stale', 'keys_unavailable']

async function verdictAtLast(verifier: Verifier, token: string, proofKey: KeyPair): Promise<string> {
  for (const until = performance.now() + 10_000; ; await pause(100)) {
    const verdict = await verdictOf(verifier, token, proofKey)
    if (!AWAY.includes(verdict) || performance.now() > until) return verdict
  }
}

it('FI-12 O1 O2 O3 O4 keys rotated while the service is killed: no token refused, each key published first, one active', async () => {
  const site = await openSite({ settings: KEYS })
  let service: Replica = await site.start()
  try {
    const admin = await site.admin(service.base)
    const research = await site.agent(service.base, 'research')
    const asAlice = await site.alice()
    const verifiers = [await site.verifier(service.base), await site.verifier(service.base, { fetch: lazyCache() })]
    // A key signs as soon as all of them hold it: also whoever sits behind the old cache.
    for (const [tool, audience] of Object.entries(OTHERS))
      await site.verifier(service.base, { tool, audience, key: { ...(await site.jwk(`tools/${tool}.jwk`)) } })
    const published = new Set<string>()
    const seen = new Set<string>()
    const wrong: string[] = []
    let over = false

    const look = async () => {
      const { keys } = (await (await fetch(`${service.base}/.well-known/jwks.json`)).json()) as {
        keys: readonly { readonly kid: string }[]
      }
      for (const { kid } of keys) published.add(kid)
    }
    /** While the service is away nothing is answered; that is no refusal. */
    const whereItIs = (work: () => Promise<unknown>) => work().catch(() => pause(50))
    const until = async (everyMs: number, work: () => Promise<unknown>) => {
      while (!over) {
        await whereItIs(work)
        await pause(everyMs)
      }
    }
    const ask = async () => {
      const proofKey = newKeyPair()
      const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey })
      if (reply.status !== 200) throw new Error(`answered ${reply.status}`)
      const token = String(reply.body['access_token'])
      return { token, proofKey, kid: String(decode(token).header['kid']) }
    }
    const use = async () => {
      const got = await ask()
      seen.add(got.kid)
      if (!published.has(got.kid)) wrong.push(`${got.kid} signed before anybody saw it published`)
      for (const [index, verifier] of verifiers.entries()) {
        const verdict = await verdictAtLast(verifier, got.token, got.proofKey)
        if (verdict !== 'accepted') wrong.push(`verifier ${index}: ${verdict} (key ${got.kid})`)
      }
    }
    const active = async (): Promise<readonly string[]> => {
      const { keys } = (await admin.call('GET', '/keys')).body as {
        keys: readonly { readonly kid: string; readonly purpose: string; readonly state: string }[]
      }
      return keys.filter(({ purpose, state }) => purpose === 'token' && state === 'active').map(({ kid }) => kid)
    }

    await look()
    const work = Promise.all([
      until(150, look),
      until(100, use),
      until(1000, () => admin.call('POST', '/keys/rotate', {})),
    ])
    for (let round = 0; round < ROUNDS; round += 1) {
      // Wherever it is then: between publishing and activating, or between that and retiring.
      await pause(ROUND_MS + Math.floor(Math.random() * 1000))
      service.signal('SIGKILL')
      expect(await service.ended).toBe('SIGKILL')
      service = await site.start()
      expect(await active()).toHaveLength(1)
    }
    await pause(ROUND_MS)
    over = true
    await work
    expect(wrong).toEqual([])
    expect(seen.size).toBeGreaterThan(2)
    expect(await active()).toHaveLength(1)

    // O4: what the key signed is dead, by a feed that it never signed or because it is in no set any more; the next key is
    // accepted, also behind the old cache.
    const last = await ask()
    expect((await admin.call('POST', '/keys/compromise', { kid: last.kid, reason: 'it was copied' })).status).toBe(200)
    for (const verifier of verifiers)
      await expect
        .poll(() => verdictOf(verifier, last.token, last.proofKey), { timeout: 5_000 })
        .toMatch(/^(?:revoked|unknown_kid)$/)
    const next = await ask()
    expect(next.kid).not.toBe(last.kid)
    for (const verifier of verifiers)
      await expect
        .poll(() => verdictOf(verifier, next.token, next.proofKey), { timeout: 20_000, interval: 500 })
        .toBe('accepted')
  } finally {
    await site.close()
  }
}, 120_000)
