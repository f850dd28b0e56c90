/**
 * The short way of `POST /token`: the same gates, the same use case and the same answer as through the app, without
 * the objects that a web framework makes of a request. Whatever looks unusual about a request takes the long way.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { sourceBlock } from '../audit/source.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import { faulted, noted, type RequestLine, turnedAway, wireOf } from './app.ts'
import { type ClaimedNames, createClaimedNames } from './claimed-name.ts'
import type { HttpDeps } from './deps.ts'
import { createKnownForms, type KnownForms } from './known-forms.ts'
import { refusalResponse } from './refusal-response.ts'
import type { Knock, Variables, WireBindings } from './route.ts'
import { answerToken, type TokenAnswer } from './token.ts'

export interface TokenDoor {
  /** Whether the request is one for it, by its first line and its header fields alone. */
  fits(incoming: IncomingMessage): boolean
  enter(incoming: IncomingMessage, outgoing: ServerResponse, env: WireBindings): Promise<void>
}

const PATH = '/token'
const FORM = 'application/x-www-form-urlencoded'
/** Fields that mean here what they mean everywhere. Any other may mean something to the app. */
const USUAL: ReadonlySet<string> = new Set([
  'host',
  'content-type',
  'content-length',
  'dpop',
  'accept',
  'accept-encoding',
  'accept-language',
  'connection',
  'keep-alive',
  'user-agent',
  'cache-control',
  'pragma',
  'sec-fetch-mode',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
])
const DIGITS = /^[0-9]{1,9}$/
/** What is surely the host of a URL, whoever reads it: with any other the app may not go on. */
const PLAIN_HOST = /^[a-z0-9._-]+(?::(?:[1-5][0-9]{3,4}|[6-9][0-9]{3}))?$/

export function createTokenDoor(deps: HttpDeps, log: (line: RequestLine) => void): TokenDoor {
  const memory = { names: createClaimedNames(deps), forms: createKnownForms() }
  return {
    fits: ({ method, url, headers, rawHeaders }) => {
      if (url !== PATH || method !== 'POST' || headers['content-type'] !== FORM) return false
      // Spans have a price of their own; where somebody collects them there is one way.
      if (deps.tracing) return false
      const length = headers['content-length']
      if (length === undefined || !DIGITS.test(length)) return false
      if (Number(length) > deps.snapshot().settings.bounds.maxBodyBytes) return false
      let names = 0
      for (const name in headers) {
        if (!USUAL.has(name)) return false
        names += 1
      }
      // Of a field that came twice, the parser keeps the first or all: which one is meant is for the app to say.
      if (rawHeaders.length !== 2 * names) return false
      const { dpop, host } = headers
      if (host === undefined || !PLAIN_HOST.test(host)) return false
      // Two of them are told as what they are.
      return dpop === undefined || (typeof dpop === 'string' && !dpop.includes(','))
    },

    enter: async (incoming, outgoing, env) => {
      const started = performance.now()
      const c = knockOf(incoming, env)
      const correlation = c.get('correlation')
      let answer: Response | TokenAnswer
      try {
        answer = await answerTo(deps, memory, c, incoming)
      } catch (error) {
        answer = faulted(deps, error, c)
      }
      const status = answer instanceof Response ? answer.status : 200
      if (answer instanceof Response) await write(outgoing, answer, correlation)
      else writeToken(outgoing, answer, correlation)
      const ms = performance.now() - started
      const reason = c.get('reason')
      deps.metrics.request(PATH, 'POST', status, ms / 1000)
      log({
        correlation,
        method: 'POST',
        route: PATH,
        status,
        ms: Math.round(ms * 100) / 100,
        ...(reason === undefined ? {} : { reason }),
      })
    },
  }
}

async function answerTo(
  deps: HttpDeps,
  memory: { readonly names: ClaimedNames; readonly forms: KnownForms },
  c: Knock,
  incoming: IncomingMessage,
): Promise<Response | TokenAnswer> {
  const refusal = await turnedAway(deps, c, 'work', () => readWhole(incoming))
  if (refusal) {
    noted(deps, c, refusal)
    return refusalResponse(refusal)
  }
  try {
    return await answerToken({ c, deps, wire: wireOf(c.env.base, c), names: memory.names, forms: memory.forms })
  } finally {
    deps.limits.leave()
  }
}

function knockOf({ headers }: IncomingMessage, env: WireBindings): Knock {
  const kept: Variables = { correlation: newId('req'), source: sourceBlock(env.peer) }
  return {
    req: {
      method: 'POST',
      url: PATH,
      header: (name) => {
        const value = headers[name]
        return typeof value === 'string' ? value : undefined
      },
      query: () => undefined,
    },
    env,
    get: (name) => kept[name],
    set: (name, value) => {
      kept[name] = value
    },
  }
}

/** The HTTP parser holds the sender to the length it announced, and that was looked at. */
function readWhole(incoming: IncomingMessage): Promise<Result<string>> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.once('end', () => resolve(ok((chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).toString('utf8'))))
    // The sender went away, or was cut off for being slow: whatever is answered now, nobody reads.
    const early = () => resolve(refuse('bad_body', 'request', { detail: 'the body ended early' }))
    incoming.once('error', early)
    incoming.once('close', early)
  })
}

function writeToken(outgoing: ServerResponse, { body, nonce }: TokenAnswer, correlation: string): void {
  const text = JSON.stringify(body)
  outgoing.writeHead(200, [
    'content-type',
    'application/json',
    'content-length',
    String(Buffer.byteLength(text)),
    'cache-control',
    'no-store',
    'pragma',
    'no-cache',
    'dpop-nonce',
    nonce,
    'x-request-id',
    correlation,
  ])
  outgoing.end(text)
}

async function write(outgoing: ServerResponse, answer: Response, correlation: string): Promise<void> {
  const text = await answer.text()
  const headers = [...answer.headers].flat()
  outgoing.writeHead(answer.status, [
    ...headers,
    'content-length',
    String(Buffer.byteLength(text)),
    'x-request-id',
    correlation,
  ])
  outgoing.end(text)
}
