/** releases/*.jws → the registered releases of each agent: each signed by a release signer of the agent it names. */
import type { JWK } from '../attest/registration.ts'
import type { ProvenanceRule } from '../attest/provenance.ts'
import type { Release, ReleaseRule } from '../attest/release.ts'
import type { Manifest } from '../attest/release-manifest.ts'
import { MAX_SIGNED_BYTES, readSignedRelease } from '../attest/release-signature.ts'
import type { Problem } from '../policy/problem.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import type { AgentFile } from './agent-file.ts'

const FOLDER = 'releases'
const SIGNED = '.jws'
const BUNDLE = '.sigstore.json'
const MAX_FILES = 2000

export interface ReleaseSources {
  readonly agents: readonly { readonly value: AgentFile; readonly report: Reporter }[]
  readonly keyFiles: KeyFiles
  /** Names in the folder releases/; none where there is no such folder. */
  readonly names: readonly string[]
  readonly textOf: (path: string) => Promise<string | undefined>
  /** Name of the configuration folder, for messages. */
  readonly label: string
  readonly problems: Problem[]
}

/** By client_id; an agent without `release` in its file has none. */
export async function readReleases(sources: ReleaseSources): Promise<ReadonlyMap<string, ReleaseRule>> {
  const { agents, keyFiles, names, textOf, label, problems } = sources
  const signers = new Map<string, readonly JWK[]>()
  const registered = new Map<string, Map<string, Release>>()
  const provenances = new Map<string, ProvenanceRule>()
  for (const { value, report } of agents) {
    if (value.release === undefined) continue
    registered.set(value.client_id, new Map())
    const keys = await keyFiles.ownKeys(value.release)
    if (!keys.ok) report(['release', value.release.keys === undefined ? 'keys_file' : 'keys'], keys.code, keys.message)
    else if (keys.value.length === 0 && !keyFiles.allowMissing)
      report(
        ['release'],
        'missing_key',
        'release needs the public key of a signer',
        'add keys_file: releases/ci.pub.jwk',
      )
    signers.set(value.client_id, keys.ok ? keys.value : [])
    const provenance = await provenanceOf(value.release, keyFiles, report)
    if (provenance) provenances.set(value.client_id, provenance)
  }

  const files = names.filter((name) => !name.startsWith('.') && !name.endsWith('~')).sort()
  if (files.length > MAX_FILES) {
    problems.push({ file: `${label}/${FOLDER}`, code: 'too_large', message: `more than ${MAX_FILES} files` })
    return new Map()
  }
  for (const name of files) {
    const file = `${label}/${FOLDER}/${name}`
    if (name.endsWith(BUNDLE) && files.includes(name.replace(BUNDLE, SIGNED))) continue
    if (!name.endsWith(SIGNED)) {
      problems.push({
        file,
        code: 'bad_value',
        message: `only ${SIGNED} files are read in ${FOLDER}/, and ${BUNDLE} files of the same name beside them`,
        ...(name.endsWith('.json') ? { suggestion: 'sign it: errand release sign' } : {}),
      })
      continue
    }
    const text = await textOf(`${FOLDER}/${name}`)
    if (text === undefined) continue
    if (text.length > MAX_SIGNED_BYTES) {
      problems.push({ file, code: 'too_large', message: `the file is above ${MAX_SIGNED_BYTES} bytes` })
      continue
    }
    const read = readSignedRelease(text, (agent) => signers.get(agent))
    if (!read.ok) {
      problems.push({ file, code: 'release_rejected', message: read.why })
      continue
    }
    const { ok: _, ...release } = read
    const { manifest, id } = release
    const own = registered.get(manifest.agent)!
    const other = own.get(id)
    if (other) problems.push({ file, code: 'duplicate', message: `the release ${id} already stands in ${other.file}` })
    else {
      const bundle = files.includes(name.replace(SIGNED, BUNDLE)) ? name.replace(SIGNED, BUNDLE) : undefined
      const built = await builderOf(manifest, provenances.get(manifest.agent), bundle, textOf)
      if (built.ok)
        own.set(id, { ...release, file, ...(built.builder === undefined ? {} : { builder: built.builder }) })
      else
        problems.push({
          file: bundle === undefined ? file : `${label}/${FOLDER}/${bundle}`,
          code: 'release_rejected',
          message: built.why,
        })
    }
  }

  const rules = new Map<string, ReleaseRule>()
  for (const { value } of agents) {
    const { release, client_id: clientId } = value
    if (release === undefined) continue
    rules.set(clientId, {
      required: release.required,
      ...(release.max_age_seconds === undefined ? {} : { maxAgeSeconds: release.max_age_seconds }),
      registered: registered.get(clientId)!,
    })
  }
  return rules
}

/** Loaded when used: most services have no provenance to verify, and the library takes its time. */
const provenanceModule = () => import('../attest/provenance.ts')

async function provenanceOf(
  { provenance }: NonNullable<AgentFile['release']>,
  keyFiles: KeyFiles,
  report: Reporter,
): Promise<ProvenanceRule | undefined> {
  if (provenance === undefined) return undefined
  const at = ['release', 'provenance', 'trusted_root_file']
  const text = await keyFiles.text(provenance.trusted_root_file)
  if (!text.ok) {
    report(at, text.code, text.message)
    return undefined
  }
  const trust = (await provenanceModule()).readTrustedRoot(text.value)
  if (!trust.ok) {
    report(at, 'bad_key', `${provenance.trusted_root_file}: ${trust.why}`)
    return undefined
  }
  return {
    trust: trust.value,
    identity: provenance.identity,
    identityIssuer: provenance.identity_issuer,
    builder: provenance.builder,
    repository: provenance.repository,
  }
}

async function builderOf(
  { agent, image }: Manifest,
  rule: ProvenanceRule | undefined,
  bundle: string | undefined,
  textOf: ReleaseSources['textOf'],
): Promise<{ readonly ok: true; readonly builder?: string } | { readonly ok: false; readonly why: string }> {
  if (rule === undefined) {
    // What nobody verifies must not look as if it were.
    return bundle === undefined
      ? { ok: true }
      : { ok: false, why: `${agent} has no release.provenance to verify it by` }
  }
  if (image === undefined) return { ok: false, why: 'the manifest names no image, so it has no provenance' }
  const text = bundle === undefined ? undefined : await textOf(`${FOLDER}/${bundle}`)
  if (text === undefined) return { ok: false, why: `${agent} needs the provenance of the image beside it: ${BUNDLE}` }
  const verified = (await provenanceModule()).verifyProvenance(text, rule, image)
  return verified.ok ? { ok: true, builder: verified.value } : { ok: false, why: verified.why }
}
