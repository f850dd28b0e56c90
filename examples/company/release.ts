/** What the company's pipeline would do: says what the research agent is made of, and signs it. */
import { createHash, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The part that the second act is about. */
export const BAD_COMPONENT = 'pkg:pypi/litellm@1.82.8'

/** Writes the signed manifest into `config` and the pipeline's public key into `keys`; answers the release's id. */
export function releaseResearchAgent({ config, keys }: { readonly config: string; readonly keys: string }): string {
  // RFC 8785: members in order, nothing between them.
  const manifest = JSON.stringify({
    agent: 'research',
    components: [BAD_COMPONENT],
    model: 'anthropic/claude-sonnet-4-5',
    prompts: [],
    skills: [],
    tools: [],
    v: 1,
    version: '1.4.2',
  })
  const pair = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  const key = createPrivateKey(pair.privateKey)
  const { d: _, ...publicJwk } = key.export({ format: 'jwk' })
  const header = { alg: 'ES256', typ: 'errand-release+jwt', kid: 'ci', iat: Math.floor(Date.now() / 1000) }
  const input = [JSON.stringify(header), manifest].map((part) => Buffer.from(part).toString('base64url')).join('.')
  const signature = sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')

  mkdirSync(join(config, 'releases'), { recursive: true })
  mkdirSync(join(keys, 'releases'), { recursive: true, mode: 0o700 })
  writeFileSync(join(config, 'releases', 'research-1.4.2.jws'), `${input}.${signature}`)
  writeFileSync(
    join(keys, 'releases', 'ci.pub.jwk'),
    JSON.stringify({ ...publicJwk, kid: 'ci', alg: 'ES256', use: 'sig' }),
  )
  return createHash('sha256').update(manifest).digest('base64url').slice(0, 22)
}
