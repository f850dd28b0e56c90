/**
 * What OpenBao answers to what Errand asks, observed at OpenBao 2.6 (built from its main branch, development server) on
 * 22 November 2026, in this order. `contract.ts` asks each of them of the double, and of a real server where there is one.
 */

/** Who asks: everything is allowed, a policy for four keys, one that was revoked, one that cannot be renewed. */
export type Bearer = 'root' | 'limited' | 'revoked' | 'batch' | 'fixed' | 'wrong' | 'nobody'

export interface Fact {
  readonly says: string
  readonly by: Bearer
  readonly ask: readonly ['GET' | 'POST', string, Readonly<Record<string, unknown>>?]
  readonly status: number
  /** Exactly these. */
  readonly errors?: readonly string[]
  /** Among its `data`. */
  readonly data?: Readonly<Record<string, unknown>>
  readonly auth?: Readonly<Record<string, unknown>>
  /** Kept for later questions, as `$name`. */
  readonly keep?: readonly [name: string, member: string]
}

const DIGEST = 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=' // SHA-256 of "hello"
const HELLO = 'aGVsbG8='
const hashed = { input: DIGEST, prehashed: true, hash_algorithm: 'sha2-256' }
const oneError = (what: string) => `1 error occurred:\n\t* ${what}\n\n`
const BASE64URL_64 = /^vault:v1:[A-Za-z0-9_-]{86}$/

export const FACTS: readonly Fact[] = [
  // keys
  {
    says: 'a signing key is shown with the public half of each version, as PEM',
    by: 'limited',
    ask: ['GET', '{mount}/keys/errand-token'],
    status: 200,
    data: {
      type: 'ecdsa-p256',
      latest_version: 1,
      min_decryption_version: 1,
      min_encryption_version: 0,
      min_available_version: 0,
      derived: false,
      exportable: false,
      allow_plaintext_backup: false,
      deletion_allowed: false,
      'keys.1.public_key': /^-----BEGIN PUBLIC KEY-----\n/,
    },
  },
  {
    says: 'of Ed25519 the public half is the bytes of the point in base64',
    by: 'limited',
    ask: ['GET', '{mount}/keys/errand-checkpoint'],
    status: 200,
    data: { type: 'ed25519', 'keys.1.public_key': /^[A-Za-z0-9+/]{43}=$/ },
  },
  {
    says: 'of a key that encrypts the versions are times',
    by: 'root',
    ask: ['GET', '{mount}/keys/errand-root'],
    status: 200,
    data: { type: 'aes256-gcm96', supports_signing: false, 'keys.1': /^[0-9.]+$/ },
  },
  { says: 'no key: 404 without a word', by: 'root', ask: ['GET', '{mount}/keys/nothing'], status: 404, errors: [] },
  {
    says: 'no engine: 404 with one',
    by: 'root',
    ask: ['POST', 'nowhere/sign/errand-token', hashed],
    status: 404,
    errors: ['no handler for route "nowhere/sign/errand-token". route entry not found.'],
  },
  // signatures
  {
    says: 'jws gives r and s, 64 bytes in base64url',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, marshaling_algorithm: 'jws', key_version: 1 }],
    status: 200,
    data: { key_version: 1, signature: BASE64URL_64 },
  },
  {
    says: 'without it the signature is ASN.1 in base64',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', hashed],
    status: 200,
    data: { signature: /^vault:v1:ME[A-Za-z0-9+/]{88,96}={0,2}$/ },
  },
  {
    says: 'Ed25519 signs the text itself',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-checkpoint', { input: HELLO, key_version: 1 }],
    status: 200,
    data: { signature: /^vault:v1:[A-Za-z0-9+/]{86}==$/ },
  },
  {
    says: 'RSA signs by PKCS #1 v1.5 where that is asked for',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-events', { ...hashed, signature_algorithm: 'pkcs1v15', key_version: 1 }],
    status: 200,
    data: { signature: /^vault:v1:[A-Za-z0-9+/]{342}==$/ },
  },
  {
    says: 'a version that is not there yet: 500',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, key_version: 9 }],
    status: 500,
    errors: [oneError('requested version for signing is higher than the latest key version')],
  },
  {
    says: 'a marshaling that is none: 400',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, marshaling_algorithm: 'der' }],
    status: 400,
    errors: ['invalid marshaling type "der"'],
  },
  {
    says: 'a hash that is none: 400',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, hash_algorithm: 'md5' }],
    status: 400,
    errors: ['invalid hash algorithm "md5"'],
  },
  {
    says: 'no base64: 400',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { input: '***' }],
    status: 400,
    errors: ['unable to decode input as base64: illegal base64 data at input byte 0'],
  },
  {
    says: 'a key that is not there signs nothing: 400, not 404',
    by: 'root',
    ask: ['POST', '{mount}/sign/nothing', hashed],
    status: 400,
    errors: ['signing key not found'],
  },
  {
    says: 'a key that encrypts does not sign: 400',
    by: 'root',
    ask: ['POST', '{mount}/sign/errand-root', hashed],
    status: 400,
    errors: ['key type aes256-gcm96 does not support signing'],
  },
  // rotation
  {
    says: 'rotating adds a version, and answers the key',
    by: 'limited',
    ask: ['POST', '{mount}/keys/errand-token/rotate', {}],
    status: 200,
    data: { latest_version: 2, 'keys.2.public_key': /^-----BEGIN PUBLIC KEY-----\n/ },
  },
  {
    says: 'the version before still signs',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, marshaling_algorithm: 'jws', key_version: 1 }],
    status: 200,
    data: { key_version: 1, signature: BASE64URL_64 },
  },
  {
    says: 'no key to rotate: 400',
    by: 'root',
    ask: ['POST', '{mount}/keys/nothing/rotate', {}],
    status: 400,
    errors: ['key not found'],
  },
  {
    says: 'min_encryption_version takes older ones from signing too',
    by: 'root',
    ask: ['POST', '{mount}/keys/errand-token/config', { min_encryption_version: 2 }],
    status: 200,
    data: { min_encryption_version: 2 },
  },
  {
    says: 'they are refused with 500',
    by: 'limited',
    ask: ['POST', '{mount}/sign/errand-token', { ...hashed, key_version: 1 }],
    status: 500,
    errors: [oneError('requested version for signing is less than the minimum encryption key version')],
  },
  // encryption
  {
    says: 'a ciphertext names its version',
    by: 'root',
    ask: ['POST', '{mount}/encrypt/errand-root', { plaintext: HELLO }],
    status: 200,
    data: { ciphertext: /^vault:v1:[A-Za-z0-9+/]+={0,2}$/, key_version: 1 },
    keep: ['ciphertext', 'ciphertext'],
  },
  {
    says: 'and opens with its key',
    by: 'root',
    ask: ['POST', '{mount}/decrypt/errand-root', { ciphertext: '$ciphertext' }],
    status: 200,
    data: { plaintext: HELLO },
  },
  {
    says: 'not with another one: 400',
    by: 'root',
    ask: ['POST', '{mount}/decrypt/other', { ciphertext: '$ciphertext' }],
    status: 400,
    errors: ['cipher: message authentication failed'],
  },
  {
    says: 'nor with one that is not there: 400, not 404',
    by: 'root',
    ask: ['POST', '{mount}/decrypt/nothing', { ciphertext: '$ciphertext' }],
    status: 400,
    errors: ['encryption key not found'],
  },
  {
    says: 'what is cut short: 400',
    by: 'root',
    ask: ['POST', '{mount}/decrypt/errand-root', { ciphertext: 'vault:v1:AAAA' }],
    status: 400,
    errors: ['invalid ciphertext length'],
  },
  {
    says: 'what is no ciphertext: 400',
    by: 'root',
    ask: ['POST', '{mount}/decrypt/errand-root', { ciphertext: 'hello' }],
    status: 400,
    errors: ['invalid ciphertext: no prefix'],
  },
  {
    says: 'who may create a key makes one by encrypting with its name',
    by: 'root',
    ask: ['POST', '{mount}/encrypt/misspelt', { plaintext: HELLO }],
    status: 200,
    data: { key_version: 1 },
  },
  {
    says: 'a key that signs does not encrypt: 400',
    by: 'root',
    ask: ['POST', '{mount}/encrypt/errand-token', { plaintext: HELLO }],
    status: 400,
    errors: ['message encryption not supported for key type ecdsa-p256'],
  },
  // what is denied
  {
    says: 'another key than the policy names: 403 in more words than a bad token gets',
    by: 'limited',
    ask: ['POST', '{mount}/sign/other', hashed],
    status: 403,
    errors: [oneError('permission denied')],
  },
  {
    says: 'so is reading one',
    by: 'limited',
    ask: ['GET', '{mount}/keys/other'],
    status: 403,
    errors: [oneError('permission denied')],
  },
  ...(['wrong', 'revoked', 'nobody'] as const).map(
    (by): Fact => ({
      says: `${by === 'nobody' ? 'no token' : `a token that is ${by}`}: 403, for signing as for looking at itself`,
      by,
      ask: by === 'revoked' ? ['GET', 'auth/token/lookup-self'] : ['POST', '{mount}/sign/errand-token', hashed],
      status: 403,
      errors: ['permission denied'],
    }),
  ),
  {
    says: 'capabilities are told by path',
    by: 'limited',
    ask: ['POST', 'sys/capabilities-self', { paths: ['{mount}/sign/errand-token', '{mount}/sign/other'] }],
    status: 200,
    data: { '{mount}/sign/errand-token': ['update'], '{mount}/sign/other': ['deny'] },
  },
  // tokens
  {
    says: 'a token looks at itself: what is left of it, and its end',
    by: 'limited',
    ask: ['GET', 'auth/token/lookup-self'],
    status: 200,
    data: { renewable: true, type: 'service', ttl: /^(?:[1-5]?[0-9]|60)$/, expire_time: /^20/ },
  },
  {
    says: 'one without an end has none, and ttl 0',
    by: 'root',
    ask: ['GET', 'auth/token/lookup-self'],
    status: 200,
    data: { renewable: false, ttl: 0, expire_time: null },
  },
  {
    says: 'renewing answers what it lives now',
    by: 'limited',
    ask: ['POST', 'auth/token/renew-self', {}],
    status: 200,
    auth: { lease_duration: 60, renewable: true, client_token: /./ },
  },
  {
    says: 'what cannot be renewed: 400',
    by: 'fixed',
    ask: ['POST', 'auth/token/renew-self', {}],
    status: 400,
    errors: ['lease is not renewable'],
  },
  {
    says: 'nor can batch tokens: 400 in other words',
    by: 'batch',
    ask: ['POST', 'auth/token/renew-self', {}],
    status: 400,
    errors: ['batch tokens cannot be renewed'],
  },
  {
    says: 'a login by AppRole answers a token in auth, not in data',
    by: 'nobody',
    ask: ['POST', 'auth/{approle}/login', { role_id: 'errand', secret_id: '$secret_id' }],
    status: 200,
    auth: { lease_duration: 60, renewable: true, token_type: 'service', client_token: /^s\./ },
  },
  {
    says: 'another secret: 400, not 403',
    by: 'nobody',
    ask: ['POST', 'auth/{approle}/login', { role_id: 'errand', secret_id: 'another' }],
    status: 400,
    errors: ['invalid role or secret ID'],
  },
]

/** Of the whole server, so asked of the double alone: it was seen at the real one by sealing it. */
export const SEALED: Fact = {
  says: 'sealed: 503, also for logins',
  by: 'root',
  ask: ['POST', '{mount}/sign/errand-token', hashed],
  status: 503,
  errors: ['Vault is sealed'],
}
