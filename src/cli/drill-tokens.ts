/** What a fire drill ends: tasks of an agent that is there for it, and real tokens in them. */
import { GRANT } from '../oauth/words.ts'
import type { Client } from './client.ts'
import { text } from './rows.ts'

/** Long enough for the drill, and over soon where it breaks off. */
const DEADLINE_SECONDS = 300

/** One task, with a token for each of the tools. */
export async function tokensOf(client: Client, tools: readonly string[]): Promise<string[]> {
  const details = {
    purpose: 'fire drill',
    environment: 'production',
    data_classification: 'internal',
    deadline_seconds: DEADLINE_SECONDS,
  }
  const tokens: string[] = []
  let task: string | undefined
  for (const tool of tools) {
    const answer = await client.form('/token', {
      grant_type: GRANT.clientCredentials,
      audience: tool,
      ...(task === undefined ? { request_details: JSON.stringify(details) } : { task_id: task }),
    })
    task ??= text(answer['task_id'])
    tokens.push(text(answer['access_token']) ?? '')
  }
  return tokens
}
