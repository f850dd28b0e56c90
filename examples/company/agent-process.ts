/** What both agents have in common: small JSON endpoints on loopback, and an honest account of what was answered. */
import { createServer, type IncomingMessage } from 'node:http'
import { ErrandError, type Task, type TaskToken } from '@errand/agent'
import { decodeJwt } from 'jose'

export type Work = (body: { readonly [name: string]: unknown }) => Promise<object>

/** Serves each of `works` at `POST /<name>`. A refusal by Errand is an answer, not a fault. */
export function serveAgent(port: number, works: { readonly [name: string]: Work }): void {
  createServer(async (request, response) => {
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body, null, 2)}\n`)
    }
    if (request.url === '/health') return answer(200, { status: 'ok' })
    const work = works[request.url?.slice(1) ?? '']
    // A browser cannot send this media type across origins without asking first.
    if (!work || request.method !== 'POST' || request.headers['content-type'] !== 'application/json') {
      return answer(404, {
        error: `POST JSON to one of: ${Object.keys(works)
          .map((name) => `/${name}`)
          .join(', ')}`,
      })
    }
    try {
      answer(200, await work(await bodyOf(request)))
    } catch (error) {
      if (error instanceof ErrandError) return answer(200, { refused: refusalOf(error) })
      console.error(error)
      answer(500, { error: error instanceof Error ? error.message : 'failed' })
    }
  }).listen(port, '127.0.0.1')
}

async function bodyOf(request: IncomingMessage): Promise<{ [name: string]: unknown }> {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > 65_536) throw new Error('the body is too large')
  }
  return text === '' ? {} : (JSON.parse(text) as { [name: string]: unknown })
}

export const refusalOf = (error: ErrandError) => ({
  code: error.code,
  reason: error.reason,
  description: error.description,
  rule: error.rule,
  missing: error.missing,
  next: error.next,
  decision_id: error.decisionId,
})

/** What a token says, without the token. */
export const shown = (token: TaskToken) => ({ decision_id: token.decisionId, claims: decodeJwt(token.accessToken) })

/** A fetch that remembers how tools answered, also where the agent's client then tried something else. */
export function observedFetch() {
  const answers: { status: number; url: string; challenge: string | null }[] = []
  const observed: typeof fetch = async (input, init) => {
    const response = await fetch(input, init)
    answers.push({ status: response.status, url: String(input), challenge: response.headers.get('www-authenticate') })
    return response
  }
  return { fetch: observed, take: () => answers.splice(0) }
}

/** Calls a tool and tells everything about it: what the tool said, also before a refusal by Errand. */
export async function callTool(
  task: Task,
  observed: ReturnType<typeof observedFetch>,
  call: {
    readonly tool: string
    readonly url: string
    readonly method?: string
    readonly scope?: string
    readonly body?: unknown
  },
): Promise<object> {
  observed.take()
  const ask = call.scope === undefined ? {} : { scope: call.scope }
  try {
    const response = await task.fetch(
      call.tool,
      call.url,
      {
        method: call.method ?? 'GET',
        ...(call.body === undefined
          ? {}
          : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(call.body) }),
      },
      ask,
    )
    const text = await response.text()
    return {
      status: response.status,
      answers: observed.take().filter(({ url }) => url === call.url),
      body: response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text,
    }
  } catch (error) {
    if (!(error instanceof ErrandError)) throw error
    return { refused: refusalOf(error), answers: observed.take().filter(({ url }) => url === call.url) }
  }
}
