/**
 * Fire drills: what synthetic agents do is contained as in earnest, and how long that took goes into the log. Only an
 * agent that the configuration names for it is ever meant, by its client_id and by nothing else.
 */
import type { AuditLog, AuditReader, AuditRecord, Json } from '../audit/log.ts'
import type { Containment } from './containment.ts'
import type { Containments } from './containments.ts'
import type { Revoke } from './revoke.ts'
import type { Revocation } from './revocation-log.ts'

const REASON = 'fire drill'
const MAX_WHY = 300

/** What whoever drilled has seen; nothing of it is known here. */
export interface Observed {
  readonly tokens: number
  /** From the answer to the revocation until it was seen contained. */
  readonly milliseconds: number
  readonly probes: readonly { readonly url: string; readonly before: number; readonly after: number }[]
}

interface Acting {
  readonly by: string
  readonly correlation: string
}

export interface Drills {
  /** Bans the agent; its tasks end. Undefined where it is not one for drills. */
  begin(agent: string, acting: Acting): Promise<{ readonly entry: Revocation; readonly tasks: number } | undefined>
  /** Records how it went, and ends the ban: the next drill may come. Undefined where no drill is under way by that id. */
  finish(id: string, observed: Observed, acting: Acting): Promise<Containment | undefined>
  /** Records one that could not be carried out, and why. */
  failed(agent: string, why: string, acting: Acting): Promise<void>
  /** Ends the bans of drills by the clock that were broken off, begun at `until` or before. */
  endLeft(agent: string, until: number, acting: Acting): Promise<void>
  /** Newest first. */
  history(limit: number): Promise<readonly AuditRecord[]>
}

export interface DrillsDeps {
  readonly revoke: Pick<Revoke, 'byMatch' | 'readmit'>
  readonly containments: Pick<Containments, 'find' | 'of' | 'tasksOf'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly reader: Pick<AuditReader, 'search'>
  readonly isForDrills: (clientId: string) => boolean
  /** In force now. */
  readonly bans: () => Promise<readonly Revocation[]>
}

/** Which agent a ban drills with. */
function drilledBy({ match, mode, reason }: Revocation): string | undefined {
  const { client_id: agent, ...rest } = match
  return mode === 'ban' && reason === REASON && Object.keys(rest).length === 0 ? agent : undefined
}

export function createDrills({ revoke, containments, audit, reader, isForDrills, bans }: DrillsDeps): Drills {
  return {
    async begin(agent, acting) {
      if (!isForDrills(agent)) return undefined
      const { entry, tasks } = await revoke.byMatch({
        match: { client_id: agent },
        mode: 'ban',
        reason: REASON,
        ...acting,
      })
      return { entry, tasks: tasks.length }
    },
    async finish(id, observed, { by, correlation }) {
      const entry = await containments.find(id)
      const agent = entry && drilledBy(entry)
      if (!entry || agent === undefined || !isForDrills(agent)) return undefined
      const [containment, { ended }] = await Promise.all([containments.of(entry), containments.tasksOf(entry)])
      if (!(await revoke.readmit(id, by, `${REASON} over`, correlation))) return undefined
      await audit.append({
        type: 'drill.finished',
        cause: id,
        agent,
        by,
        correlation,
        details: {
          contained: containment.contained,
          verifiers: containment.verifiers.length,
          acknowledged: containment.verifiers.filter(({ state }) => state === 'acknowledged').length,
          tasks: ended.length,
          ...(observed as unknown as { readonly [name: string]: Json }),
        },
      })
      return containment
    },
    async failed(agent, why, { by, correlation }) {
      const nothing = { contained: false, verifiers: 0, acknowledged: 0, tasks: 0, tokens: 0, milliseconds: 0 }
      const details = { ...nothing, probes: [], failed: why.slice(0, MAX_WHY) }
      await audit.append({ type: 'drill.finished', agent, by, correlation, details })
    },
    async endLeft(agent, until, { by, correlation }) {
      for (const entry of await bans())
        if (drilledBy(entry) === agent && entry.by === by && entry.at <= until)
          await revoke.readmit(entry.id, by, `${REASON} broken off`, correlation)
    },
    history: (limit) => reader.search({ type: 'drill.finished', limit }),
  }
}
