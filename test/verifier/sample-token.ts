/** A valid access token to start from: each test of the verifier's core spoils one thing of it. */
import type { KeyObject } from 'node:crypto'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { type PublicJwk, signEs256 } from '@errand/verifier/signature.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

export const NOW = 1_700_000_000
export const ISSUER = 'https://errand.example.com'
export const AUDIENCE = 'https://tickets.example.com/'

export const sampleClaims: AccessTokenClaims = {
  iss: ISSUER,
  aud: AUDIENCE,
  exp: NOW + 300,
  iat: NOW,
  jti: 'AAECAwQFBgcICQoLDA0ODxAREhM',
  client_id: 'research',
  sub: 'corp|alice',
  act: { sub: 'spiffe://company.example/agents/research' },
  scope: 'tickets:read tickets:search',
  authorization_details: [
    {
      type: 'tool',
      tool: 'tickets',
      effect: 'read',
      operations: ['read', 'search'],
      constraints: { type: 'object', properties: { limit: { type: 'integer', maximum: 50 } } },
    },
  ],
  cnf: { jkt: 'A'.repeat(43) },
  task: { id: 'task_AAECAwQFBgcICQoLDA0ODw', root: 'task_AAECAwQFBgcICQoLDA0ODw', depth: 1 },
  att: { kind: 'private_key_jwt', tier: 'key' },
  rev: '0.7',
  pol: 'p0l1cy',
}

export interface Signer {
  readonly privateKey: KeyObject
  readonly jwk: PublicJwk
}

export function makeSigner(namedCurve = 'P-256'): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve })
  const { crv, x, y } = publicKey.export({ format: 'jwk' })
  return { privateKey, jwk: { kty: 'EC', crv: crv!, x: x!, y: y! } }
}

export const b64 = (text: string | Uint8Array): string => Buffer.from(text).toString('base64url')

/** Three parts of whatever text, unsigned. */
export const jwtOf = (header: string | object, payload: string | Uint8Array | object, signature = 'AA'): string => {
  const part = (value: string | Uint8Array | object) =>
    b64(typeof value === 'string' || value instanceof Uint8Array ? value : JSON.stringify(value))
  return `${part(header)}.${part(payload)}.${signature}`
}

export const signSample = (signer: Signer, changes: object = {}, header: object = {}): string =>
  signEs256(signer.privateKey, { typ: 'at+jwt', kid: 'k1', ...header }, { ...sampleClaims, ...changes })
