/** The company's workload trust domain: what SPIRE would run, as files made for one run of the demo. */
import 'reflect-metadata'
import { randomBytes, webcrypto } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import { exportJWK, SignJWT } from 'jose'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const HOUR_MS = 3_600_000

const keyPair = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
type KeyPair = Awaited<ReturnType<typeof keyPair>>

/** Positive and unguessable (RFC 5280 §4.1.2.2). */
const serialNumber = (): string => `4${randomBytes(15).toString('hex').slice(1)}`

const pemKey = async (key: KeyPair['privateKey']): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')

async function authority(name: string, uri?: string) {
  const keys = await keyPair()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 24 * HOUR_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(uri === undefined ? [] : [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }])]),
    ],
  })
  const issue = async (san: { type: 'url' | 'ip'; value: string }, usages: x509.ExtendedKeyUsage[]) => {
    const own = await keyPair()
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: 'O=Company',
      issuer: certificate.subject,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + HOUR_MS),
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages),
        new x509.SubjectAlternativeNameExtension([san]),
        await x509.SubjectKeyIdentifierExtension.create(own.publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(certificate),
      ],
    })
    return { cert: leaf.toString('pem'), key: await pemKey(own.privateKey) }
  }
  return { certificate, issue }
}

/**
 * Writes what workloads get (an X.509-SVID, a JWT-SVID, the authority of servers) into `folder`, and what the service
 * gets (the bundle in SPIFFE's format, the certificate of its mTLS listener) into `serviceFolder`.
 */
export async function makeTrustDomain(options: {
  readonly folder: string
  readonly serviceFolder: string
  readonly trustDomain: string
  /** SPIFFE ids of the agent that gets an X.509-SVID and of the one that gets a JWT-SVID. */
  readonly x509Agent: string
  readonly jwtAgent: string
  /** The audience of JWT-SVIDs: Errand's issuer. */
  readonly audience: string
}): Promise<void> {
  const { folder, serviceFolder } = options
  const save = (name: string, text: string, where = folder): void =>
    writeFileSync(join(where, name), text, { mode: 0o600 })
  const [workloads, servers, jwtKeys] = await Promise.all([
    authority('Company workloads', `spiffe://${options.trustDomain}`),
    authority('Company servers'),
    keyPair(),
  ])
  const x509Svid = await workloads.issue({ type: 'url', value: options.x509Agent }, [
    x509.ExtendedKeyUsage.clientAuth,
    x509.ExtendedKeyUsage.serverAuth,
  ])
  save('research.svid.pem', x509Svid.cert)
  save('research.svid.key', x509Svid.key)

  const kid = 'company-workloads-jwt-1'
  const now = Math.floor(Date.now() / 1000)
  const jwtSvid = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', kid, typ: 'JWT' })
    .setSubject(options.jwtAgent)
    .setAudience(options.audience)
    .setIssuedAt(now)
    .setExpirationTime(now + 3600)
    .sign(jwtKeys.privateKey)
  save('payments.svid.jwt', jwtSvid)

  // SPIFFE Trust Domain and Bundle §4: a JWK set whose `use` says what each key is for.
  const { kty, crv, x, y } = await exportJWK(
    await webcrypto.subtle.importKey('raw', workloads.certificate.publicKey.rawData.slice(-65), ALGORITHM, true, [
      'verify',
    ]),
  )
  const jwtPublic = await exportJWK(jwtKeys.publicKey)
  const x5c = [Buffer.from(workloads.certificate.rawData).toString('base64')]
  const bundle = {
    spiffe_sequence: 1,
    spiffe_refresh_hint: 300,
    keys: [
      { kty, crv, x, y, use: 'x509-svid', x5c },
      { kty: jwtPublic.kty, crv: jwtPublic.crv, x: jwtPublic.x, y: jwtPublic.y, use: 'jwt-svid', kid },
    ],
  }
  save('bundle.json', JSON.stringify(bundle, null, 2), serviceFolder)

  const server = await servers.issue({ type: 'ip', value: '127.0.0.1' }, [x509.ExtendedKeyUsage.serverAuth])
  save('mtls.pem', server.cert, serviceFolder)
  save('mtls.key', server.key, serviceFolder)
  save('servers-ca.pem', servers.certificate.toString('pem'))
}
