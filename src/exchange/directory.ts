/** What an exchange reads of the configuration: one consistent reading, held for the whole request. */
import type { AgentPlatform } from '../attest/platform.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { Decide } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import type { PlatformOf } from '../tokens/assertion.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'

export interface Directory {
  readonly settings: {
    readonly issuer: string
    readonly tokens: {
      readonly maxLifetimeSeconds: number
      readonly handOverLifetimeSeconds: number
      readonly idempotencySeconds: number
    }
    readonly tasks: {
      readonly defaultDeadlineSeconds: number
      readonly maxDeadlineSeconds: number
      readonly maxActors: number
    }
    readonly developmentShortcuts: readonly string[]
  }
  readonly agents: {
    byClientId(clientId: string): AgentRegistration | undefined
    bySpiffeId(spiffeId: string): AgentRegistration | undefined
  }
  readonly tools: {
    readonly all: readonly Tool[]
    byName(name: string): Tool | undefined
    byAudience(audience: string): Tool | undefined
  }
  readonly issuers: {
    readonly all: readonly TrustedIssuer[]
    byIss(iss: string): TrustedIssuer | undefined
  }
  readonly platforms: {
    readonly all: readonly AgentPlatform[]
    /** The one platform whose assertion this payload is, if it is anybody's. */
    of: PlatformOf
  }
  readonly decide: Decide
  readonly policyDigest: string
}
