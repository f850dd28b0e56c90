/**
 * The release manifest: what an agent is made of, as canonical JSON (RFC 8785), so that one set of parts has one text
 * and one id. Nothing in it is secret: of prompts and skills it holds digests, of tools the definition itself, so that
 * a refusal can name the byte that changed.
 */
import { createHash } from 'node:crypto'
import { parseStrictObject } from '@errand/verifier/strict-json.ts'
import { z } from 'zod'
import { canonicalize } from '../audit/canonical.ts'
import type { Json } from '../audit/log.ts'

export const MANIFEST_BOUNDS = {
  bytes: 786_432,
  tools: 512,
  schemaBytes: 32_768,
  prompts: 512,
  skills: 256,
  components: 10_000,
} as const

/** As image registries write it (OCI image-spec, *Digests*). */
export const DIGEST = /^sha256:[0-9a-f]{64}$/
const NAME = /^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/
/** A package URL with a version and nothing after it. */
const COMPONENT = /^pkg:[a-z][a-z0-9.+-]{0,30}\/[A-Za-z0-9._~!*'()%/-]{1,300}@[A-Za-z0-9._~!*'()%-]{1,120}$/

const digest = z.string().regex(DIGEST, { error: 'not a digest: sha256: and 64 hexadecimal digits' })
const name = z.string().regex(NAME, { error: 'not one line of printable ASCII' })

const manifestSchema = z.strictObject({
  v: z.literal(1),
  agent: z.string().regex(/^[a-z][a-z0-9_.-]{0,63}$/, { error: 'not a client_id' }),
  version: name,
  image: digest.optional(),
  model: name.optional(),
  policy_version: name.optional(),
  prompts: z.array(z.strictObject({ name, digest })).max(MANIFEST_BOUNDS.prompts),
  tools: z
    .array(z.strictObject({ name, digest, schema: z.string().max(MANIFEST_BOUNDS.schemaBytes) }))
    .max(MANIFEST_BOUNDS.tools),
  skills: z.array(z.strictObject({ name, version: name.optional(), digest })).max(MANIFEST_BOUNDS.skills),
  components: z
    .array(z.string().regex(COMPONENT, { error: 'not a package URL with a version' }))
    .max(MANIFEST_BOUNDS.components),
})

export type Manifest = z.output<typeof manifestSchema>

export type ManifestReading =
  | { readonly ok: true; readonly manifest: Manifest; readonly id: string }
  | { readonly ok: false; readonly why: string }

/** SHA-256 as the manifest writes it. */
export const sha256 = (bytes: string | Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`

export const manifestText = (manifest: Manifest): string => canonicalize(manifest as unknown as Json)

/**
 * The id by which tokens, policies and revocations name a release: 132 bits of the SHA-256 of its text. A chain of four
 * agents carries four of them in 2 KB, so it is no longer than it must be; two releases of one id are refused at load.
 */
export const releaseId = (text: string): string => createHash('sha256').update(text).digest('base64url').slice(0, 22)
export const RELEASE_ID = /^[A-Za-z0-9_-]{22}$/

/** One digest over all prompts: what policies compare. */
export const promptDigest = ({ prompts }: Pick<Manifest, 'prompts'>): string =>
  sha256(canonicalize(prompts.map(({ name, digest }) => [name, digest])))

/** Reads a manifest as exactly its canonical text: what could be written in two ways is refused. */
export function readManifest(bytes: string | Uint8Array): ManifestReading {
  const no = (why: string): ManifestReading => ({ ok: false, why })
  if (bytes.length > MANIFEST_BOUNDS.bytes) return no(`it is above ${MANIFEST_BOUNDS.bytes} bytes`)
  const text = typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8')
  const json = parseStrictObject(bytes, { maxMembers: 50_000 })
  if (!json.ok) return no(`it is not strict JSON (${json.fault})`)
  const shaped = manifestSchema.safeParse(json.value)
  if (!shaped.success) {
    const [issue] = shaped.error.issues
    return no(`${issue?.path.map(String).join('.') || 'it'}: ${issue?.message ?? 'not of the documented form'}`)
  }
  const manifest = shaped.data
  const disorder = disorderOf(manifest)
  if (disorder !== undefined) return no(disorder)
  for (const { name, digest, schema } of manifest.tools)
    if (sha256(schema) !== digest) return no(`tool ${name}: its digest is not that of its schema`)
  if (manifestText(manifest) !== text) return no('it is not in canonical form (RFC 8785)')
  return { ok: true, manifest, id: releaseId(text) }
}

/** Lists are in order and hold nothing twice: a component that stands twice would hide from whoever removes it once. */
function disorderOf(manifest: Manifest): string | undefined {
  const lists = {
    tools: manifest.tools.map(({ name }) => name),
    prompts: manifest.prompts.map(({ name }) => name),
    skills: manifest.skills.map(({ name }) => name),
    components: manifest.components,
  }
  for (const [list, names] of Object.entries(lists)) {
    for (let at = 1; at < names.length; at += 1) {
      if (names[at - 1] === names[at]) return `${list}: ${names[at]} stands twice`
      if (names[at - 1]! > names[at]!) return `${list}: not in order at ${names[at]}`
    }
  }
  return undefined
}

/** `litellm`, `litellm@1.82.8` or the whole package URL. */
export function namesComponent(component: string, wanted: string): boolean {
  if (component === wanted) return true
  // Apart before they are decoded: a version that is an address may hold an @ of its own.
  const at = component.lastIndexOf('@')
  const name = decoded(component.slice(component.indexOf('/') + 1, at))
  const version = `@${decoded(component.slice(at + 1))}`
  // PyPI knows zope.interface and Zope_Interface as one (PEP 503): who looks for either means both.
  const spelling = (text: string) =>
    component.startsWith('pkg:pypi/') ? text.toLowerCase().replace(/[-_.]+/g, '-') : text
  const named = wanted.endsWith(version) ? wanted.slice(0, -version.length) : wanted
  return [wanted, named].some((each) => spelling(each) === spelling(name))
}

/** As it stands where it is no encoding: what cannot be decoded must not hide from whoever looks for it. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
