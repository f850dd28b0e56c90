/**
 * Verifiers as tools have them, in a process of their own. argv: how many, issuer, key file, tool, and a relay's URL where
 * they follow one. Told a token id it says when the last of them refused it; clocks of one machine are one clock.
 */
import { readFileSync } from 'node:fs'
import { createServiceClient } from '@errand/verifier/client.ts'
import { createFollower } from '@errand/verifier/follower.ts'
import { createJwks } from '@errand/verifier/jwks.ts'

const [count = '', issuer = '', keyFile = '', tool = '', relay] = process.argv.slice(2)
const now = () => Date.now() / 1000
const monotonic = () => performance.now()
const key = JSON.parse(readFileSync(keyFile, 'utf8'))
const fetch = globalThis.fetch

const followers = Array.from({ length: Number(count) }, () => {
  const common = { fetch, monotonic, random: Math.random, onProblem: () => undefined, timeoutMs: 5_000 }
  const client = createServiceClient({ issuer, serviceUrl: issuer, clientId: `tool:${tool}`, key, now, ...common })
  const jwks = createJwks({ url: `${issuer}/.well-known/jwks.json`, ...common })
  return createFollower({
    issuer,
    serviceUrl: issuer,
    feedUrl: relay,
    jwks,
    client,
    now,
    onRegression: () => undefined,
    ...common,
  })
})

/** Milliseconds of the machine's monotonic clock. */
const clock = () => Number(process.hrtime.bigint()) / 1e6
const bound = 30

process.on('message', ({ jti }: { readonly jti: string }) => {
  // As decisions see it: the token was checked before anything that comes now.
  const open = followers.map((follower) => ({
    follower,
    hops: [{ facts: { jti, aud: 'https://tickets.example.com/' }, rev: { generation: 0, sequence: 0 } }],
  }))
  const look = () => {
    for (let at = open.length - 1; at >= 0; at--) {
      const { follower, hops } = open[at]!
      if (follower.verdict(hops, bound).kind === 'dead') open.splice(at, 1)
    }
    if (open.length === 0) process.send!({ refused: clock() })
    else setTimeout(look, 1)
  }
  look()
})
process.on('disconnect', () => process.exit())
await Promise.all(followers.map((follower) => follower.refresh()))
const settled = () =>
  followers.every((follower) => follower.status().ageSeconds < 1.5)
    ? process.send!({ ready: true })
    : setTimeout(settled, 50)
setTimeout(settled, 1_000)
