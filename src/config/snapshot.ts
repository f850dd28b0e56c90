/** One consistent reading of config/: immutable, replaced as a whole. A request holds the one it began with. */
import type { AgentRegistration, MachineClient } from '../attest/registration.ts'
import type { AgentLookup } from '../attest/attestor.ts'
import type { AgentPlatform } from '../attest/platform.ts'
import type { TrustDomain } from '../attest/trust-domain.ts'
import type { Attester, WorkloadIssuer } from '../attest/workload-issuer.ts'
import type { Decide } from '../policy/decision.ts'
import type { KeptPolicy } from '../policy/kept-policies.ts'
import type { Tool } from '../policy/tool.ts'
import type { PlatformOf } from '../tokens/assertion.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import type { ServiceSettings } from './settings.ts'

export interface Snapshot {
  readonly settings: ServiceSettings
  readonly agents: {
    readonly all: readonly AgentRegistration[]
    byClientId(clientId: string): AgentRegistration | undefined
    bySpiffeId(spiffeId: string): AgentRegistration | undefined
  } & Pick<AgentLookup, 'byWorkload' | 'byAttestedSubject'>
  readonly tools: {
    readonly all: readonly Tool[]
    byName(name: string): Tool | undefined
    byAudience(audience: string): Tool | undefined
  }
  readonly issuers: {
    readonly all: readonly TrustedIssuer[]
    byIss(iss: string): TrustedIssuer | undefined
  }
  readonly trustDomains: {
    readonly all: readonly TrustDomain[]
    byName(name: string): TrustDomain | undefined
  }
  /** Issuers whose tokens speak for workloads. */
  readonly workloadIssuers: {
    readonly all: readonly WorkloadIssuer[]
    byIss(iss: string): WorkloadIssuer | undefined
  }
  /** Platforms that speak for agents which nobody registers here. */
  readonly platforms: {
    readonly all: readonly AgentPlatform[]
    of: PlatformOf
  }
  readonly attesters: {
    readonly all: readonly Attester[]
    byName(name: string): Attester | undefined
  }
  /** Administrators and tools that authenticate by key. */
  readonly machines: {
    readonly all: readonly MachineClient[]
    byClientId(clientId: string): MachineClient | undefined
  }
  readonly decide: Decide
  /** What a policy says of itself (`@reason`). */
  policyReason(id: string): string | undefined
  /** Every policy of the set, as it is written. */
  readonly policyTexts: readonly KeptPolicy[]
  /** Short digest of the policy set. */
  readonly policyDigest: string
  /** SHA-256 over everything read, hex. */
  readonly digest: string
  readonly loadedAt: number
}
