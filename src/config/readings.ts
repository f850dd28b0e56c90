/**
 * One file of config/ read as YAML and held against its schema. A start reads each twice, to learn which keys are wanted
 * and to use it: what was made of a text is kept for the next who reads the same, once.
 */
import { basename } from 'node:path'
import type { Problem } from '../policy/problem.ts'
import type { SchemaName } from './json-schemas.ts'
import { type Shaped, shape } from './shape.ts'
import { readYaml, type YamlFile } from './yaml.ts'

export type Reading<N extends SchemaName> =
  | { readonly ok: true; readonly yaml: YamlFile; readonly value: Extract<Shaped<N>, { ok: true }>['value'] }
  | { readonly ok: false; readonly problems: readonly Problem[] }

export interface Readings {
  /** `file` as problems name it. */
  read<N extends SchemaName>(name: N, file: string, text: string): Reading<N>
  /** The same, and kept for the next who reads that. */
  readAhead<N extends SchemaName>(name: N, file: string, text: string): Reading<N>
}

/** How problems name the folder config/. */
export const labelOf = (dir: string): string => basename(dir) || dir

export function createReadings(): Readings {
  const kept = new Map<string, { readonly name: SchemaName; readonly text: string; readonly reading: unknown }>()
  return {
    read(name, file, text) {
      const known = kept.get(file)
      kept.delete(file)
      // A file that changed in between is read anew.
      if (known?.name === name && known.text === text) return known.reading as Reading<typeof name>
      return read(name, file, text)
    },
    readAhead(name, file, text) {
      const reading = read(name, file, text)
      kept.set(file, { name, text, reading })
      return reading
    },
  }
}

function read<N extends SchemaName>(name: N, file: string, text: string): Reading<N> {
  const yaml = readYaml(file, text)
  if (!yaml.ok) return yaml
  const shaped = shape(name, yaml.value)
  return shaped.ok ? { ok: true, yaml: yaml.value, value: shaped.value } : shaped
}
