/** LangChain tools that act with a task token: the model chooses the call, and never sees a credential. */
import { createAgent, ErrandError, privateKeyJwt, type Task } from '@errand/agent'
import { AIMessage, HumanMessage, type BaseMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { fakeModel } from '@langchain/core/testing'
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
  const schema = z.object({ ticket_id: z.string() })
  return [
    tool(({ ticket_id }) => call(`/tickets/${encodeURIComponent(ticket_id)}`), {
      name: 'read_ticket',
      description: 'Reads a ticket',
      schema,
    }),
    tool(({ ticket_id }) => call(`/tickets/${encodeURIComponent(ticket_id)}/close`, { method: 'POST' }), {
      name: 'close_ticket',
      description: 'Closes a ticket',
      schema,
    }),
  ]
}

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
const tools = ticketTools(task)

// Put your own chat model here. This one, of LangChain's own for tests, says what it is told to: it reads, tries to
// close the ticket (which nobody asked for), and answers.
const model = fakeModel()
  .respondWithTools([{ name: 'read_ticket', args: { ticket_id: '7' }, id: 'call_1' }])
  .respondWithTools([{ name: 'close_ticket', args: { ticket_id: '7' }, id: 'call_2' }])
  .respond(new AIMessage('Ticket 7: charged twice. I may not close it.'))
  .bindTools(tools)

const messages: BaseMessage[] = [new HumanMessage('What is ticket 7 about?')]
for (;;) {
  const said = (await model.invoke(messages)) as AIMessage
  messages.push(said)
  if (!said.tool_calls?.length) {
    console.log(said.text)
    break
  }
  for (const wanted of said.tool_calls) {
    const chosen = tools.find(({ name }) => name === wanted.name)!
    const result = await chosen.invoke({ ...wanted, type: 'tool_call' as const })
    console.log(wanted.name, result.content)
    messages.push(result)
  }
}
await task.complete()
