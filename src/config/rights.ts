/** Turns `tickets:*` and `payments:refund` with constraints into grants of operations that exist. */
import type { Grant } from '@errand/verifier/claims.ts'
import { readConstraint } from '@errand/verifier/constraints.ts'
import { normalGrants } from '@errand/verifier/grants.ts'
import { didYouMean } from '../policy/suggest.ts'
import type { Tool } from '../policy/tool.ts'
import { type Declared, undeclared } from './declared-arguments.ts'
import type { Reporter } from './reporter.ts'
import type { Rights } from './schema-parts.ts'

export function readRights(
  rights: Rights,
  path: readonly PropertyKey[],
  {
    tools,
    declared,
    report,
  }: {
    readonly tools: ReadonlyMap<string, Pick<Tool, 'name' | 'operations' | 'file'>>
    readonly declared: Declared
    readonly report: Reporter
  },
): readonly Grant[] {
  const grants: Grant[] = []
  for (const [index, entry] of rights.entries()) {
    const here = [...path, index]
    const pattern = typeof entry === 'string' ? entry : entry.operation
    const at = typeof entry === 'string' ? here : [...here, 'operation']
    const [toolName, operationName] = pattern.split(':', 2) as [string, string]
    const tool = tools.get(toolName)
    if (!tool) {
      report(at, 'unknown_reference', `there is no tool "${toolName}"`, didYouMean(toolName, tools.keys()).suggestion)
      continue
    }
    if (operationName !== '*' && !tool.operations.has(operationName)) {
      const { suggestion } = didYouMean(operationName, tool.operations.keys())
      report(at, 'unknown_reference', `the tool "${toolName}" has no operation "${operationName}"`, suggestion)
      continue
    }
    const operations = operationName === '*' ? [...tool.operations.keys()] : [operationName]
    let constraints: Grant['constraints']
    if (typeof entry !== 'string' && entry.constraints !== undefined) {
      const read = readConstraint(entry.constraints)
      if (!read.ok) {
        report([...here, 'constraints'], 'bad_value', `constraints: ${read.detail ?? 'not a constraint'}`)
        continue
      }
      constraints = read.value
      const known = operations.flatMap((operation) => declared.get(toolName)?.get(operation) ?? [])
      for (const { path: at, name, place, suggestion } of undeclared(entry.constraints, known))
        report(
          [...here, 'constraints', ...at],
          'unknown_reference',
          `${pattern} declares no argument "${name}" in ${tool.file}: this would bound nothing`,
          suggestion,
          place,
        )
    }
    grants.push(
      ...operations.map((operation) => ({
        tool: toolName,
        operation,
        ...(constraints === undefined ? {} : { constraints }),
      })),
    )
  }
  return normalGrants(grants)
}
