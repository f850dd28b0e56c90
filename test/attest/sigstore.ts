/** A Sigstore of the test's own: an authority, a transparency log, and bundles that they vouch for. */
import 'reflect-metadata'
import { createHash, type KeyObject, sign } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { canonicalize } from '../../src/audit/canonical.ts'
import type { Json } from '../../src/audit/log.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const EC = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
export const SIGNED = new Date('2026-11-23T10:00:00Z')
const FROM = new Date('2026-01-01T00:00:00Z')
const UNTIL = new Date('2030-01-01T00:00:00Z')
const sha256 = (...parts: readonly (string | Uint8Array)[]): Buffer => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}
const derSign = (data: string | Uint8Array, key: KeyObject): Buffer => sign('sha256', Buffer.from(data), key)

export const IDENTITY = 'https://github.com/company/research/.github/workflows/release.yml@refs/heads/main'
export const IDENTITY_ISSUER = 'https://token.actions.githubusercontent.com'
export const BUILDER = 'https://github.com/actions/runner/github-hosted'
export const REPOSITORY = 'https://github.com/company/research'

export const statementOf = (
  image: string,
  more: { builder?: string; repository?: string; predicateType?: string } = {},
) => ({
  _type: 'https://in-toto.io/Statement/v1',
  subject: [{ name: 'registry.example.com/research', digest: { sha256: image.replace('sha256:', '') } }],
  predicateType: more.predicateType ?? 'https://slsa.dev/provenance/v1',
  predicate: {
    buildDefinition: {
      buildType: 'https://actions.github.io/buildtypes/workflow/v1',
      externalParameters: {
        workflow: {
          ref: 'refs/heads/main',
          repository: more.repository ?? REPOSITORY,
          path: '.github/workflows/release.yml',
        },
      },
    },
    runDetails: { builder: { id: more.builder ?? BUILDER } },
  },
})

export interface BundleOptions {
  readonly identity?: string
  readonly identityIssuer?: string
  /** Signs the statement with a key that the certificate does not hold. */
  readonly otherKey?: boolean
  /** When the log says that it took the entry. */
  readonly at?: Date
  readonly payloadType?: string
}

export async function createSigstore() {
  const authority = await crypto.subtle.generateKey(EC, true, ['sign', 'verify'])
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'O=sigstore.example, CN=test',
    notBefore: FROM,
    notAfter: UNTIL,
    signingAlgorithm: EC,
    keys: authority,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authority.publicKey),
    ],
  })
  const log = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const logKey = log.publicKey.export({ type: 'spki', format: 'der' })
  const logId = sha256(logKey)
  let serial = 1

  async function leafFor({ identity = IDENTITY, identityIssuer = IDENTITY_ISSUER }: BundleOptions) {
    const keys = await crypto.subtle.generateKey(EC, true, ['sign', 'verify'])
    const issuer = Buffer.from(identityIssuer)
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: (++serial).toString(16).padStart(2, '0'),
      subject: '',
      issuer: root.subject,
      notBefore: new Date(SIGNED.getTime() - 60_000),
      notAfter: new Date(SIGNED.getTime() + 540_000),
      signingAlgorithm: EC,
      publicKey: keys.publicKey,
      signingKey: authority.privateKey,
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.codeSigning]),
        await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true),
        // Fulcio's extension for the issuer of the identity token: a UTF8String.
        new x509.Extension('1.3.6.1.4.1.57264.1.8', false, Buffer.concat([Buffer.from([0x0c, issuer.length]), issuer])),
      ],
    })
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const own = await crypto.subtle.exportKey('pkcs8', keys.privateKey)
    return { certificate, own: Buffer.from(own), stranger: privateKey }
  }

  return {
    /** As a file in the keys folder. */
    trustedRoot: (more: object = {}) =>
      JSON.stringify({
        mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
        tlogs: [
          {
            baseUrl: 'https://log.sigstore.example',
            hashAlgorithm: 'SHA2_256',
            publicKey: {
              rawBytes: logKey.toString('base64'),
              keyDetails: 'PKIX_ECDSA_P256_SHA_256',
              validFor: { start: FROM.toISOString() },
            },
            logId: { keyId: logId.toString('base64') },
          },
        ],
        certificateAuthorities: [
          {
            subject: { organization: 'sigstore.example', commonName: 'test' },
            uri: 'https://ca.sigstore.example',
            certChain: { certificates: [{ rawBytes: Buffer.from(root.rawData).toString('base64') }] },
            validFor: { start: FROM.toISOString() },
          },
        ],
        ctlogs: [],
        timestampAuthorities: [],
        ...more,
      }),

    async bundle(statement: object, options: BundleOptions = {}): Promise<string> {
      const { certificate, own, stranger } = await leafFor(options)
      const { createPrivateKey } = await import('node:crypto')
      const key = options.otherKey ? stranger : createPrivateKey({ key: own, format: 'der', type: 'pkcs8' })
      const payload = Buffer.from(JSON.stringify(statement))
      const payloadType = options.payloadType ?? 'application/vnd.in-toto+json'
      // DSSE v1: pre-authentication encoding.
      const pae = Buffer.concat([
        Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
        payload,
      ])
      const signature = derSign(pae, key).toString('base64')
      const body = canonicalize({
        apiVersion: '0.0.1',
        kind: 'dsse',
        spec: {
          envelopeHash: { algorithm: 'sha256', value: sha256(payload).toString('hex') },
          payloadHash: { algorithm: 'sha256', value: sha256(payload).toString('hex') },
          signatures: [{ signature, verifier: Buffer.from(certificate.toString('pem')).toString('base64') }],
        },
      } as Json)
      const integratedTime = Math.floor((options.at ?? SIGNED).getTime() / 1000)
      const promised = canonicalize({
        body: Buffer.from(body).toString('base64'),
        integratedTime,
        logID: logId.toString('hex'),
        logIndex: 0,
      })
      const rootHash = sha256(Buffer.from([0]), body)
      const note = `log.sigstore.example\n1\n${rootHash.toString('base64')}\n`
      const noted = Buffer.concat([logId.subarray(0, 4), derSign(note, log.privateKey)]).toString('base64')
      return JSON.stringify({
        mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
        verificationMaterial: {
          certificate: { rawBytes: Buffer.from(certificate.rawData).toString('base64') },
          tlogEntries: [
            {
              logIndex: '0',
              logId: { keyId: logId.toString('base64') },
              kindVersion: { kind: 'dsse', version: '0.0.1' },
              integratedTime: String(integratedTime),
              inclusionPromise: { signedEntryTimestamp: derSign(promised, log.privateKey).toString('base64') },
              inclusionProof: {
                logIndex: '0',
                rootHash: rootHash.toString('base64'),
                treeSize: '1',
                hashes: [],
                checkpoint: { envelope: `${note}\n\u2014 log.sigstore.example ${noted}\n` },
              },
              canonicalizedBody: Buffer.from(body).toString('base64'),
            },
          ],
        },
        dsseEnvelope: { payload: payload.toString('base64'), payloadType, signatures: [{ sig: signature, keyid: '' }] },
      })
    },
  }
}
