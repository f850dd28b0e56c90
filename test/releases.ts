/** Release manifests for tests: made by hand, signed by a key of the test. */
import { createHash } from 'node:crypto'
import { canonicalize } from '../src/audit/canonical.ts'
import type { Json } from '../src/audit/log.ts'
import { type Manifest, manifestText, releaseId, sha256 } from '../src/attest/release-manifest.ts'
import { type KeyPair, newKeyPair, signJws } from './house.ts'

export const imageOf = (name: string): string => `sha256:${createHash('sha256').update(name).digest('hex')}`

export const READ_TICKET = {
  name: 'read_ticket',
  description: 'Reads one ticket.',
  inputSchema: { type: 'object', properties: { ticket_id: { type: 'string' } }, required: ['ticket_id'] },
}

export const toolOf = (definition: { readonly name: string }): Manifest['tools'][number] => {
  const schema = canonicalize(definition as unknown as Json)
  return { name: definition.name, digest: sha256(schema), schema }
}

export const manifestOf = (more: Partial<Manifest> = {}): Manifest => ({
  v: 1,
  agent: 'research',
  version: '1.0.0',
  image: imageOf('research:1.0.0'),
  model: 'anthropic/claude-sonnet-4-5',
  prompts: [{ name: 'prompts/system.md', digest: sha256('You answer questions about tickets.') }],
  tools: [toolOf(READ_TICKET)],
  skills: [],
  components: ['pkg:npm/hono@4.11.4', 'pkg:pypi/litellm@1.82.8'],
  ...more,
})

export const idOf = (manifest: Manifest): string => releaseId(manifestText(manifest))

export const SIGNED_AT = 1_790_000_000

export interface Signer extends KeyPair {
  readonly kid: string
  /** As it stands in a file of the keys folder. */
  readonly file: string
}

export function newSigner(kid = 'ci-1'): Signer {
  const pair = newKeyPair()
  return { ...pair, kid, file: JSON.stringify({ ...pair.publicJwk, kid, alg: 'ES256', use: 'sig' }) }
}

/** `payload` instead of the manifest's own text signs what no tool of ours would write. */
export const signRelease = (
  manifest: Manifest,
  signer: Signer,
  { header = {}, payload = manifestText(manifest) }: { readonly header?: object; readonly payload?: string } = {},
): string =>
  signJws({ typ: 'errand-release+jwt', kid: signer.kid, iat: SIGNED_AT, ...header }, payload, signer.privateKey)

/** The lines to add to an agent's file. */
export const releaseSection = (more = ''): string => `release:\n  keys_file: releases/ci.pub.jwk\n${more}`
