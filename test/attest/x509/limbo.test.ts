import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { PURPOSE, validatePath } from '../../../src/attest/x509/path.ts'

interface Case {
  readonly id: string
  readonly validation_kind: 'SERVER' | 'CLIENT'
  readonly peer_certificate: string
  readonly untrusted_intermediates: readonly string[]
  readonly trusted_certs: readonly string[]
  readonly validation_time: string | null
  readonly max_chain_depth: number | null
  readonly expected_result: 'SUCCESS' | 'FAILURE'
}

/** Where our answer is another, and why that is right: everything else must agree. */
const OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  'the subject is the host name, which a client certificate has none of': [
    'rfc5280::ca-as-leaf-wrong-san',
    'webpki::san::mismatch-domain-san',
    'webpki::san::mismatch-subdomain-san',
    'webpki::san::mismatch-subdomain-apex-san',
    'webpki::san::mismatch-apex-subdomain-san',
    'webpki::san::wildcard-match-across-labels-san',
    'webpki::san::no-san',
  ],
  'a rule of the CA/Browser forum for servers, beyond RFC 5280': [
    'webpki::aki::root-with-aki-missing-keyidentifier',
    'webpki::aki::root-with-aki-all-fields',
    'webpki::aki::root-with-aki-ski-mismatch',
    'webpki::cn::ipv4-hex-mismatch',
    'webpki::cn::ipv4-leading-zeros-mismatch',
    'webpki::cn::ipv6-uppercase-mismatch',
    'webpki::cn::ipv6-uncompressed-mismatch',
    'webpki::cn::ipv6-non-rfc5952-mismatch',
    'webpki::cn::punycode-not-in-san',
    'webpki::cn::utf8-vs-punycode-mismatch',
    'webpki::cn::not-in-san',
    'webpki::cn::case-mismatch',
    'webpki::eku::ee-anyeku',
    'webpki::eku::ee-critical-eku',
    'webpki::eku::ee-without-eku',
    'webpki::eku::root-has-eku',
    'webpki::san::public-suffix-wildcard-san',
    'webpki::san::public-suffix-multi-label-wildcard-san',
    'webpki::san::public-suffix-private-namespace-wildcard-san',
    'webpki::san::san-critical-with-nonempty-subject',
    'webpki::malformed-aia',
    // Of a path it is allowed; an X.509-SVID that is a CA is refused by its own rule.
    'webpki::ca-as-leaf',
  ],
  'the suite has the opposite case too, and RFC 5280 §4.2.1.10 wants name constraints critical': [
    'webpki::nc::permitted-dns-match-noncritical',
  ],
  'the suite has the opposite case too (cve-2024-0567): what stands in an anchor about its issuer is not looked at': [
    'rfc5280::aki::cross-signed-root-missing-aki',
  ],
  'revocation lists: none are read, SVIDs live for hours at most': [
    'crl::revoked-certificate-with-crl',
    'crl::crlnumber-missing',
    'crl::crlnumber-critical',
    'crl::issuer-missing-crlsign',
  ],
}
const otherwise = new Set(Object.values(OTHERWISE).flat())

const file = fileURLToPath(new URL('../../../../shared/vectors/x509-limbo/limbo.json', import.meta.url))
const there = existsSync(file)
if (!there) console.warn('skipped: the x509-limbo vectors are not beside this project (../shared/vectors)')
const cases: readonly Case[] = there ? JSON.parse(readFileSync(file, 'utf8')).testcases : []

const derOf = (pem: string): Uint8Array => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')
const answer = (each: Case) =>
  validatePath({
    leaf: derOf(each.peer_certificate),
    intermediates: each.untrusted_intermediates.map(derOf),
    anchors: each.trusted_certs.map(derOf),
    now: Math.floor(Date.parse(each.validation_time ?? '2024-06-01T00:00:00Z') / 1000),
    purpose: each.validation_kind === 'CLIENT' ? PURPOSE.clientAuth : PURPOSE.serverAuth,
    ...(each.max_chain_depth === null ? {} : { maxPathLength: each.max_chain_depth }),
  })
const agrees = (each: Case): boolean => answer(each).ok === (each.expected_result === 'SUCCESS')

describe.skipIf(!there)('x509-limbo (skipped where ../shared/vectors is absent)', () => {
  it('F8 F9 F11 F14 path validation answers as every case says whose subject is the path', () => {
    const ours = cases.filter(({ id }) => !otherwise.has(id))
    expect(ours.filter((each) => !agrees(each)).map(({ id }) => id)).toEqual([])
    expect(ours.length + otherwise.size).toBe(cases.length)
    expect(ours.length).toBeGreaterThanOrEqual(173)
  })

  it('names no case as answered otherwise that is not', () => {
    const named = cases.filter(({ id }) => otherwise.has(id))
    expect(named.length).toBe(otherwise.size)
    expect(named.filter(agrees).map(({ id }) => id)).toEqual([])
  })
})
