/** What release.yaml in an agent's own folder may say: of what a release is made, and where its parts are. */
import { z } from 'zod'
import { CLIENT_ID } from '../policy/identifier.ts'

/** Inside the agent's folder, by relative path: no way out of it, and nothing hidden. */
export const RELEASE_PATH = /^[A-Za-z0-9_@][A-Za-z0-9_@. -]*(?:\/[A-Za-z0-9_@][A-Za-z0-9_@. -]*){0,15}$/
const path = z.string().max(500).regex(RELEASE_PATH, { error: 'not a path inside the folder of the agent' })
const line = z
  .string()
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/, { error: 'not one line of printable ASCII' })
const paths = z
  .array(path)
  .max(100)
  .nullish()
  .transform((value) => value ?? [])

export const releaseFileSchema = z.strictObject({
  agent: z.string().regex(CLIENT_ID, { error: 'not a client_id' }).describe('client_id of the agent.'),
  version: line.optional().describe('For people; `--release-version` instead.'),
  image: z
    .string()
    .regex(/^(?:[^@\s]{1,255}@)?sha256:[0-9a-f]{64}$/, { error: 'not an image by digest: [name@]sha256:…' })
    .optional()
    .describe('The image, by digest; mostly known only when it is built: `--image`.'),
  model: line.optional().describe('Id of the model, as its provider writes it.'),
  policy_version: line.optional().describe('Version of the policies it was reviewed against; text of your own.'),
  prompts: paths.describe('Files, or folders with all in them.'),
  tools: paths.describe('JSON files: an answer to MCP `tools/list`, or a list of tool definitions.'),
  skills: paths.describe('Folders of skills, each with a SKILL.md.'),
  lock_files: z
    .array(path)
    .max(100)
    .optional()
    .describe('Lock files to read components from; without it, all known ones beside release.yaml.'),
})

export type ReleaseFile = z.output<typeof releaseFileSchema>
