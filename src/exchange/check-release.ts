/** Whether the agent is a release that may ask, and whether what it sees of itself is what that release says (F15). */
import { isJsonObject, type JsonObject, parseStrictObject } from '@errand/verifier/strict-json.ts'
import type { AttestationResult } from '../attest/attestation-result.ts'
import { changedSince, type Seen } from '../attest/release-difference.ts'
import { DIGEST } from '../attest/release-manifest.ts'
import type { Json } from '../audit/log.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'

export function checkRelease(
  { agent, release: id }: Pick<AttestationResult, 'agent' | 'release'>,
  measurements: string | undefined,
): Result<void> {
  const release = id === undefined ? undefined : agent.release?.registered.get(id)
  if (id !== undefined && !release) return refuse('release_unknown', 'request')
  if (!release) {
    if (!agent.release?.required && measurements === undefined) return ok(undefined)
    return refuse('release_required', 'request', { explanation: { rule: 'release' } })
  }
  if (measurements === undefined) return ok(undefined)
  const seen = readSeen(measurements)
  if (!seen.ok) return seen
  const changed = changedSince(release.manifest, seen.value)
  if (changed === undefined) return ok(undefined)
  return refuse('measurement_changed', 'request', { detail: changed, explanation: { rule: `release:${release.id}` } })
}

const MEMBERS = ['model', 'tools', 'prompts']

function readSeen(text: string): Result<Seen> {
  const no = (detail: string) => refuse('bad_param', 'request', { detail: `measurements: ${detail}` })
  const json = parseStrictObject(text, { maxDepth: 32, maxMembers: 20_000, integersOnly: false })
  if (!json.ok) return no(`not strict JSON (${json.fault})`)
  const { model, tools, prompts, ...rest } = json.value
  if (Object.keys(rest).length > 0) return no(`it has ${MEMBERS.join(', ')} and nothing else`)
  if (model !== undefined && typeof model !== 'string') return no('model is text')
  if (tools !== undefined && !isTools(tools)) return no('tools maps names to digests or definitions')
  if (prompts !== undefined && !isDigests(prompts)) return no('prompts maps names to digests')
  return ok({
    ...(model === undefined ? {} : { model }),
    ...(tools === undefined ? {} : { tools: new Map(Object.entries(tools)) }),
    ...(prompts === undefined ? {} : { prompts: new Map(Object.entries(prompts)) }),
  })
}

const isDigest = (value: unknown): value is string => typeof value === 'string' && DIGEST.test(value)
const isTools = (value: unknown): value is { readonly [name: string]: Json } =>
  isJsonObject(value) && Object.values(value).every((each) => isDigest(each) || isJsonObject(each))
const isDigests = (value: unknown): value is { readonly [name: string]: string } =>
  isJsonObject(value) && Object.values(value as JsonObject).every(isDigest)
