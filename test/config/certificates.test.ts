/** What agents' files say of client certificates (RFC 8705), held against one another. */
import { beforeAll, describe, expect, it } from 'vitest'
import { issue, pemOf } from '../attest/pki.ts'
import { GOOD, load, problemsOf } from './folder.ts'

let authority: string
let another: string
beforeAll(async () => {
  const [one, other] = [
    await issue({ name: 'CN=partner CA', ca: true }),
    await issue({ name: 'CN=other CA', ca: true }),
  ]
  authority = pemOf(one)
  another = pemOf(other)
})

const agentFile = (clientId: string, name: string, caFile = 'trust/ca.pem') => ({
  [`config/agents/${clientId}.yaml`]: `client_id: ${clientId}
spiffe_id: spiffe://company.example/agents/${clientId}
evidence: [tls_client_auth]
tls_client_auth_ca_file: ${caFile}
tls_client_auth_${name}
stage: read
ceiling: []
`,
})
const withFiles = (...agents: readonly Readonly<Record<string, string>>[]) => ({
  ...GOOD,
  'keys/trust/ca.pem': authority,
  'keys/trust/other.pem': another,
  'keys/trust/both.pem': another + authority,
  ...Object.assign({}, ...agents),
})

describe('agents that attest by tls_client_auth', () => {
  it.each([
    ['subject_dn: CN=bot,O=Company', 'subject_dn: CN=bot,O=Company', 'trust/ca.pem'],
    ['subject_dn: CN=bot,O=Company', 'subject_dn: cn=bot,2.5.4.10=Company', 'trust/ca.pem'],
    ['subject_dn: CN=bot+O=Company', 'subject_dn: O=Company+CN=bot', 'trust/ca.pem'],
    ['san_dns: bot.company.example', 'san_dns: bot.company.example', 'trust/both.pem'],
    ['san_ip: "2001:DB8::7"', 'san_ip: "2001:db8:0::7"', 'trust/ca.pem'],
  ])('F5 are told apart by their certificates: %s and %s are one', async (one, other, caFile) => {
    const problems = await problemsOf(withFiles(agentFile('bot', one), agentFile('heir', other, caFile)))
    expect(problems).toMatchObject([
      {
        file: 'config/agents/heir.yaml',
        line: 5,
        code: 'duplicate',
        message: 'one certificate could be evidence of this agent and of bot',
      },
    ])
  })

  it.each([
    ['subject_dn: CN=bot,O=Company', 'subject_dn: "O=Company,CN=bot"', 'trust/ca.pem'],
    ['subject_dn: CN=bot', 'subject_dn: CN=heir', 'trust/ca.pem'],
    ['subject_dn: CN=bot', 'subject_dn: CN=bot', 'trust/other.pem'],
    ['san_dns: bot.company.example', 'san_uri: bot.company.example', 'trust/ca.pem'],
  ])('%s and %s of %s are two', async (one, other, caFile) => {
    const loaded = await load(withFiles(agentFile('bot', one), agentFile('heir', other, caFile)))
    expect(loaded.ok ? [] : loaded.problems).toEqual([])
  })
})
