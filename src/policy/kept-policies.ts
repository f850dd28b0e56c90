/** Every set of policies that was in force, by the digest that tokens name it by: what decided then can be read later. */
import { createCedar } from './cedar.ts'
import { readAnnotations } from './annotations.ts'
import { digestOf } from './policy-set.ts'

export interface KeptPolicy {
  readonly id: string
  readonly file: string
  readonly line: number
  readonly text: string
}

export interface KeptPolicies {
  /** Durable before it resolves. A digest that is there already is left as it is. */
  keep(digest: string, policies: readonly KeptPolicy[]): Promise<void>
  find(digest: string): Promise<readonly KeptPolicy[] | undefined>
}

/** The digest of policies that are given by their texts; undefined where one is no policy. */
export function policyDigestOf(policies: readonly Pick<KeptPolicy, 'text'>[]): string | undefined {
  const cedar = createCedar()
  const read = policies.map(({ text }) => {
    const parsed = cedar.parse(text)
    if (!parsed.ok) return undefined
    const { annotations } = readAnnotations(parsed.json.annotations ?? {}, parsed.json.effect)
    return annotations && { annotations, json: parsed.json }
  })
  return read.every((each) => each !== undefined) ? digestOf(read).slice(0, 12) : undefined
}
