/** A signature is good under the key it is held against, and under no other, printed in a standard or not. */
import { createPrivateKey } from 'node:crypto'
import { parseJws } from '@errand/verifier/jws.ts'
import { SIGNATURE_ALGS, signEs256 } from '@errand/verifier/signature.ts'
import { expect, it } from 'vitest'
import { createVerifyKeys } from '../../src/attest/verify-keys.ts'
import { freshKey } from '../../src/keys/fresh-key.ts'

// RFC 7515 appendix A.3.1: everybody holds it.
const EXAMPLE = {
  kty: 'EC',
  crv: 'P-256',
  x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
  y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
  d: 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI',
}

const signedBy = (key: ReturnType<typeof freshKey>) => {
  const jws = parseJws(signEs256(key, { typ: 'JWT' }, { sub: 'research' }))
  if (!jws.ok) throw new Error('not a JWS')
  return jws.value
}

it('what is signed with the example of a standard is refused, with a key to hold it against and without', () => {
  const keys = createVerifyKeys({ algs: SIGNATURE_ALGS })
  const own = freshKey()
  const { kty, crv, x, y } = own.export({ format: 'jwk' })
  const registered = { kty: kty!, crv: crv!, x: x!, y: y!, alg: 'ES256' }
  expect(keys.check(signedBy(own), registered)).toBe('good')

  const stranger = signedBy(createPrivateKey({ key: EXAMPLE, format: 'jwk' }))
  expect(keys.check(stranger, undefined)).toBe('bad_signature')
  expect(keys.check(stranger, registered)).toBe('bad_signature')
  expect(keys.check(stranger, { ...registered, alg: 'EdDSA' })).not.toBe('good')
})
