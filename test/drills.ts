/** An agent that is there for fire drills alone, as docs/revocation.md has it. */
export const DRILL_CONFIG = {
  'agents/fire-drill.yaml': `client_id: fire-drill
spiffe_id: spiffe://company.example/agents/fire-drill
evidence: [private_key_jwt]
keys_file: agents/fire-drill.pub.jwk
stage: read
autonomous: true
drill: true
ceiling: [tickets:read_ticket, crm:read_customer]
`,
  'policies/drill.cedar': `@id("fire_drill")
@reason("drills read by themselves")
permit (principal == Agent::"fire-drill", action in Action::"effect:read", resource) when { context.autonomous };
`,
} as const
