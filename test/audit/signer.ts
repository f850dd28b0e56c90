/** An Ed25519 key out of a number, that signs checkpoints without a key ring. */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { createCheckpoints } from '../../src/audit/checkpoints.ts'
import { originOf } from '../../src/audit/checkpoint.ts'
import type { AuditDamage } from '../../src/audit/damage.ts'
import { noteKey } from '../../src/audit/note.ts'
import type { OpenedLog } from '../../src/store/files/audit-log.ts'

export const ISSUER = 'https://errand.example'

/** RFC 8410 §7: what stands before the 32 bytes of a private key. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

export function signerOf(number: number) {
  const privateKey = createPrivateKey({
    key: Buffer.concat([PKCS8, Buffer.alloc(32, number)]),
    format: 'der',
    type: 'pkcs8',
  })
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' })
  const raw = Buffer.from(x, 'base64url')
  const jwk = { kid: `key-${number}`, kty: 'OKP', crv: 'Ed25519', x, alg: 'EdDSA', use: 'sig' }
  return {
    raw,
    jwk,
    key: (name: string) => noteKey(name, raw),
    signature: (name: string, text: string) => ({
      name,
      keyId: noteKey(name, raw).keyId,
      signature: sign(null, Buffer.from(text, 'utf8'), privateKey),
    }),
  }
}

/** Signs with the first of the keys; the others did so before. */
export function checkpointsOf(
  log: Pick<OpenedLog, 'logId' | 'tree' | 'checkpoints'>,
  { keys = [1], issuer = ISSUER }: { readonly keys?: readonly number[]; readonly issuer?: string } = {},
) {
  const signers = keys.map(signerOf)
  const origin = originOf(issuer, log.logId)
  const damage: AuditDamage[] = []
  const checkpoints = createCheckpoints({
    logId: log.logId,
    origin,
    tree: log.tree,
    kept: log.checkpoints,
    sign: (text) => signers[0]!.signature(origin, text),
    keys: (name) => signers.map((signer) => signer.key(name)),
    jwks: () => `${JSON.stringify({ keys: signers.map(({ jwk }) => jwk) })}\n`,
    onDamage: (each) => damage.push(each),
  })
  return { ...checkpoints, told: damage }
}
