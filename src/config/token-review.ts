/**
 * Asks a Kubernetes API server whether it still stands by a token (TokenReview, authentication.k8s.io/v1): one POST to
 * a configured address, whose certificate must come from a configured authority. No answer is no permission.
 */
import { request } from 'node:https'
import { digestOf } from '../attest/remembered.ts'
import type { ReviewedToken, ReviewToken } from '../attest/workload-issuer.ts'
import { ok, type Result, refuse, Unavailable } from '../oauth/refusal.ts'

const MAX_BYTES = 65_536
const TIMEOUT_MS = 2_000
/** After a failure nobody is asked for so long: requests do not queue up behind a server that does not answer. */
const COOLDOWN_SECONDS = 2
const MAX_CACHED = 10_000
const PATH = '/apis/authentication.k8s.io/v1/tokenreviews'

export interface ReviewRequest {
  readonly url: string
  /** PEM: the only authorities that count. */
  readonly authority: string
  readonly bearer: string
  readonly body: string
}
/** The text of the answer; throws where there is none within bounds. */
export type PostReview = (request: ReviewRequest) => Promise<string>

type Verdict = 'confirmed' | 'refused'

export function createTokenReview(deps: {
  readonly apiServer: string
  readonly cacheSeconds: number
  /** Read anew for each question: both are rotated. */
  readonly authority: () => Promise<string>
  readonly bearer: () => Promise<string>
  readonly post: PostReview
  readonly now: () => number
}): ReviewToken {
  const url = `${deps.apiServer.replace(/\/$/, '')}${PATH}`
  const known = new Map<string, { readonly at: number; readonly verdict: Verdict }>()
  const asking = new Map<string, Promise<Verdict>>()
  let failedAt = Number.NEGATIVE_INFINITY

  async function ask({ token, audience, subject }: ReviewedToken): Promise<Verdict> {
    if (Math.abs(deps.now() - failedAt) < COOLDOWN_SECONDS) throw away('it did not answer a moment ago')
    try {
      const [authority, bearer] = await Promise.all([deps.authority(), deps.bearer()])
      const body = JSON.stringify({
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [audience] },
      })
      return verdictIn(await deps.post({ url, authority, bearer: bearer.trim(), body }), { audience, subject })
    } catch (error) {
      failedAt = deps.now()
      throw away(error instanceof Error ? error.message : 'no answer', error)
    }
  }

  const away = (why: string, cause?: unknown): Unavailable =>
    new Unavailable('attestation_unavailable', `token review at ${deps.apiServer}: ${why}`, {
      retryAfterSeconds: COOLDOWN_SECONDS,
      cause,
    })

  return async (reviewed) => {
    const { token, audience, subject, slot } = reviewed
    const digest = digestOf([token, audience, subject])
    const cached = known.get(digest)
    const fresh = cached !== undefined && Math.abs(deps.now() - cached.at) < deps.cacheSeconds
    if (fresh) return resultOf(cached.verdict, slot)
    // Of simultaneous questions about one token, one is sent.
    const pending = asking.get(digest) ?? ask(reviewed).finally(() => asking.delete(digest))
    asking.set(digest, pending)
    const at = deps.now()
    const verdict = await pending
    known.delete(digest)
    known.set(digest, { at, verdict })
    if (known.size > MAX_CACHED) known.delete(known.keys().next().value!)
    return resultOf(verdict, slot)
  }
}

const resultOf = (verdict: Verdict, slot: ReviewedToken['slot']): Result<true> =>
  verdict === 'confirmed' ? ok(true) : refuse('evidence_revoked', slot)

/** Throws where it is no TokenReview with a status: that is a fault over there and no verdict. */
function verdictIn(text: string, { audience, subject }: Pick<ReviewedToken, 'audience' | 'subject'>): Verdict {
  const review = jsonIn(text)
  const status = isRecord(review) && review['kind'] === 'TokenReview' ? review['status'] : undefined
  if (!isRecord(status)) throw new Error('the answer is no TokenReview')
  if (status['authenticated'] !== true) {
    // `error` without a verdict: the server could not look, which says nothing of the token.
    const undecided = status['authenticated'] === undefined && typeof status['error'] === 'string'
    if (undecided) throw new Error('the API server could not review')
    return 'refused'
  }
  // A server that knows of no audiences answers none: then the token is good for the API server, not for us.
  const audiences = status['audiences']
  if (!Array.isArray(audiences) || !audiences.includes(audience)) return 'refused'
  const user = status['user']
  return isRecord(user) && user['username'] === subject ? 'confirmed' : 'refused'
}

/** The parser's own words quote what it could not read, and the answer repeats the token. */
function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('the answer is no JSON')
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Bounded in time and size; an answer that leads elsewhere is none. */
export const postReview: PostReview = ({ url, authority, bearer, body }) =>
  new Promise((done, fail) => {
    const outgoing = request(
      url,
      {
        method: 'POST',
        ca: authority,
        agent: false,
        minVersion: 'TLSv1.2',
        headers: {
          accept: 'application/json',
          'accept-encoding': 'identity',
          authorization: `Bearer ${bearer}`,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      },
      (response) => {
        const stop = (message: string) => {
          response.destroy()
          fail(new Error(message))
        }
        const { statusCode } = response
        if (statusCode !== 201 && statusCode !== 200) return stop(`status ${statusCode}`)
        if ((response.headers['content-encoding'] ?? 'identity') !== 'identity') return stop('compressed answer')
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > MAX_BYTES) stop('above 64 KB')
          else chunks.push(chunk)
        })
        response.on('error', fail)
        response.on('end', () => done(Buffer.concat(chunks).toString('utf8')))
      },
    )
    outgoing.on('error', (error: NodeJS.ErrnoException) =>
      // Its words may quote what was sent.
      fail(
        new Error(
          error.name === 'AbortError' || error.name === 'TimeoutError' ? 'above 2 s' : (error.code ?? error.name),
        ),
      ),
    )
    outgoing.end(body)
  })
