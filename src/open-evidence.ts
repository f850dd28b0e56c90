/** What is shown of the log and of the policies that decided, to whoever must judge it elsewhere. */
import { join } from 'node:path'
import { originOf } from './audit/checkpoint.ts'
import type { Checkpoints } from './audit/checkpoints.ts'
import { createGatherEvidence } from './audit/gather-evidence.ts'
import { checkpointSigner } from './keys/checkpoint-signer.ts'
import type { KeyRing } from './keys/key-ring.ts'
import type { RoomDeps } from './rooms.ts'
import { createKeptPolicies } from './store/files/kept-policies.ts'

interface Deps extends Pick<RoomDeps, 'holder' | 'log' | 'dataDir'> {
  readonly ring: KeyRing
  readonly checkpoints: Checkpoints
}

export function openEvidence({ holder, log, dataDir, ring, checkpoints }: Deps) {
  const policies = createKeptPolicies(join(dataDir, 'policies'))
  const { sign } = checkpointSigner(ring, originOf(holder.current().settings.issuer, log.logId))
  const evidence = createGatherEvidence({
    logId: log.logId,
    reader: log,
    tree: log.tree,
    checkpoints,
    policies: policies.find,
    keys: () => ring.publicKeysEver(),
    sign,
  })
  return { policies, evidence }
}
