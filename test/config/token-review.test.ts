/** Kubernetes TokenReview: what an answer must say, how seldom it is asked for, and what no answer means. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { KeyObject } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createTokenReview, postReview, type ReviewRequest } from '../../src/config/token-review.ts'
import type { ReviewedToken } from '../../src/attest/workload-issuer.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { issue, pemOf } from '../attest/pki.ts'

const AUDIENCE = 'https://errand.example.com'
const SUBJECT = 'system:serviceaccount:agents:research'
const TOKEN: ReviewedToken = { token: 'a.b.c', audience: AUDIENCE, subject: SUBJECT, slot: 'client' }
const status = (more: object = {}) => ({
  authenticated: true,
  user: { username: SUBJECT, uid: 'u-1', groups: ['system:serviceaccounts'] },
  audiences: [AUDIENCE],
  ...more,
})
const review = (more: object = {}) =>
  JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', status: status(more) })

describe('a token review', () => {
  let asked: ReviewRequest[]
  let now: number
  let answer: () => Promise<string>
  let bearer: string
  beforeEach(() => {
    asked = []
    now = 1000
    bearer = 'ours-1\n'
    answer = async () => review()
  })
  const create = (cacheSeconds = 10) =>
    createTokenReview({
      apiServer: 'https://10.0.0.1:6443/',
      cacheSeconds,
      authority: async () => 'pem',
      bearer: async () => bearer,
      post: async (request) => {
        asked.push(request)
        return answer()
      },
      now: () => now,
    })
  const outcome = async (ask: ReturnType<typeof create>, token: ReviewedToken = TOKEN) => {
    const result = await ask(token).catch((error: unknown) => {
      if (error instanceof Unavailable) return error.reason
      throw error
    })
    return typeof result === 'string' ? result : result.ok ? 'confirmed' : result.refusal.reason
  }

  it('asks with our own token whether the token is good for our audience', async () => {
    expect(await outcome(create())).toBe('confirmed')
    expect(asked.map(({ url, bearer: by }) => [url, by])).toEqual([
      ['https://10.0.0.1:6443/apis/authentication.k8s.io/v1/tokenreviews', 'ours-1'],
    ])
    expect(JSON.parse(asked[0]!.body)).toEqual({
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token: 'a.b.c', audiences: [AUDIENCE] },
    })
  })

  const verdicts: readonly [string, object, string][] = [
    ['not authenticated', { authenticated: false }, 'evidence_revoked'],
    ['not authenticated, with a reason', { authenticated: false, error: 'pod is gone' }, 'evidence_revoked'],
    ['authenticated as a text', { authenticated: 'true' }, 'evidence_revoked'],
    ['another audience', { audiences: ['https://kubernetes.default.svc'] }, 'evidence_revoked'],
    ['no audience, as servers answer that know of none', { audiences: undefined }, 'evidence_revoked'],
    ['an audience that is no list', { audiences: AUDIENCE }, 'evidence_revoked'],
    ['another account', { user: { username: 'system:serviceaccount:agents:other' } }, 'evidence_revoked'],
    ['no account', { user: undefined }, 'evidence_revoked'],
    ['our audience among others', { audiences: ['x', AUDIENCE] }, 'confirmed'],
  ]
  it.each(verdicts)('%s', async (_title, more, expected) => {
    answer = async () => review(more)
    expect(await outcome(create())).toBe(expected)
  })

  it('says nothing of an answer that it could not read: the token stands in it', async () => {
    answer = async () => `${TOKEN.token}-canary`
    const thrown = await create()(TOKEN).catch((error: unknown) => error)
    expect(thrown).toMatchObject({ reason: 'attestation_unavailable' })
    expect(String(thrown)).not.toContain('canary')
  })

  const accidents: readonly [string, () => Promise<string>][] = [
    ['no JSON', async () => '<html>'],
    ['another kind', async () => JSON.stringify({ kind: 'Status', status: 'Failure' })],
    ['no status', async () => JSON.stringify({ kind: 'TokenReview' })],
    ['a list', async () => '[]'],
    ['an error and no verdict', async () => JSON.stringify({ kind: 'TokenReview', status: { error: 'etcd' } })],
    ['nobody', () => Promise.reject(new Error('ECONNREFUSED'))],
  ]
  it.each(accidents)('%s is no verdict: nothing is accepted, and nothing is kept of it', async (_title, how) => {
    const ask = create()
    answer = how
    expect(await outcome(ask)).toBe('attestation_unavailable')
    answer = async () => review()
    // For a moment nobody is asked, so that requests do not queue up behind a server that does not answer.
    expect([await outcome(ask), asked.length]).toEqual(['attestation_unavailable', 1])
    now += 2
    expect([await outcome(ask), asked.length]).toEqual(['confirmed', 2])
  })

  it('an answer counts for its seconds, a refusal too, and each for its own token, audience and subject', async () => {
    const ask = create()
    expect(await outcome(ask)).toBe('confirmed')
    answer = async () => review({ authenticated: false })
    now += 9
    expect([await outcome(ask), asked.length]).toEqual(['confirmed', 1])
    now += 1
    expect([await outcome(ask), asked.length]).toEqual(['evidence_revoked', 2])
    answer = async () => review()
    expect([await outcome(ask), asked.length]).toEqual(['evidence_revoked', 2])
    await outcome(ask, { ...TOKEN, token: 'd.e.f' })
    await outcome(ask, { ...TOKEN, subject: 'other' })
    await outcome(ask, { ...TOKEN, audience: 'other' })
    expect(asked.length).toBe(5)
    // A clock that was set back does not make it count until then.
    now -= 1000
    expect([await outcome(ask), asked.length]).toEqual(['confirmed', 6])
    expect([await outcome(create(0)), await outcome(create(0)), asked.length]).toEqual(['confirmed', 'confirmed', 8])
  })

  it('of simultaneous questions about one token, one is sent', async () => {
    const ask = create(0)
    const all = await Promise.all([outcome(ask), outcome(ask), outcome(ask)])
    expect([all, asked.length]).toEqual([['confirmed', 'confirmed', 'confirmed'], 1])
  })

  it('our own token is read anew for each question', async () => {
    const ask = create(0)
    await outcome(ask)
    bearer = 'ours-2'
    await outcome(ask)
    expect(asked.map((each) => each.bearer)).toEqual(['ours-1', 'ours-2'])
  })
})

describe('the question over TLS', () => {
  let server: Server
  let url: string
  let authority: string
  let respond: (response: import('node:http').ServerResponse) => void
  let seen: { readonly authorization?: string | undefined; readonly body: string }[]
  beforeAll(async () => {
    const ca = await issue({ name: 'CN=cluster', ca: true, notAfter: Date.now() / 1000 + 3600 })
    const leaf = await issue({
      name: 'CN=api',
      issuer: ca,
      notAfter: Date.now() / 1000 + 3600,
      names: [{ type: 'ip', value: '127.0.0.1' }],
    })
    authority = pemOf(ca)
    const key = String(KeyObject.from(leaf.keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))
    server = createServer({ cert: pemOf(leaf), key }, (incoming, response) => {
      let body = ''
      incoming.on('data', (chunk) => {
        body += String(chunk)
      })
      incoming.on('end', () => {
        seen.push({ authorization: incoming.headers.authorization, body })
        respond(response)
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/review`
  })
  beforeEach(() => {
    seen = []
    respond = (response) => response.writeHead(201).end('{"ok":true}')
  })
  afterAll(() => void server.close())
  const post = (more: Partial<ReviewRequest> = {}) =>
    postReview({ url, authority, bearer: 't', body: '{"a":1}', ...more })

  it('carries our token to the server that the authority vouches for', async () => {
    expect(await post()).toBe('{"ok":true}')
    expect(seen).toEqual([{ authorization: 'Bearer t', body: '{"a":1}' }])
  })

  it('F16 to a server of another authority nothing is sent', async () => {
    const other = pemOf(await issue({ name: 'CN=other', ca: true, notAfter: Date.now() / 1000 + 3600 }))
    await expect(post({ authority: other })).rejects.toThrow(/UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET/)
    await expect(post({ url: url.replace('127.0.0.1', 'localhost') })).rejects.toThrow('ERR_TLS_CERT_ALTNAME_INVALID')
    expect(seen).toEqual([])
  })

  const answers: readonly [string, (response: import('node:http').ServerResponse) => void, RegExp][] = [
    ['a redirect', (response) => response.writeHead(307, { location: 'https://127.0.0.1/' }).end(), /^status 307$/],
    ['a refusal', (response) => response.writeHead(403).end('{}'), /^status 403$/],
    ['a fault', (response) => response.writeHead(500).end(), /^status 500$/],
    ['a flood', (response) => response.writeHead(201).end('x'.repeat(70_000)), /^above 64 KB$/],
    ['something packed', (response) => response.writeHead(201, { 'content-encoding': 'gzip' }).end('x'), /^compressed/],
    ['a cut', (response) => void response.destroy(), /ECONNRESET/],
  ]
  it.each(answers)('%s is no answer', async (_title, how, expected) => {
    respond = how
    await expect(post()).rejects.toThrow(expected)
    expect(seen.length).toBe(1)
  })
})
