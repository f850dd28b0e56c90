/** What differs between two releases, or between a release and what an agent sees of itself: down to the byte. */
import { canonicalize, wellFormed } from '../audit/canonical.ts'
import type { Json } from '../audit/log.ts'
import { DIGEST, type Manifest, sha256 } from './release-manifest.ts'

export interface Place {
  /** Offset in UTF-8 of the first byte that differs. */
  readonly byte: number
  /** A few characters around it on either side. */
  readonly was: string
  readonly is: string
}

export interface Difference {
  /** `tool read_ticket`, `image`, `component pkg:npm/hono`, … */
  readonly part: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly was?: string
  readonly is?: string
  readonly at?: Place
}

const BEFORE = 24
const AFTER = 24

/** Undefined where the texts are one and the same. */
export function firstDifference(was: string, is: string): Place | undefined {
  if (was === is) return undefined
  let at = 0
  while (at < was.length && at < is.length && was.charCodeAt(at) === is.charCodeAt(at)) at += 1
  // A pair that differs in its second half differs as a character.
  const unit = was.charCodeAt(at - 1)
  if (unit >= 0xd800 && unit <= 0xdbff) at -= 1
  const around = (text: string): string => {
    const [start, end] = [Math.max(0, at - BEFORE), at + AFTER]
    return `${start > 0 ? '…' : ''}${wellFormed(text.slice(start, end))}${end < text.length ? '…' : ''}`
  }
  return { byte: byteOf(was, is, at), was: around(was), is: around(is) }
}

/** Characters that differ may still share leading bytes. */
function byteOf(was: string, is: string, at: number): number {
  const [one, other] = [Buffer.from(was.slice(at, at + 2)), Buffer.from(is.slice(at, at + 2))]
  let shared = 0
  while (shared < one.length && shared < other.length && one[shared] === other[shared]) shared += 1
  return Buffer.byteLength(was.slice(0, at)) + shared
}

/** All parts that differ, in a fixed order. */
export function diffManifests(was: Manifest, is: Manifest): readonly Difference[] {
  const found: Difference[] = []
  for (const part of ['agent', 'version', 'image', 'model', 'policy_version'] as const)
    found.push(...single(part, was[part], is[part]))
  found.push(...lists('prompt', was.prompts, is.prompts, ({ digest }) => digest))
  found.push(
    ...lists(
      'tool',
      was.tools,
      is.tools,
      ({ digest }) => digest,
      (one, other) => firstDifference(one.schema, other.schema),
    ),
  )
  found.push(
    ...lists('skill', was.skills, is.skills, ({ version, digest }) =>
      version === undefined ? digest : `${version} ${digest}`,
    ),
  )
  found.push(...lists('component', packages(was.components), packages(is.components), ({ versions }) => versions))
  return found
}

function* single(part: string, was: string | undefined, is: string | undefined): Generator<Difference> {
  if (was === is) return
  if (was === undefined) yield { part, change: 'added', is: is! }
  else if (is === undefined) yield { part, change: 'removed', was }
  else yield { part, change: 'changed', was, is }
}

function* lists<T extends { readonly name: string }>(
  kind: string,
  was: readonly T[],
  is: readonly T[],
  textOf: (item: T) => string,
  placeOf?: (was: T, is: T) => Place | undefined,
): Generator<Difference> {
  const before = new Map(was.map((item) => [item.name, item]))
  const after = new Map(is.map((item) => [item.name, item]))
  for (const name of [...new Set([...before.keys(), ...after.keys()])].sort()) {
    const part = `${kind} ${name}`
    const [one, other] = [before.get(name), after.get(name)]
    if (one === undefined) yield { part, change: 'added', is: textOf(other!) }
    else if (other === undefined) yield { part, change: 'removed', was: textOf(one) }
    else if (textOf(one) !== textOf(other)) {
      const at = placeOf?.(one, other)
      yield { part, change: 'changed', was: textOf(one), is: textOf(other), ...(at ? { at } : {}) }
    }
  }
}

/** One package may be there in several versions. */
function packages(components: readonly string[]): readonly { readonly name: string; readonly versions: string }[] {
  const byName = new Map<string, string[]>()
  for (const component of components) {
    const at = component.lastIndexOf('@')
    const name = component.slice(0, at)
    byName.set(name, [...(byName.get(name) ?? []), component.slice(at + 1)])
  }
  return [...byName].map(([name, versions]) => ({ name, versions: versions.join(' ') }))
}

/** What an agent sees of itself at run time; a part that it leaves out is not compared. */
export interface Seen {
  readonly model?: string
  /** By name: a digest, or the tool's definition. The whole list: one more or one less is another release. */
  readonly tools?: ReadonlyMap<string, Json>
  /** By name: digests. */
  readonly prompts?: ReadonlyMap<string, string>
}

/** The first part that is not what the release says, as a sentence; undefined where all that was seen is. */
export function changedSince(manifest: Manifest, { model, tools, prompts }: Seen): string | undefined {
  if (model !== undefined && model !== manifest.model) return `model ${model} is not ${manifest.model ?? 'in it'}`
  if (tools) {
    const known = new Map(manifest.tools.map((tool) => [tool.name, tool]))
    for (const [name, value] of tools) {
      const tool = known.get(name)
      if (tool === undefined) return `tool ${name} is not in it`
      const changed = changedTool(tool, value)
      if (changed !== undefined) return `tool ${name} ${changed}`
    }
    for (const name of known.keys()) if (!tools.has(name)) return `tool ${name} is gone`
  }
  if (prompts) {
    const known = new Map(manifest.prompts.map(({ name, digest }) => [name, digest]))
    for (const [name, digest] of prompts)
      if (known.get(name) !== digest) return `prompt ${name} ${known.has(name) ? 'has another digest' : 'is not in it'}`
    for (const name of known.keys()) if (!prompts.has(name)) return `prompt ${name} is gone`
  }
  return undefined
}

function changedTool({ digest, schema }: Manifest['tools'][number], value: Json): string | undefined {
  if (typeof value === 'string' && DIGEST.test(value))
    return value === digest ? undefined : `has the digest ${value}, not ${digest}: send its definition to be told where`
  const seen = canonicalize(value)
  if (sha256(seen) === digest) return undefined
  const place = firstDifference(schema, seen)
  // Told in error_description, which is ASCII (RFC 6749 §5.2).
  return place && `changed at byte ${place.byte}: ${place.was} became ${place.is}`.replaceAll('…', '...')
}
