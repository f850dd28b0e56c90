/** More of the company than the sample has: agents that hand over to one another, tools that are agents, and odd ones. */

const agent = (
  clientId: string,
  more: {
    readonly stage?: string
    readonly ceiling?: readonly string[]
    readonly delegatesTo?: readonly string[]
    readonly autonomous?: boolean
  } = {},
): string =>
  [
    `client_id: ${clientId}`,
    `spiffe_id: spiffe://company.example/agents/${clientId}`,
    'evidence: [private_key_jwt]',
    `keys_file: agents/${clientId}.pub.jwk`,
    `stage: ${more.stage ?? 'reversible_write'}`,
    `autonomous: ${more.autonomous ?? false}`,
    'ceiling:',
    ...(
      more.ceiling ?? ['tickets:read_ticket', 'tickets:search_tickets', 'tickets:add_comment', 'crm:read_customer']
    ).map((each) => `  - ${each}`),
    `delegates_to: [${(more.delegatesTo ?? []).join(', ')}]`,
    '',
  ].join('\n')

const CHAIN = ['first', 'second', 'third', 'fourth', 'fifth']

/** `first` to `fifth`, each of which may hand over to each. */
export const chainOfAgents = (ceiling?: readonly string[]): Readonly<Record<string, string>> =>
  Object.fromEntries(
    CHAIN.map((name) => [
      `agents/${name}.yaml`,
      agent(name, { delegatesTo: CHAIN.filter((other) => other !== name), ...(ceiling ? { ceiling } : {}) }),
    ]),
  )

/** At stage `suggest`: decisions, never tokens. */
export const adviser = { 'agents/adviser.yaml': agent('adviser', { stage: 'suggest' }) }

/** The ticket desk is an agent too: it looks customers up on behalf of those who call it. */
export const ticketDesk = {
  'agents/desk.yaml': agent('desk', { ceiling: ['crm:read_customer', 'crm:update_customer', 'tickets:*'] }),
  'tools/tickets.yaml': (text: string) => text.replace('name: tickets\n', 'name: tickets\nagent: desk\n'),
}

/** A tool that takes bearer tokens, and does not follow revocations. */
export const wiki = {
  'tools/wiki.yaml': [
    'name: wiki',
    'audience: https://wiki.example.com/',
    'accepts_bearer: true',
    'follows_feed: false',
    'keys_file: tools/wiki.pub.jwk',
    'operations:',
    '  read_page: { effect: read, routes: [GET /pages/:page] }',
    '  write_page: { effect: reversible_write, routes: [PUT /pages/:page] }',
    '',
  ].join('\n'),
  'agents/reader.yaml': agent('reader', { ceiling: ['wiki:*', 'tickets:read_ticket'] }),
  'issuers/dev.yaml': (text: string) => text.replace('  support:\n', '  support:\n    - wiki:*\n'),
}

export { agent as agentFile }
