/** What agents/*.yaml says of client certificates (RFC 8705), with every way in which it does not hold together. */
import type { AgentRegistration } from '../attest/registration.ts'
import { digestOf } from '../attest/remembered.ts'
import { authorityProblem, type OwnCertificate, readOwnCertificate } from '../attest/tls-client-auth.ts'
import { type ExpectedName, NAME_FORMS, readExpectedName } from '../attest/x509/expected-name.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import type { AgentFile } from './agent-file.ts'

/** One connection shows one certificate, and one set of rules judges it. */
const BY_CERTIFICATE = ['x509_svid', 'tls_client_auth', 'self_signed_tls_client_auth'] as const

export async function readCertificates(
  source: AgentFile,
  { keyFiles, report }: { readonly keyFiles: KeyFiles; readonly report: Reporter },
): Promise<Pick<AgentRegistration, 'tlsClientAuth' | 'ownCertificates'>> {
  const kinds = source.evidence.filter((kind) => BY_CERTIFICATE.some((each) => each === kind))
  if (new Set(kinds).size > 1) {
    report(
      ['evidence'],
      'bad_value',
      `${kinds.join(' and ')} exclude one another: an agent attests by one kind of certificate`,
    )
  }
  const named = NAME_FORMS.flatMap((form) => {
    const value = source[`tls_client_auth_${form}`]
    return value === undefined ? [] : [{ form, value }]
  })
  const byPath = source.evidence.includes('tls_client_auth')
  const bySelf = source.evidence.includes('self_signed_tls_client_auth')
  const { tls_client_auth_ca_file: caFile, self_signed_certificates_file: ownFile } = source
  for (const [key, present, wanted, kind] of [
    ['tls_client_auth_ca_file', caFile !== undefined, byPath, 'tls_client_auth'],
    ['self_signed_certificates_file', ownFile !== undefined, bySelf, 'self_signed_tls_client_auth'],
  ] as const) {
    if (present && !wanted) report([key], 'bad_value', `evidence does not name ${kind}`, `add ${kind} to evidence`)
    if (wanted && !present) report(['evidence'], 'missing_key', `${kind} needs ${key}`)
  }
  if (byPath ? named.length !== 1 : named.length > 0) {
    const names = NAME_FORMS.map((form) => `tls_client_auth_${form}`).join(', ')
    report(
      [named[0] === undefined ? 'evidence' : `tls_client_auth_${named[0].form}`],
      byPath && named.length === 0 ? 'missing_key' : 'bad_value',
      byPath ? `tls_client_auth needs exactly one of ${names}` : 'evidence does not name tls_client_auth',
    )
  }

  let tlsClientAuth: AgentRegistration['tlsClientAuth']
  const [only] = named
  if (byPath && caFile !== undefined && only !== undefined) {
    const anchors = await keyFiles.certificates(caFile, authorityProblem)
    if (!anchors.ok) report(['tls_client_auth_ca_file'], anchors.code, anchors.message, anchors.suggestion)
    const name = readExpectedName(only.form, only.value)
    if (!name.ok) report([`tls_client_auth_${only.form}`], 'bad_value', name.problem)
    if (anchors.ok && name.ok) tlsClientAuth = { anchors: anchors.value, name: name.name }
  }
  let ownCertificates: readonly OwnCertificate[] | undefined
  if (bySelf && ownFile !== undefined) {
    const problem = (der: Uint8Array) => {
      const own = readOwnCertificate(der)
      return typeof own === 'string' ? own : undefined
    }
    const read = await keyFiles.certificates(ownFile, problem)
    if (!read.ok) report(['self_signed_certificates_file'], read.code, read.message, read.suggestion)
    else ownCertificates = read.value.map(readOwnCertificate).filter((own) => typeof own !== 'string')
  }
  return {
    ...(tlsClientAuth === undefined ? {} : { tlsClientAuth }),
    ...(ownCertificates === undefined ? {} : { ownCertificates }),
  }
}

/** What a certificate would have to say and be signed by, once for each authority: the same for two agents is one for both. */
export const certificatesOf = ({ tlsClientAuth }: AgentRegistration): readonly string[] =>
  tlsClientAuth === undefined
    ? []
    : tlsClientAuth.anchors.map((anchor) => JSON.stringify([spelling(tlsClientAuth.name), digestOf([anchor])]))

function spelling(name: ExpectedName): unknown {
  if (name.form !== 'subject_dn') return [name.form, name.value]
  const { form, relative } = name
  return [form, relative.map((set) => set.map(({ oid, value }) => `${oid}=${value}`).sort())]
}
