import { beforeEach, describe, expect, it } from 'vitest'
import type { AgentRegistration } from '../../src/attest/registration.ts'
import { type OwnCertificate, readOwnCertificate } from '../../src/attest/tls-client-auth.ts'
import { only } from '../../src/attest/x509/der.ts'
import { hasName, type NameForm, readExpectedName } from '../../src/attest/x509/expected-name.ts'
import { readName } from '../../src/attest/x509/names.ts'
import { readCertificates } from '../../src/attest/x509/pem.ts'
import type { Result } from '../../src/oauth/refusal.ts'
import { agent, type AttestHouse, createAttestHouse } from './house.ts'
import { type CertificateWish, der, type Issued, issue, NOW, newKey, pemOf, USAGE, x509 } from './pki.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const nameOf = (form: NameForm, value: string) => {
  const read = readExpectedName(form, value)
  if (!read.ok) throw new Error(read.problem)
  return read.name
}
const DN = 'CN=research,O=Company'

let house: AttestHouse
let ca: Issued
beforeEach(async () => {
  house = await createAttestHouse()
  ca = await issue({ name: 'CN=partner CA', ca: true, notAfter: NOW + 86_400 })
})

const register = (clientId: string, more: Partial<AgentRegistration>) =>
  house.agents.set(clientId, agent(clientId, { evidence: ['tls_client_auth'], ...more }))
const byDn = (clientId: string, dn = DN, anchors: readonly Uint8Array[] = [ca.der]) =>
  register(clientId, { tlsClientAuth: { anchors, name: nameOf('subject_dn', dn) } })
const attest = (clientId: string | undefined, chain: readonly Uint8Array[]) =>
  house.attest({ slot: 'client', certificate: chain, ...(clientId === undefined ? {} : { clientId }) })
/** RFC 4514 writes the last relative name first; the generator writes them down in the order it reads. */
const encoded = (dn: string) =>
  dn
    .split(/(?<!\\),/)
    .reverse()
    .join(',')
const certificate = ({ name = DN, ...wish }: CertificateWish = {}) =>
  issue({ name: encoded(name), issuer: ca, ...wish })

describe('tls_client_auth', () => {
  it('F2 takes the registered subject from the registered authority, and binds to that certificate', async () => {
    byDn('research')
    const leaf = await certificate()
    const result = await attest('research', [leaf.der])
    expect(result).toMatchObject({
      ok: true,
      value: { kind: 'tls_client_auth', tier: 'key', spiffeId: 'spiffe://company.example/agents/research' },
    })
    expect(result.ok && result.value.certificateThumbprint).toMatch(/^[\w-]{43}$/)
    expect(result.ok && result.value.expiresAt).toBe(NOW + 3601)
    // Through an intermediate that the client presents.
    const between = await issue({ name: 'CN=issuing CA', ca: 0, issuer: ca })
    expect(reasonOf(await attest('research', [(await certificate({ issuer: between })).der, between.der]))).toBe(
      'accepted',
    )
  })

  it('F2 the same subject from another authority is nobody, also where that authority is trusted for another agent', async () => {
    const other = await issue({ name: 'CN=other CA', ca: true })
    const sameName = await issue({ name: 'CN=partner CA', ca: true })
    byDn('research')
    byDn('payments', 'CN=payments', [other.der])
    for (const issuer of [other, sameName]) {
      const forged = await certificate({ issuer })
      expect(reasonOf(await attest('research', [forged.der]))).toMatch(/^x509_(untrusted|signature)$/)
      expect(reasonOf(await attest('research', [forged.der, issuer.der]))).toMatch(/^x509_(untrusted|signature)$/)
    }
    expect(reasonOf(await attest('research', [(await issue({ name: encoded(DN) })).der]))).toBe('x509_untrusted')
  })

  it('E13 a certificate serves the agent it is registered for, under that client_id and no other', async () => {
    byDn('research')
    byDn('payments', 'CN=payments,O=Company')
    const leaf = await certificate()
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('accepted')
    expect(reasonOf(await attest('payments', [leaf.der]))).toBe('x509_subject')
    expect(reasonOf(await attest('nobody', [leaf.der]))).not.toBe('accepted')
    expect(reasonOf(await attest('RESEARCH', [leaf.der]))).not.toBe('accepted')
    expect(reasonOf(await attest(undefined, [leaf.der]))).toBe('param_missing')
    expect(reasonOf(await attest('spiffe://company.example/agents/research', [leaf.der]))).not.toBe('accepted')
  })

  it.each([
    ['CN=research', ['CN=research'], true],
    ['CN=research', ['CN=Research'], false],
    ['CN=research', ['CN=research,O=Company'], false],
    ['CN=research,O=Company', ['CN=research'], false],
    ['CN=research,O=Company', ['O=Company,CN=research'], false],
    ['cn=research,o=Company', ['CN=research,O=Company'], true],
    ['2.5.4.3=research', ['CN=research'], true],
    ['CN=research+O=Company', ['O=Company+CN=research'], true],
    ['CN=research+O=Company', ['CN=research,O=Company'], false],
    ['CN=a\\,b', ['CN=a\\,b'], true],
    ['CN=a\\2Cb', ['CN=a\\,b'], true],
    ['CN=two  spaces', ['CN=two spaces'], false],
    ['OU=research', ['CN=research'], false],
    ['CN=Zürich', ['CN=Zürich'], true],
    ['CN=research', ['CN=ｒesearch'], false],
    ['CN=research', ['CN=research\u200b'], false],
  ] as const)('F3 registered as %s, shown as %j: %s', async (dn, [name], accepted) => {
    byDn('research', dn)
    const leaf = await certificate({ name })
    expect(reasonOf(await attest('research', [leaf.der]))).toBe(accepted ? 'accepted' : 'x509_subject')
  })

  it.each([
    ['UTF8String', 0x0c, 'research', true],
    ['PrintableString', 0x13, 'research', true],
    ['IA5String', 0x16, 'research', true],
    ['BMPString', 0x1e, '\0r\0e\0s\0e\0a\0r\0c\0h', false],
    ['TeletexString', 0x14, 'research', false],
    ['UTF8String with a NUL', 0x0c, 'research\0', false],
    ['UTF8String with a byte order mark', 0x0c, '\xef\xbb\xbfresearch', false],
  ])('F3 the string type does not count, the characters do: %s', (_, tag, text, same) => {
    const commonName = der(0x30, der(0x06, '\x55\x04\x03'), der(tag, text))
    const subject = readName(only(der(0x30, der(0x31, commonName)), 0x30))
    expect(hasName({ subject, alternativeNames: [] }, nameOf('subject_dn', 'CN=research'))).toBe(same)
  })

  it.each([
    ['san_dns', 'research.company.example', { type: 'dns', value: 'research.company.example' }, true],
    ['san_dns', 'research.company.example', { type: 'dns', value: 'RESEARCH.company.example' }, false],
    ['san_dns', 'research.company.example', { type: 'dns', value: '*.company.example' }, false],
    ['san_dns', 'research.company.example', { type: 'url', value: 'https://research.company.example' }, false],
    ['san_uri', 'https://company.example/research', { type: 'url', value: 'https://company.example/research' }, true],
    ['san_uri', 'https://company.example/research', { type: 'url', value: 'https://company.example/research/' }, false],
    ['san_email', 'research@company.example', { type: 'email', value: 'research@company.example' }, true],
    ['san_email', 'research@company.example', { type: 'email', value: 'Research@company.example' }, false],
    ['san_ip', '192.0.2.7', { type: 'ip', value: '192.0.2.7' }, true],
    ['san_ip', '192.0.2.7', { type: 'ip', value: '192.0.2.8' }, false],
    ['san_ip', '2001:DB8:0::7', { type: 'ip', value: '2001:db8::7' }, true],
    ['san_ip', '192.0.2.7', { type: 'dns', value: '192.0.2.7.company.example' }, false],
  ] as const)('F12 registered by %s as %s, shown %j: %s', async (form, value, name, accepted) => {
    register('research', { tlsClientAuth: { anchors: [ca.der], name: nameOf(form, value) } })
    const other = { type: 'dns', value: 'other.company.example' } as const
    const leaf = await certificate({ names: [other, name] })
    expect(reasonOf(await attest('research', [leaf.der]))).toBe(accepted ? 'accepted' : 'x509_subject')
    // The same text in the subject is not in the subject alternative name.
    const inSubject = await certificate({ name: 'CN=research.company.example', names: [other] })
    expect(reasonOf(await attest('research', [inSubject.der]))).toBe('x509_subject')
  })

  it('F8 F9 F14 a chain that breaks a rule of RFC 5280 proves nothing', async () => {
    byDn('research')
    const rows: readonly [string, CertificateWish, string][] = [
      ['expired', { notAfter: NOW - 1 }, 'x509_validity'],
      ['not yet valid', { notBefore: NOW + 60 }, 'x509_validity'],
      ['for servers only', { purposes: ['1.3.6.1.5.5.7.3.1'] }, 'x509_policy'],
      ['a CA', { ca: true }, 'x509_ca'],
      ['not for signatures', { usage: USAGE.keyEncipherment }, 'x509_key_usage'],
      ['SHA-1', { hash: 'SHA-1' }, 'x509_policy'],
      ['a weak key', { keys: await newKey('rsa1024') }, 'x509_policy'],
      [
        'an unknown critical extension',
        { extra: [new x509.Extension('1.2.3.4', true, der(5))] },
        'x509_critical_extension',
      ],
    ]
    for (const [what, wish, reason] of rows) {
      expect([what, reasonOf(await attest('research', [(await certificate(wish)).der]))]).toEqual([what, reason])
    }
    const leaf = await certificate()
    const torn = leaf.der.slice()
    torn[torn.length - 1]! ^= 1
    expect(reasonOf(await attest('research', [torn]))).toBe('x509_signature')
    expect(reasonOf(await attest('research', [new Uint8Array(0)]))).toBe('x509_malformed')
    expect(reasonOf(await attest('research', [new Uint8Array(1_048_576)]))).toBe('x509_policy')
    expect(reasonOf(await attest('research', Array(50).fill(leaf.der)))).toBe('x509_policy')
  })

  it('E12 ends with its certificate, and with a registration that is another after a reload', async () => {
    byDn('research')
    const leaf = await certificate({ notAfter: NOW + 100 })
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('accepted')
    house.now = NOW + 101
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('peer_invalid')
    house.now = NOW
    byDn('research', 'CN=somebody else')
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('x509_subject')
  })

  it('F5 a name that passes to another agent begins a new life there', async () => {
    byDn('research')
    const leaf = await certificate()
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('accepted')
    house.agents.delete('research')
    byDn('payments')
    expect(reasonOf(await attest('payments', [leaf.der]))).toBe('instance_epoch')
    house.now += 10
    const renewed = await certificate({ notBefore: NOW + 5, notAfter: NOW + 600 })
    expect(reasonOf(await attest('payments', [renewed.der]))).toBe('accepted')
  })

  it('F5 nor does it come along where the heir’s file spells it otherwise or trusts further authorities', async () => {
    const more = await issue({ name: 'CN=more CA', ca: true })
    for (const [dn, anchors] of [
      [DN, [more.der, ca.der]],
      ['2.5.4.3=research,o=Company', [ca.der]],
    ] as const) {
      house = await createAttestHouse()
      byDn('research')
      const leaf = await certificate()
      expect(reasonOf(await attest('research', [leaf.der]))).toBe('accepted')
      // To the agent itself nothing has changed.
      byDn('research', dn, anchors)
      expect(reasonOf(await attest('research', [leaf.der]))).toBe('accepted')
      house.agents.delete('research')
      byDn('payments', dn, anchors)
      expect(reasonOf(await attest('payments', [leaf.der]))).toBe('instance_epoch')
    }
    // Nor where its file names an authority that is nearer to the certificate, or further from it.
    const near = await issue({ name: 'CN=near CA', ca: true, issuer: ca })
    const further = [ca.der, near.der]
    for (const [own, heirs] of [
      [[ca.der], further],
      [further, [ca.der]],
    ] as const) {
      house = await createAttestHouse()
      byDn('research', DN, own)
      const leaf = await certificate({ issuer: near })
      expect(reasonOf(await attest('research', [leaf.der, near.der]))).toBe('accepted')
      house.agents.delete('research')
      byDn('payments', DN, heirs)
      expect(reasonOf(await attest('payments', [leaf.der, near.der]))).toBe('instance_epoch')
    }
    // The same name by another authority is another name.
    house = await createAttestHouse()
    byDn('payments')
    byDn('research', DN, [more.der])
    house.now += 10
    for (const [clientId, issuer] of [
      ['research', more],
      ['payments', ca],
      ['research', more],
    ] as const) {
      const leaf = await certificate({ issuer, notBefore: NOW + 5, notAfter: NOW + 600 })
      expect(reasonOf(await attest(clientId, [leaf.der]))).toBe('accepted')
    }
  })

  it('D18 a disabled agent, and one that is not registered for it, is refused', async () => {
    const leaf = await certificate()
    const tlsClientAuth = { anchors: [ca.der], name: nameOf('subject_dn', DN) }
    register('research', { tlsClientAuth, disabled: true })
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('agent_disabled')
    register('research', { tlsClientAuth, minimumTier: 'platform' })
    expect(reasonOf(await attest('research', [leaf.der]))).toBe('evidence_not_registered')
    register('research', { tlsClientAuth, evidence: ['private_key_jwt'] })
    expect(reasonOf(await attest('research', [leaf.der]))).not.toBe('accepted')
  })
})

describe('self_signed_tls_client_auth', () => {
  const own = (...all: Issued[]): OwnCertificate[] => all.map(({ der }) => readOwnCertificate(der) as OwnCertificate)
  const registerOwn = (clientId: string, ...all: Issued[]) =>
    register(clientId, { evidence: ['self_signed_tls_client_auth'], ownCertificates: own(...all) })

  it('F2 takes exactly a registered certificate; the same key in another one is another', async () => {
    const keys = await newKey()
    const mine = await issue({ name: 'CN=research', keys })
    registerOwn('research', mine)
    expect(await attest('research', [mine.der])).toMatchObject({
      ok: true,
      value: { kind: 'self_signed_tls_client_auth', tier: 'key' },
    })
    const renewed = await issue({ name: 'CN=research', keys })
    const impostor = await issue({ name: 'CN=research' })
    for (const other of [renewed, impostor]) {
      expect(reasonOf(await attest('research', [other.der]))).toBe('x509_untrusted')
      // What stands beside the leaf proves nothing.
      expect(reasonOf(await attest('research', [other.der, mine.der]))).toBe('x509_untrusted')
    }
    // Renewal: the new one is registered beside the old one, and then in its place.
    registerOwn('research', mine, renewed)
    for (const each of [mine, renewed]) expect(reasonOf(await attest('research', [each.der]))).toBe('accepted')
    registerOwn('research', renewed)
    expect(reasonOf(await attest('research', [mine.der]))).toBe('x509_untrusted')
  })

  it('E12 E13 of another agent, expired, not yet valid, or expired on a kept-alive connection is refused', async () => {
    const mine = await issue({ name: 'CN=research', notAfter: NOW + 100 })
    const theirs = await issue({ name: 'CN=payments' })
    registerOwn('research', mine)
    registerOwn('payments', theirs)
    expect(reasonOf(await attest('research', [theirs.der]))).toBe('x509_untrusted')
    expect(reasonOf(await attest('payments', [mine.der]))).toBe('x509_untrusted')
    expect(reasonOf(await attest('research', [mine.der]))).toBe('accepted')
    house.now = NOW + 101
    expect(reasonOf(await attest('research', [mine.der]))).toBe('peer_invalid')
    house.now = NOW - 61
    const fresh = await issue({ name: 'CN=research', notBefore: NOW })
    registerOwn('research', fresh)
    expect(reasonOf(await attest('research', [fresh.der]))).toBe('x509_validity')
  })
})

describe('what a registration says of certificates', () => {
  it.each([
    'research',
    'CN=',
    'CN',
    'X=research',
    'CN=a,',
    'CN=a, O=b',
    ' CN=a',
    'CN=a ',
    'CN= a',
    'CN=a;O=b',
    'CN="a"',
    'CN=#0401',
    'CN=a\\',
    'CN=\\xy',
    'CN=\\ff',
    'CN=a<b',
    'CN=a+CN=a',
    '1.2.=a',
    '',
  ])('F3 %j is no subject', (dn) => {
    expect(readExpectedName('subject_dn', dn).ok).toBe(false)
  })

  it('F3 an address that is none, or a name with spaces, is refused', () => {
    for (const text of ['192.0.2', '192.0.2.07', 'fe80::1%eth0', '2001:db8::/32', 'host'])
      expect(readExpectedName('san_ip', text).ok).toBe(false)
    expect(readExpectedName('san_uri', 'https://a b').ok).toBe(false)
  })

  it('PEM with a private key, half a block, no block or broken base64 in it is refused', async () => {
    const pem = pemOf(ca)
    expect(readCertificates(`subject=CN = x\n${pem}\n${pem}`)).toMatchObject({ ok: true })
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const key = String(privateKey.export({ format: 'pem', type: 'pkcs8' }))
    for (const text of [
      pem + key,
      key,
      '',
      pem.slice(0, -5),
      pem.replace('END CERT', 'END X'),
      pem.replace('M', '-'),
    ]) {
      expect(readCertificates(text).ok).toBe(false)
    }
  })

  it('a JWKS with x5c is read like PEM, and refused with a private key or without certificates', () => {
    const x5c = [Buffer.from(ca.der).toString('base64')]
    const jwks = (key: object) => JSON.stringify({ keys: [key] })
    expect(readCertificates(jwks({ kty: 'EC', x5c }))).toEqual({ ok: true, certificates: [Buffer.from(ca.der)] })
    for (const text of [
      jwks({ kty: 'EC' }),
      jwks({ kty: 'EC', d: 'x', x5c }),
      jwks({ kty: 'EC', x5c: [Buffer.from(ca.der).toString('base64url')] }),
      jwks({ kty: 'EC', x5c: [''] }),
      '{"keys":[]}',
      '{"keys":[],"keys":[]}',
      '{}',
      '{',
    ])
      expect(readCertificates(text).ok, text).toBe(false)
  })
})
