/**
 * The schemas of the files of config/: strict, in snake_case; and the JSON Schemas in config/schemas/ that are made of
 * them, so that what an editor checks is what the service checks.
 */
import { z } from 'zod'
import { agentSchema } from './agent-file.ts'
import { errandSchema } from './errand-file.ts'
import { issuerSchema } from './issuer-file.ts'
import { releaseFileSchema } from './release-file.ts'
import { toolSchema } from './tool-file.ts'

export const CONFIG_SCHEMAS = {
  errand: errandSchema,
  agent: agentSchema,
  tool: toolSchema,
  issuer: issuerSchema,
  release: releaseFileSchema,
} as const
export type SchemaName = keyof typeof CONFIG_SCHEMAS

/** What may stand in the files: before defaults. */
export const jsonSchemaOf = (name: SchemaName) =>
  z.toJSONSchema(CONFIG_SCHEMAS[name], { io: 'input', unrepresentable: 'any' })

/** Path from the project root → text. */
export function renderConfigSchemas(): ReadonlyMap<string, string> {
  const names = Object.keys(CONFIG_SCHEMAS) as SchemaName[]
  return new Map(
    names.map((name) => [`config/schemas/${name}.json`, `${JSON.stringify(jsonSchemaOf(name), undefined, 2)}\n`]),
  )
}
