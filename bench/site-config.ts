/** What the measured service knows beside the sample company: an agent attested by its platform, a tool of eight operations. */

export const AGENT = 'bench'
export const SPIFFE_ID = `spiffe://bench.example/agents/${AGENT}`
export const RESOURCE = 'https://desk.example.com/'
/** The same tool again, for tokens that are bound to no key. */
export const OPEN_RESOURCE = 'https://open-desk.example.com/'
const OPERATIONS = ['read', 'search', 'list', 'comment', 'assign', 'close', 'reply', 'erase'] as const
export const SCOPE = 'desk:read desk:search desk:comment'
const MAY = ['read', 'search', 'list', 'comment', 'assign'].flatMap((name) => [`desk:${name}`, `open-desk:${name}`])

/** Added to the group of the user whom the agent works for. */
export const RIGHTS = '    - desk:*\n    - open-desk:*\n'

const effectOf = (at: number): string =>
  at < 3 ? 'read' : at < 6 ? 'reversible_write' : at < 7 ? 'external_communication' : 'irreversible_write'
const tool = (name: string, audience: string, more = ''): string => `name: ${name}
audience: ${audience}
keys_file: tools/${name}.pub.jwk
${more}operations:
${OPERATIONS.map((operation, at) => `  ${operation}: { effect: ${effectOf(at)} }`).join('\n')}
`

export const CONFIG: Readonly<Record<string, string>> = {
  [`agents/${AGENT}.yaml`]: `client_id: ${AGENT}
spiffe_id: ${SPIFFE_ID}
evidence: [jwt_svid, private_key_jwt]
keys_file: agents/${AGENT}.pub.jwk
stage: reversible_write
autonomous: true
ceiling: [${MAY.join(', ')}]
`,
  'issuers/bench.yaml': 'kind: workload\ntrust_domain: bench.example\nbundle_file: bench-bundle.json\n',
  'tools/desk.yaml': tool('desk', RESOURCE),
  'tools/open-desk.yaml': tool('open-desk', OPEN_RESOURCE, 'accepts_bearer: true\n'),
  'policies/bench.cedar': `@id("bench_alone")
@reason("the measured agent also works by itself")
permit (
  principal == Agent::"${AGENT}",
  action,
  resource
)
when { context.autonomous };
`,
}
