/**
 * One corpus, judged by whatever cryptography this runtime has. Runs twice: from source beside node:crypto, and as a
 * bundle in a process that has nothing of Node.
 */
import { decodeBase64url, encodeBase64url } from '@errand/verifier/base64url.ts'
import { hmacSha256, nodeCrypto, randomBase64url, sha256Base64url } from '@errand/verifier/crypto.ts'
import { type DpopExpectation, readDpopProofAnywhere } from '@errand/verifier/dpop.ts'
import { createVerifier, VerificationError, type VerifierOptions } from '@errand/verifier'
import { readCompactJws } from '@errand/verifier/jws.ts'
import { checkSignatureAnywhere, importVerifyKey, jwkThumbprint } from '@errand/verifier/signature.ts'

type Jwk = Readonly<Record<string, unknown>>
type Request = {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
}

export interface Corpus {
  readonly texts: readonly string[]
  readonly keys: readonly { readonly jwk: Jwk; readonly algs: readonly string[] }[]
  readonly signatures: readonly { readonly jwk: Jwk; readonly algs: readonly string[]; readonly jws: string }[]
  readonly proofs: readonly { readonly proof: string; readonly expected: DpopExpectation }[]
  readonly requests: {
    readonly now: number
    readonly jwks: object
    readonly options: Pick<VerifierOptions, 'issuer' | 'audience' | 'tool' | 'acceptBearer'>
    readonly list: readonly Request[]
  }
  readonly followed: {
    readonly now: number
    readonly options: Pick<VerifierOptions, 'issuer' | 'audience' | 'tool' | 'key' | 'serviceUrl'>
    readonly request: Request
    /** Asked for once the request was accepted: revokes its token. */
    readonly revokeUrl: string
  }
}

export interface Verdicts {
  readonly nodeCrypto: boolean
  readonly texts: readonly string[]
  readonly keys: readonly string[]
  readonly signatures: readonly string[]
  readonly proofs: readonly string[]
  readonly requests: readonly string[]
  readonly followed: readonly string[]
}

const outcome = async (check: () => Promise<unknown>): Promise<string> => {
  try {
    await check()
    return 'accepted'
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error
    return `${error.status} ${error.code}`
  }
}

export async function judge(corpus: Corpus): Promise<Verdicts> {
  const texts = corpus.texts.map((text) => {
    const encoded = encodeBase64url(text)
    const bytes = decodeBase64url(encoded)!
    const code = encodeBase64url(hmacSha256(bytes, text))
    return [encoded, encodeBase64url(bytes), sha256Base64url(text), sha256Base64url(bytes), code].join(' ')
  })

  const keys = corpus.keys.map(({ jwk, algs }) => {
    const key = importVerifyKey(jwk, { algs })
    return key.ok ? `${key.value.alg} ${jwkThumbprint(key.value.jwk)}` : key.fault
  })

  const signatures: string[] = []
  for (const { jwk, algs, jws } of corpus.signatures) {
    const read = readCompactJws(jws)
    const key = importVerifyKey(jwk, { algs })
    if (!read.ok || !key.ok) signatures.push(read.ok ? (key.ok ? '' : key.fault) : read.fault)
    else {
      const checked = await checkSignatureAnywhere(read.value, key.value)
      signatures.push(checked.ok ? 'accepted' : checked.fault)
    }
  }

  const proofs: string[] = []
  for (const { proof, expected } of corpus.proofs) {
    const read = await readDpopProofAnywhere(proof, expected)
    proofs.push(read.ok ? `${read.value.jkt} ${read.value.jti}` : read.fault)
  }

  const { now, jwks, options, list } = corpus.requests
  const offline = createVerifier({
    ...options,
    now: () => now,
    fetch: async () => new Response(JSON.stringify(jwks), { headers: { 'cache-control': 'max-age=300' } }),
  })
  const requests: string[] = []
  for (const each of list)
    requests.push(await outcome(() => offline.verify(each, { operation: 'ticket.read', arguments: {} })))

  return {
    nodeCrypto: nodeCrypto !== undefined && randomBase64url(16).length === 22,
    texts,
    keys,
    signatures,
    proofs,
    requests,
    followed: await follow(corpus.followed),
  }
}

/** Signs its assertions, verifies the feed, and digests its values: a revocation arrives. */
async function follow({ now, options, request, revokeUrl }: Corpus['followed']): Promise<readonly string[]> {
  const verifier = createVerifier({ ...options, now: () => now })
  try {
    await verifier.ready()
    const call = { operation: 'ticket.read', arguments: {} }
    const caller = await verifier.authenticate(request)
    const allowed = () => outcome(() => verifier.authorize(caller, call))
    const seen = [await allowed(), await outcome(() => verifier.verify(request, call))]
    await fetch(revokeUrl, { method: 'POST' })
    let last = await allowed()
    while (last === 'accepted') {
      await new Promise((resolve) => setTimeout(resolve, 10))
      last = await allowed()
    }
    return [...seen, last]
  } finally {
    verifier.close()
  }
}
