/** Tools of the Vercel AI SDK that act with a task token: the model chooses the call, and never sees a credential. */
import { createAgent, ErrandError, privateKeyJwt, type Task } from '@errand/agent'
import { generateText, stepCountIs, tool } from 'ai'
import { MockLanguageModelV3 } from 'ai/test'
import { z } from 'zod'
import { ISSUER, key, userToken } from '../here.ts'

const API = process.env['TOOL_URL'] ?? 'http://127.0.0.1:4471'

/** Tools for one task: made for each user's request, so nobody's tools act for somebody else. */
function ticketTools(task: Task) {
  const call = async (path: string, init?: RequestInit): Promise<string> => {
    try {
      const response = await task.fetch('tickets', `${API}${path}`, init)
      return `${response.status} ${await response.text()}`
    } catch (error) {
      if (!(error instanceof ErrandError)) throw error
      // What the model may know: that it may not, and what is missing. What to change is for people.
      return `refused: ${error.reason}, missing ${error.missing.join(' ')}`
    }
  }
  const inputSchema = z.object({ ticket_id: z.string() })
  return {
    read_ticket: tool({
      description: 'Reads a ticket',
      inputSchema,
      execute: ({ ticket_id }) => call(`/tickets/${encodeURIComponent(ticket_id)}`),
    }),
    close_ticket: tool({
      description: 'Closes a ticket',
      inputSchema,
      execute: ({ ticket_id }) => call(`/tickets/${encodeURIComponent(ticket_id)}/close`, { method: 'POST' }),
    }),
  }
}

// Put your own model here. This one, of the SDK's own for tests, says what it is told to: it reads, tries to close the
// ticket (which nobody asked for), and answers.
const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
}
const calls = (toolName: string) => ({
  content: [{ type: 'tool-call' as const, toolCallId: toolName, toolName, input: '{"ticket_id":"7"}' }],
  finishReason: { unified: 'tool-calls' as const, raw: undefined },
  usage,
  warnings: [],
})
const model = new MockLanguageModelV3({
  doGenerate: [
    calls('read_ticket'),
    calls('close_ticket'),
    {
      content: [{ type: 'text', text: 'Ticket 7: charged twice. I may not close it.' }],
      finishReason: { unified: 'stop', raw: undefined },
      usage,
      warnings: [],
    },
  ],
})

const agent = createAgent({
  issuer: ISSUER,
  evidence: privateKeyJwt({ clientId: 'research', key: key('agents/research.jwk') }),
})
const task = await agent.task({
  subjectToken: () => userToken('alice', ['support']),
  purpose: 'Answer the user: what is ticket 7 about?',
  environment: 'development',
  dataClassification: 'internal',
  deadlineSeconds: 300,
})
const { text, steps } = await generateText({
  model,
  tools: ticketTools(task),
  stopWhen: stepCountIs(5),
  prompt: 'What is ticket 7 about?',
})
for (const { toolResults } of steps) for (const { toolName, output } of toolResults) console.log(toolName, output)
console.log(text)
await task.complete()
