/** Cedar behind one file: parse, validate, and evaluate sets that were parsed before. */
import { randomUUID } from 'node:crypto'
import {
  type CedarValueJson,
  type DetailedError,
  type Expr,
  type PolicyJson,
  policyToJson,
  preparsePolicySet,
  statefulIsAuthorized,
  validate,
} from '@cedar-policy/cedar-wasm/nodejs'

export type { CedarValueJson, Expr, PolicyJson }

export interface CedarFault {
  readonly policyId: string
  readonly message: string
  readonly help?: string
  /** UTF-16 offset in the policy's own text. */
  readonly offset: number
}

/** Policies that are evaluated together; sets of one digest are the same set. */
export interface CedarSlice {
  readonly digest: string
  readonly policies: Readonly<Record<string, string>>
}

export interface CedarRequest {
  readonly principal: { readonly type: string; readonly id: string }
  readonly action: { readonly type: string; readonly id: string; readonly groups: readonly string[] }
  readonly resource: { readonly type: string; readonly id: string }
  readonly context: Readonly<Record<string, CedarValueJson>>
}

export interface CedarAnswer {
  readonly allowed: boolean
  /** Ids of the policies that determined it; empty is default deny. */
  readonly determining: readonly string[]
  /** Ids of the policies whose evaluation failed: then nothing is allowed. */
  readonly errors: readonly string[]
}

export interface Cedar {
  parse(
    text: string,
  ): { readonly ok: true; readonly json: PolicyJson } | { readonly ok: false; readonly fault: CedarFault }
  /** Errors, and warnings too: a policy that Cedar warns of cannot mean what its author thinks. */
  check(schema: string, policies: Readonly<Record<string, string>>): readonly CedarFault[]
  evaluate(slice: CedarSlice, request: CedarRequest): CedarAnswer
}

/**
 * Cedar keeps parsed sets under names and never forgets a name, so a fixed number of names is used in turn. A set
 * takes about 50 KB parsed.
 */
const SLOTS = 512

export function createCedar(): Cedar {
  const prefix = randomUUID()
  /** Digest → name, least recently used first. */
  const slots = new Map<string, string>()

  function slotOf(slice: CedarSlice): string {
    const known = slots.get(slice.digest)
    if (known !== undefined) {
      slots.delete(slice.digest)
      slots.set(slice.digest, known)
      return known
    }
    let name = `${prefix}/${slots.size}`
    if (slots.size >= SLOTS) {
      const [oldest, freed] = slots.entries().next().value!
      slots.delete(oldest)
      name = freed
    }
    const parsed = preparsePolicySet(name, { staticPolicies: { ...slice.policies } })
    if (parsed.type !== 'success')
      throw new Error(`Cedar does not parse a policy it parsed before: ${messages(parsed.errors)}`)
    slots.set(slice.digest, name)
    return name
  }

  return {
    parse(text) {
      const answer = policyToJson(text)
      if (answer.type === 'success') return { ok: true, json: answer.json }
      return { ok: false, fault: faultOf('', answer.errors[0]!, text) }
    },

    check(schema, policies) {
      const answer = validate({
        schema,
        policies: { staticPolicies: { ...policies } },
        validationSettings: { mode: 'strict' },
      })
      if (answer.type === 'failure') return answer.errors.map((error) => faultOf('', error, ''))
      const faults: CedarFault[] = []
      for (const { policyId, error } of [...answer.validationErrors, ...answer.validationWarnings]) {
        // One mistake makes several remarks; the first is the cause, the others follow from it.
        if (faults.some((fault) => fault.policyId === policyId)) continue
        faults.push(faultOf(policyId, error, policies[policyId] ?? ''))
      }
      return faults
    },

    evaluate(slice, { principal, action, resource, context }) {
      const answer = statefulIsAuthorized({
        principal: { ...principal },
        action: { type: action.type, id: action.id },
        resource: { ...resource },
        context: { ...context },
        preparsedPolicySetId: slotOf(slice),
        // The action's groups are all that policies ask of entities: facts are in the context. Each entity costs 8 µs.
        entities: [
          {
            uid: { type: action.type, id: action.id },
            attrs: {},
            parents: action.groups.map((id) => ({ type: action.type, id })),
          },
        ],
      })
      if (answer.type === 'failure') throw new Error(`Cedar refused a request: ${messages(answer.errors)}`)
      const { decision, diagnostics } = answer.response
      const errors = diagnostics.errors.map((error) => error.policyId).sort()
      return {
        allowed: decision === 'allow' && errors.length === 0,
        determining: [...diagnostics.reason].sort(),
        errors,
      }
    },
  }
}

const messages = (errors: readonly DetailedError[]): string => errors.map((error) => error.message).join('; ')

function faultOf(policyId: string, error: DetailedError, text: string): CedarFault {
  const start = error.sourceLocations?.[0]?.start ?? 0
  const label = error.sourceLocations?.[0]?.label
  const help = error.help ?? label ?? undefined
  return {
    policyId,
    message: error.message.replace(/^for policy `[^`]*`[,:] /, '').replace(/^failed to parse policy from string: /, ''),
    ...(help === undefined ? {} : { help }),
    // Cedar counts bytes.
    offset: Buffer.from(text).subarray(0, start).toString().length,
  }
}
