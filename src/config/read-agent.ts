/** agents/*.yaml → AgentRegistration. */
import type { AgentRegistration } from '../attest/registration.ts'
import type { EvidenceAges } from '../attest/release.ts'
import { isWorkloadId } from '../attest/spiffe-id.ts'
import type { Tool } from '../policy/tool.ts'
import type { Declared } from './declared-arguments.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import { readCertificates } from './read-certificates.ts'
import { readRights } from './rights.ts'
import type { AgentFile } from './agent-file.ts'

export async function readAgent(
  source: AgentFile,
  file: string,
  context: {
    readonly keyFiles: KeyFiles
    readonly tools: ReadonlyMap<string, Tool>
    readonly declared: Declared
    readonly report: Reporter
  },
): Promise<AgentRegistration> {
  const { keyFiles, tools, declared, report } = context
  if (!isWorkloadId(source.spiffe_id)) {
    report(
      ['spiffe_id'],
      'bad_identifier',
      `${JSON.stringify(source.spiffe_id)} is not a SPIFFE id`,
      'spiffe://<trust domain>/<path>',
    )
  }
  const keys = await keyFiles.ownKeys(source)
  if (!keys.ok) report([source.keys === undefined ? 'keys_file' : 'keys'], keys.code, keys.message, keys.suggestion)
  const byKey = source.evidence.includes('private_key_jwt')
  const namesKeys = source.keys_file !== undefined || source.keys !== undefined
  if (byKey && !namesKeys)
    report(
      ['evidence'],
      'missing_key',
      'private_key_jwt needs a public key',
      'add keys_file: agents/<client_id>.pub.jwk',
    )
  const granted = source.evidence.indexOf('workload_grant')
  if (granted >= 0)
    report(['evidence', granted], 'bad_value', 'workload_grant is for agents of platforms, which no file registers')
  return {
    clientId: source.client_id,
    spiffeId: source.spiffe_id,
    displayName: source.display_name ?? source.client_id,
    ...(source.owner === undefined ? {} : { owner: source.owner }),
    disabled: source.disabled,
    evidence: [...new Set(source.evidence)],
    keys: keys.ok ? keys.value : [],
    ...(await readCertificates(source, { keyFiles, report })),
    stage: source.stage,
    ceiling: readRights(source.ceiling, ['ceiling'], { tools, declared, report }),
    autonomous: source.autonomous,
    ...(source.drill ? { drill: true } : {}),
    delegatesTo: source.delegates_to,
    ...(source.default_task === undefined ? {} : { defaultTask: JSON.stringify(source.default_task) }),
    ...(source.instance_since === undefined ? {} : { instanceSince: source.instance_since }),
    ...(source.minimum_tier === undefined ? {} : { minimumTier: source.minimum_tier }),
    ...(source.evidence_age === undefined ? {} : { evidenceAges: agesOf(source.evidence_age) }),
    file,
  }
}

const agesOf = (source: NonNullable<AgentFile['evidence_age']>): EvidenceAges => ({
  ...(source.measured_seconds === undefined ? {} : { measuredSeconds: source.measured_seconds }),
  ...(source.platform_seconds === undefined ? {} : { platformSeconds: source.platform_seconds }),
})
