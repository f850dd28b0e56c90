/** The payments agent: attests with a JWT-SVID, and works on what another agent hands over to it. */
import { readFile } from 'node:fs/promises'
import { createAgent, jwtSvid, type Task } from '@errand/agent'
import { callTool, observedFetch, serveAgent, shown } from './agent-process.ts'
import { fileIn, readSettings, urlsOf } from './settings.ts'

const settings = readSettings()
const observed = observedFetch()

const agent = createAgent({
  issuer: urlsOf(settings).errand,
  evidence: jwtSvid({ svid: () => readFile(fileIn(settings, 'payments.svid.jwt'), 'utf8') }),
  fetch: observed.fetch,
})

let task: Task | undefined
const text = (value: unknown): string => (typeof value === 'string' ? value : '')

serveAgent(settings.ports.paymentsAgent, {
  /** Takes over a part of a task and does it: one call. */
  async work({ hand_over: handOver, tool, url }) {
    task = await agent.accept(text(handOver), { tool: text(tool) })
    const token = shown(await task.token({ tool: text(tool) }))
    return { task_id: task.id, token, call: await callTool(task, observed, { tool: text(tool), url: text(url) }) }
  },

  /** Calls again with the token it has. */
  async call({ tool, url }) {
    if (!task) throw new Error('nothing was handed over yet')
    return callTool(task, observed, { tool: text(tool), url: text(url) })
  },
})
