/** Opens the timer of fire drills: its agent asks for tokens at our own door, by its own key, as any agent does. */
import { setTimeout as pause } from 'node:timers/promises'
import { every } from './every.ts'
import type { App } from './http/app.ts'
import { generatePrivateJwk, readPrivateJwkFile } from './keys/private-jwk.ts'
import type { Containments } from './revoke/containments.ts'
import { createDrillTimer, type DrillSchedule, type DrillTimer } from './revoke/drill-timer.ts'
import type { Drills } from './revoke/drills.ts'
import type { RoomDeps } from './rooms.ts'
import { newId } from './tasks/ids.ts'

interface DrillTimerDeps extends Pick<RoomDeps, 'holder' | 'stores' | 'now' | 'monotonic' | 'closing'> {
  readonly drills: Drills
  readonly containments: Pick<Containments, 'of'>
  /** Opened later than the timer, which its readiness tells of. */
  readonly app: () => App
  readonly base: string
  readonly onFault: (error: unknown, where: string) => void
}

const INSIDE = 'http://127.0.0.1'

export function openDrillTimer(deps: DrillTimerDeps): DrillTimer {
  const { holder, drills, containments, stores, now, monotonic, closing, onFault } = deps
  const timer = createDrillTimer({
    schedule: () => holder.current().settings.drill,
    drills,
    containmentOf: (entry) => containments.of(entry),
    replayGuard: stores.replayGuard,
    getTokens: (schedule) => getTokens(deps, schedule),
    newCorrelation: () => newId('req'),
    now,
    monotonic,
    pause,
    onFault: (error) => onFault(error, 'fire drill'),
  })
  const end = every(1_000, timer.tick, (error) => onFault(error, 'fire drill'))
  closing.push(() => {
    timer.stop()
    return end()
  })
  return timer
}

async function getTokens(
  { holder, now, app, base }: DrillTimerDeps,
  { agent, agentKeyFile, tasks }: DrillSchedule,
): Promise<number> {
  const { agents, settings } = holder.current()
  const tools = [...new Set(agents.byClientId(agent)?.ceiling.map(({ tool }) => tool) ?? [])]
  if (tools.length === 0) throw new Error(`${agent} is registered with no tool`)
  // Loaded where somebody drills.
  const { createClient } = await import('./cli/client.ts')
  const { tokensOf } = await import('./cli/drill-tokens.ts')
  const client = createClient(
    {
      fetch: async (url, init) => app().fetch(new Request(url, init), { base, peer: '127.0.0.1' }),
      now,
      signal: new AbortController().signal,
    },
    { url: INSIDE, issuer: settings.issuer },
    {
      clientId: agent,
      key: await readPrivateJwkFile(agentKeyFile),
      proofKey: await generatePrivateJwk(''),
    },
  )
  let tokens = 0
  for (let each = 0; each < tasks; each++) tokens += (await tokensOf(client, tools)).length
  return tokens
}
