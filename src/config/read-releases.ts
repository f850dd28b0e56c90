/** releases/*.jws → the registered releases of each agent: each signed by a release signer of the agent it names. */
import type { JWK } from '../attest/registration.ts'
import type { Release, ReleaseRule } from '../attest/release.ts'
import { MAX_SIGNED_BYTES, readSignedRelease } from '../attest/release-signature.ts'
import type { Problem } from '../policy/problem.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import type { AgentFile } from './schemas.ts'

const FOLDER = 'releases'
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
  }

  const files = names.filter((name) => !name.startsWith('.') && !name.endsWith('~')).sort()
  if (files.length > MAX_FILES) {
    problems.push({ file: `${label}/${FOLDER}`, code: 'too_large', message: `more than ${MAX_FILES} files` })
    return new Map()
  }
  for (const name of files) {
    const file = `${label}/${FOLDER}/${name}`
    if (!name.endsWith('.jws')) {
      problems.push({
        file,
        code: 'bad_value',
        message: `only .jws files are read in ${FOLDER}/`,
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
    else own.set(id, { ...release, file })
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
