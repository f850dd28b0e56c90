/** Certificates and tokens for tests: a small CA that also makes what no CA should, and a whole trust domain. */
import 'reflect-metadata'
import { KeyObject, type webcrypto } from 'node:crypto'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import * as x509 from '@peculiar/x509'
import { exportJWK, type JWK, SignJWT } from 'jose'
import type { TrustDomain } from '../../src/attest/trust-domain.ts'

x509.cryptoProvider.set(globalThis.crypto)
/** From here and not from the package, so that `reflect-metadata` always comes first. */
export { x509 }

export type KeyKind = 'p256' | 'p384' | 'ed25519' | 'rsa2048' | 'rsa1024'
const ALGORITHM = {
  p256: { name: 'ECDSA', namedCurve: 'P-256' },
  p384: { name: 'ECDSA', namedCurve: 'P-384' },
  ed25519: { name: 'Ed25519' },
  rsa2048: rsa(2048),
  rsa1024: rsa(1024),
} as const
function rsa(modulusLength: number) {
  return { name: 'RSASSA-PKCS1-v1_5', modulusLength, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }
}

export const newKey = (kind: KeyKind = 'p256'): Promise<webcrypto.CryptoKeyPair> =>
  crypto.subtle.generateKey(ALGORITHM[kind], true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>

export interface Issued {
  readonly der: Uint8Array
  readonly name: string
  readonly keys: webcrypto.CryptoKeyPair
}

export interface CertificateWish {
  /** Distinguished name, `CN=…`; empty for none. */
  readonly name?: string
  readonly issuer?: Issued
  readonly keys?: webcrypto.CryptoKeyPair
  readonly notBefore?: number
  readonly notAfter?: number
  /** True or a path length makes a CA. */
  readonly ca?: boolean | number
  readonly usage?: number | null
  readonly usageCritical?: boolean
  readonly purposes?: readonly string[] | null
  readonly names?: readonly { type: 'url' | 'dns' | 'email' | 'ip'; value: string }[] | null
  readonly extra?: readonly x509.Extension[]
  readonly hash?: 'SHA-1' | 'SHA-256' | 'SHA-384'
  /** Leaves out what tells keys of one name apart. */
  readonly noKeyIds?: boolean
}

export const USAGE = x509.KeyUsageFlags
const CLIENT_AND_SERVER = ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1']
export const NOW = 1_780_000_000

/** Issues what is wished for, sensible or not. Without an issuer it is self-signed. */
export async function issue(wish: CertificateWish): Promise<Issued> {
  const keys = wish.keys ?? (await newKey())
  const name = wish.name ?? 'CN=leaf'
  const { ca = false, issuer } = wish
  const usage = wish.usage ?? (ca === false ? USAGE.digitalSignature : USAGE.keyCertSign | USAGE.cRLSign)
  const purposes = wish.purposes === undefined && ca === false ? CLIENT_AND_SERVER : wish.purposes
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(ca !== false, typeof ca === 'number' ? ca : undefined, true),
    ...(wish.noKeyIds ? [] : [await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)]),
    ...(issuer && !wish.noKeyIds ? [await x509.AuthorityKeyIdentifierExtension.create(issuer.keys.publicKey)] : []),
    ...(wish.usage === null ? [] : [new x509.KeyUsagesExtension(usage, wish.usageCritical ?? true)]),
    ...(purposes ? [new x509.ExtendedKeyUsageExtension([...purposes])] : []),
    ...(wish.names ? [new x509.SubjectAlternativeNameExtension([...wish.names], name === '')] : []),
    ...(wish.extra ?? []),
  ]
  const signer = (issuer?.keys ?? keys).privateKey
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: Buffer.from(
      crypto.getRandomValues(new Uint8Array(8)).map((b, i) => (i ? b : (b & 0x7f) | 1)),
    ).toString('hex'),
    subject: name,
    issuer: issuer?.name ?? name,
    notBefore: new Date((wish.notBefore ?? NOW - 60) * 1000),
    notAfter: new Date((wish.notAfter ?? NOW + 3600) * 1000),
    signingAlgorithm: { ...signer.algorithm, hash: wish.hash ?? 'SHA-256' },
    publicKey: keys.publicKey,
    signingKey: signer,
    extensions,
  })
  return { der: new Uint8Array(certificate.rawData), name, keys }
}

export const pemOf = ({ der }: Pick<Issued, 'der'>): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der)
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`

/** Enough of DER to write extensions by hand. */
export const der = (tag: number, ...parts: readonly (Uint8Array | string)[]): Uint8Array => {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)))
  const { length } = body
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), body])
}

/** Name constraints: `[tag of the GeneralName, content]`. */
export const nameConstraints = (
  {
    permitted = [],
    excluded = [],
  }: Partial<Record<'permitted' | 'excluded', readonly [number, string | Uint8Array][]>>,
  critical = true,
): x509.Extension => {
  const trees = (tag: number, bases: readonly [number, string | Uint8Array][]) =>
    bases.length === 0 ? [] : [der(tag, ...bases.map(([form, value]) => der(0x30, der(form, value))))]
  return new x509.Extension('2.5.29.30', critical, der(0x30, ...trees(0xa0, permitted), ...trees(0xa1, excluded)))
}

export interface TestTrustDomain {
  readonly name: string
  readonly root: Issued
  readonly intermediate: Issued
  readonly trustDomain: TrustDomain
  /** The same as a SPIFFE bundle document. */
  bundle(): Promise<{ keys: JWK[]; spiffe_sequence: number; spiffe_refresh_hint: number }>
  /** `chain` is leaf and intermediate. */
  x509Svid(path: string, wish?: CertificateWish): Promise<Issued & { chain: Uint8Array[]; thumbprint: string }>
  jwtSvid(path: string, audience: string | string[], claims?: Record<string, unknown>): Promise<string>
}

/** A trust domain with a root, an intermediate and a JWT key: `createTestTrustDomain('company.example')`. */
export async function createTestTrustDomain(name: string): Promise<TestTrustDomain> {
  const root = await issue({ name: `CN=root of ${name}`, ca: true, notAfter: NOW + 86_400 * 365 })
  const intermediate = await issue({ name: `CN=workload CA of ${name}`, ca: 0, issuer: root, notAfter: NOW + 86_400 })
  const jwt = await newKey()
  const publicJwk = await exportJWK(jwt.publicKey)
  const jwtKey: JWK = { ...publicJwk, kid: 'jwt-1', alg: 'ES256' }
  return {
    name,
    root,
    intermediate,
    trustDomain: { name, jwtKeys: [jwtKey], witKeys: [], x509Anchors: [root.der], file: `issuers/${name}.yaml` },
    bundle: async () => ({
      keys: [
        { ...publicJwk, kid: 'jwt-1', use: 'jwt-svid' },
        {
          ...(await exportJWK(root.keys.publicKey)),
          use: 'x509-svid',
          x5c: [Buffer.from(root.der).toString('base64')],
        },
      ],
      spiffe_sequence: 1,
      spiffe_refresh_hint: 300,
    }),
    x509Svid: async (path, wish = {}) => {
      const svid = await issue({
        name: '',
        issuer: intermediate,
        names: [{ type: 'url', value: `spiffe://${name}${path}` }],
        ...wish,
      })
      const jwk = KeyObject.from(svid.keys.publicKey).export({ format: 'jwk' })
      return { ...svid, chain: [svid.der, intermediate.der], thumbprint: jwkThumbprint({ ...jwk }) }
    },
    jwtSvid: (path, audience, claims = {}) =>
      new SignJWT({
        sub: `spiffe://${name}${path}`,
        aud: audience,
        iat: NOW - 5,
        exp: NOW + 295,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', kid: 'jwt-1', typ: 'JWT' })
        .sign(jwt.privateKey),
  }
}
