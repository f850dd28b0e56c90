/** What an agent's stage of autonomy allows: a cap on effects (DESIGN.md, *Words*). */
import type { Effect } from '@errand/verifier/claims.ts'
import { STAGES, type Stage } from '../attest/registration.ts'

const allowed: Readonly<Record<Stage, readonly Effect[]>> = {
  suggest: [],
  draft: [],
  read: ['read'],
  reversible_write: ['read', 'reversible_write'],
  irreversible_write: ['read', 'reversible_write', 'irreversible_write'],
  external: ['read', 'reversible_write', 'irreversible_write', 'external_communication'],
}

export const stageAllows = (stage: Stage, effect: Effect): boolean => allowed[stage].includes(effect)

/** Agents at these stages get decisions by `dry_run`, never a token. */
export const stageGetsTokens = (stage: Stage): boolean => allowed[stage].length > 0

/** The lowest stage that allows `effect`; none allows `privileged`, which needs an approval. */
export const stageFor = (effect: Effect): Stage | undefined => STAGES.find((stage) => stageAllows(stage, effect))
