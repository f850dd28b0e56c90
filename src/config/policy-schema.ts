/** The copy of the policy schema that editors read: config/policies/schema.cedarschema. */
import { renderPolicySchema } from '../policy/schema.ts'
import { formatProblems } from './check.ts'
import { loadConfig } from './load.ts'

/** What the configuration in `dir` makes of it, with or without its key files. */
export async function renderPolicySchemaOf(dir: string): Promise<string> {
  const loaded = await loadConfig({ dir, keysDir: `${dir}/no-keys`, now: () => 0, allowMissingKeys: true })
  if (!loaded.ok) throw new Error(formatProblems(loaded.problems))
  return renderPolicySchema(loaded.vocabulary)
}
