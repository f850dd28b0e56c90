/** The whole exchange beside its contenders: all of them in each round, the server on one core and the load on another. */
import { createPublicKey } from 'node:crypto'
import type { Bench } from './bench.ts'
import { openSite, prepare, type Site } from './load.ts'
import { partsOff } from './parts.ts'
import { newPair, type Peer, type ProviderClient, prepareProvider, startPeer } from './peers.ts'
import { type Contender, cpu, perSecond, type Rounds, race } from './race.ts'
import { ratio, spreadOf } from './spread.ts'

const PEERS = {
  p: 'node-oidc-provider, client secret (p)',
  q: 'node-oidc-provider, private_key_jwt (q)',
  hono: 'bare Hono, the same requests',
  http: 'bare node:http, the same requests',
  limitSteady: 'bare node:http + the bare cryptography, steady',
  limitCold: 'bare node:http + the bare cryptography, cold',
} as const
const LEFT_OUT =
  'leaves out: DPoP, attestation by a platform, policy, task, revocation, audit record; its state is in memory'
const NOTES: Readonly<Record<string, string>> = {
  p: `one verification, one signature; ${LEFT_OUT}`,
  q: `two verifications, one signature; ${LEFT_OUT}`,
  limitSteady: 'one proof verified, one signature, digests: no JSON, policy, task or record',
  limitCold: 'three verifications, a key import, one signature, digests: no JSON, policy, task or record',
}

export async function exchangeSection(bench: Bench): Promise<void> {
  const { core, nodeFlags } = bench
  const pinned = { nodeFlags, ...(core === undefined ? {} : { core }) }
  const site = await openSite(pinned)
  const peers: Peer[] = []
  const peer = async (kind: string, keys: object): Promise<Peer> => {
    const started = await startPeer(kind, keys, pinned)
    peers.push(started)
    return started
  }
  try {
    const by: ProviderClient = { user: newPair('user'), client: newPair('client'), secret: 'of-the-client-'.repeat(4) }
    const provider = await peer('oidc-provider', {
      signing: newPair('signing').privateJwk,
      subject: by.user.publicJwk,
      client: by.client.publicJwk,
      secret: by.secret,
    })
    const [hono, http] = [await peer('hono', {}), await peer('http', {})]
    const limit = await peer('limit', limitKeys(site))
    const to = ({ pid, port }: Peer, mode: 'steady' | 'cold'): Contender => ({
      pid,
      prepare: async (count) => ({ ...(await prepare(site, mode, count)), port }),
    })
    const results = await race(bench, {
      steady: { pid: site.pid, prepare: (count) => prepare(site, 'steady', count) },
      cold: { pid: site.pid, prepare: (count) => prepare(site, 'cold', count) },
      p: { pid: provider.pid, prepare: (count) => prepareProvider(provider.port, 'p', count, by) },
      q: { pid: provider.pid, prepare: (count) => prepareProvider(provider.port, 'q', count, by) },
      hono: to(hono, 'steady'),
      http: to(http, 'steady'),
      limitSteady: to(limit, 'steady'),
      limitCold: to(limit, 'cold'),
    })
    tell(bench, results)
    await partsOff(bench, site)
  } finally {
    await Promise.all(peers.map((each) => each.stop()))
    await site.close()
  }
}

/** What the bare cryptography of this site's requests needs. */
export function limitKeys(site: Site): object {
  const jwk = (key: Site['keys']['workload']) => createPublicKey(key).export({ format: 'jwk' })
  return {
    signing: newPair('signing').privateJwk,
    evidence: jwk(site.keys.workload),
    subject: jwk(site.keys.user.key),
  }
}

function tell(bench: Bench, results: Rounds<'steady' | 'cold' | keyof typeof PEERS>): void {
  const named = { steady: 'Errand, whole exchange, steady', cold: 'Errand, whole exchange, cold', ...PEERS }
  for (const [key, name] of Object.entries(named)) {
    const rounds = results[key as keyof typeof results]
    const note = NOTES[key]
    bench.note(name, perSecond(rounds), '/s', note === undefined ? {} : { note })
    bench.note(`${name}: CPU`, cpu(rounds), 'µs')
  }
  const of = (key: keyof typeof results) => perSecond(results[key])
  bench.note('steady ÷ p', ratio(of('steady'), of('p')), '×', { atLeast: 1.5 })
  bench.note('steady ÷ q', ratio(of('steady'), of('q')), '×', { atLeast: 2.2 })
  bench.note('cold ÷ q', ratio(of('cold'), of('q')), '×', { atLeast: 1 })
  bench.note('steady ÷ its limit', ratio(of('steady'), of('limitSteady')), '×', { atLeast: 0.6 })
  bench.note('cold ÷ its limit', ratio(of('cold'), of('limitCold')), '×', { atLeast: 0.6 })
  // Where the fastest server still was busy, the load generator held nobody back.
  const busy = results.http.map((result) => ((result.cpuMicros ?? 0) * result.perSecond) / 1e6)
  bench.note('share of its core that the fastest server used', spreadOf(busy), '×', {
    note: 'near 1: what sends the load is not what is measured',
  })
}
