/** Agents of platforms as administrators see them: by their coming, with the authority that their platform has now. */
import { type AgentPlatform, registrationOf } from '../attest/platform.ts'
import type { PlatformAgent } from '../attest/platform-agents.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { HttpDeps } from './deps.ts'

/** As many as an answer holds; the others are found by their client_id. */
const MOST = 1000

export interface SeenAgent {
  readonly agent: AgentRegistration
  readonly more: object
}

export async function seenAgents({ snapshot, platformAgents }: HttpDeps): Promise<readonly SeenAgent[]> {
  const platforms = snapshot().platforms.all
  return (await platformAgents.list(MOST)).flatMap((seen) => viewOf(seen, platforms))
}

export async function seenAgent({ snapshot, platformAgents }: HttpDeps, id: string): Promise<SeenAgent | undefined> {
  const seen = await platformAgents.find(id)
  return seen && viewOf(seen, snapshot().platforms.all)[0]
}

/** None where its platform is not configured any more: it can do nothing. */
function viewOf(seen: PlatformAgent, platforms: readonly AgentPlatform[]): readonly SeenAgent[] {
  const platform = platforms.find(({ name }) => name === seen.platform)
  if (!platform) return []
  return [
    {
      agent: registrationOf(platform, seen.sub),
      more: {
        platform: platform.name,
        issuer: platform.issuer,
        subject: seen.sub,
        first_seen: seen.firstSeen,
        last_seen: seen.lastSeen,
      },
    },
  ]
}
