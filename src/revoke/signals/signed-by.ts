/** The word of an identity provider about its users: one kind of token, by one of its keys, each with its algorithm. */
import { checkHeader, type ParsedJws } from '@errand/verifier/jws.ts'
import { importVerifyKey, verifySignature } from '@errand/verifier/signature.ts'
import { ok, type Reason, type Result, refuse } from '../../oauth/refusal.ts'
import type { TrustedIssuer } from '../../tokens/trusted-issuer.ts'

export type Signer = Pick<TrustedIssuer, 'keys' | 'algorithms'>

export async function signedBy(jws: ParsedJws, typ: string, { keys, algorithms }: Signer): Promise<Result<void>> {
  const no = (reason: Reason) => refuse(reason, 'api')
  const header = checkHeader(jws.header, { typ: [typ], algs: algorithms, kid: 'required' })
  if (!header.ok) return no(header.fault)
  const jwk = await keys(header.value.kid!)
  if (!jwk) return no('unknown_kid')
  const key = importVerifyKey(jwk, { algs: algorithms })
  if (!key.ok) return no('bad_key')
  // The algorithm is the key's; a header that names another is refused before any cryptography.
  if (key.value.alg !== header.value.alg) return no('alg_not_allowed')
  return verifySignature(key.value, jws.signingInput, jws.signature) ? ok(undefined) : no('bad_signature')
}
