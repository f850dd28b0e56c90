/** What agents' files say of client certificates (RFC 8705), held against one another. */
import { beforeAll, describe, expect, it } from 'vitest'
import { issue, pemOf } from '../attest/pki.ts'
import { problemsOf } from './folder.ts'

let authorities: Readonly<Record<string, string>>
beforeAll(async () => {
  const ca = pemOf(await issue({ name: 'CN=partner CA', ca: true }))
  const other = pemOf(await issue({ name: 'CN=other CA', ca: true }))
  authorities = { 'keys/trust/ca.pem': ca, 'keys/trust/other.pem': other, 'keys/trust/both.pem': other + ca }
})

const agentFile = (clientId: string, name: string, caFile: string) => `client_id: ${clientId}
spiffe_id: spiffe://company.example/agents/${clientId}
evidence: [tls_client_auth]
tls_client_auth_ca_file: trust/${caFile}.pem
tls_client_auth_${name}
stage: read
ceiling: []
`
/** A bot of the one authority, and its heir. */
const problemsWith = (bot: string, heir: string, caFile = 'ca') =>
  problemsOf({
    ...authorities,
    'config/agents/bot.yaml': agentFile('bot', bot, 'ca'),
    'config/agents/heir.yaml': agentFile('heir', heir, caFile),
  })

describe('agents that attest by tls_client_auth', () => {
  it.each([
    ['subject_dn: CN=bot,O=Company', 'subject_dn: CN=bot,O=Company'],
    ['subject_dn: CN=bot,O=Company', 'subject_dn: cn=bot,2.5.4.10=Company'],
    ['subject_dn: CN=bot+O=Company', 'subject_dn: O=Company+CN=bot'],
    ['san_dns: bot.company.example', 'san_dns: bot.company.example'],
    ['san_ip: "2001:DB8::7"', 'san_ip: "2001:db8:0::7"'],
  ])('F5 are told apart by their certificates: %s and %s are one', async (bot, heir) => {
    const told = {
      file: 'config/agents/heir.yaml',
      line: 5,
      code: 'duplicate',
      message: 'one certificate could be evidence of this agent and of bot',
    }
    expect(await problemsWith(bot, heir)).toMatchObject([told])
    // Beside another authority, too.
    expect(await problemsWith(bot, heir, 'both')).toMatchObject([told])
    expect(await problemsWith(bot, heir, 'other')).toEqual([])
  })

  it.each([
    ['subject_dn: CN=bot,O=Company', 'subject_dn: O=Company,CN=bot'],
    ['subject_dn: CN=bot', 'subject_dn: CN=heir'],
    ['san_dns: bot.company.example', 'san_uri: bot.company.example'],
  ])('%s and %s are two', async (bot, heir) => {
    expect(await problemsWith(bot, heir)).toEqual([])
  })
})
