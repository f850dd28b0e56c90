/** The research agent: attests with an X.509-SVID over mTLS, works for whoever brings a user's token. */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createAgent, type Task, x509Svid } from '@errand/agent'
import { callTool, observedFetch, serveAgent, shown } from './agent-process.ts'
import { fileIn, readSettings, urlsOf } from './settings.ts'

const settings = readSettings()
const urls = urlsOf(settings)
const observed = observedFetch()

const agent = createAgent({
  issuer: urls.errand,
  evidence: x509Svid({
    clientId: 'research',
    // Read at each request, as an agent does whose SVID is rotated under it.
    cert: () => readFile(fileIn(settings, 'research.svid.pem'), 'utf8'),
    key: () => readFile(fileIn(settings, 'research.svid.key'), 'utf8'),
    ca: readFileSync(fileIn(settings, 'servers-ca.pem'), 'utf8'),
  }),
  // What it is made of, as the pipeline has signed it.
  release: readFileSync(fileIn(settings, 'research.release'), 'utf8'),
  fetch: observed.fetch,
})

/** Two handles on one task: the worker keeps the tokens it has when the other one completes the task. */
let tasks: { readonly opened: Task; readonly worker: Task } | undefined
const current = () => {
  if (!tasks) throw new Error('POST /open first')
  return tasks
}
/** Of the user it worked for last: kept in memory, until it runs out. */
let userToken: string | undefined
const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const asked = (scope: unknown) => (typeof scope === 'string' ? { scope } : {})

serveAgent(settings.ports.research, {
  /** Without a `user_token` it goes on working for the user whose token it has. */
  async open({ user_token: given, purpose }) {
    if (given !== undefined) userToken = text(given)
    if (userToken === undefined) throw new Error('the first POST /open brings a user_token')
    const details = {
      subjectToken: userToken,
      purpose: text(purpose) || 'Look around',
      environment: 'production',
      dataClassification: 'internal',
      deadlineSeconds: 900,
      budget: { maxExchanges: 50 },
    } as const
    const opened = await agent.task(details)
    tasks = { opened, worker: await agent.task({ id: opened.id, subjectToken: details.subjectToken }) }
    return { task_id: opened.id, thumbprint: agent.thumbprint }
  },

  async token({ tool, scope }) {
    return shown(await current().worker.token({ tool: text(tool), ...asked(scope) }))
  },

  async call({ tool, url, method, scope, body }) {
    return callTool(current().worker, observed, {
      tool: text(tool),
      url: text(url),
      body,
      ...(typeof method === 'string' ? { method } : {}),
      ...asked(scope),
    })
  },

  /** Gives a part of the task to the payments agent, and waits for what it found. */
  async 'hand-over'({ tool, operation, only, url }) {
    const handOver = await current().worker.handOver({
      to: 'payments',
      tool: text(tool),
      authorizationDetails: [
        {
          type: 'tool',
          tool: text(tool),
          operations: [text(operation)],
          constraints: { type: 'object', properties: only },
        },
      ],
    })
    const response = await fetch(`${urls.paymentsAgent}/work`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ hand_over: handOver, tool, url }),
      signal: AbortSignal.timeout(20_000),
    })
    return (await response.json()) as object
  },

  async state() {
    return current().opened.state()
  },

  async complete() {
    return current().opened.complete()
  },
})
