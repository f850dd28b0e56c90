/** A transit engine as OpenBao's answers: keys with versions, what they encrypt and sign, and its words for what is wrong. */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHash,
  generateKeyPairSync,
  type KeyObject,
  privateEncrypt,
  randomBytes,
  sign,
} from 'node:crypto'

type Body = Readonly<Record<string, unknown>>
export interface Said {
  readonly status: number
  readonly data?: object
  readonly errors?: readonly string[]
}

interface Version {
  readonly at: string
  readonly symmetric?: Buffer
  readonly pair?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
}
interface Key {
  readonly type: string
  readonly versions: Version[]
  readonly flags: { exportable: boolean; allow_plaintext_backup: boolean; deletion_allowed: boolean }
  minEncryption: number
}

const wrong = (status: number, ...errors: readonly string[]): Said => ({ status, errors })
const oneOf = (what: string) => `1 error occurred:\n\t* ${what}\n\n`
const right = (data: object): Said => ({ status: 200, data })
const NAMES: Readonly<Record<string, string>> = { 'ecdsa-p256': 'P-256' }
const unpadded = (base64: string) => base64.replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_')

function newVersion(type: string): Version {
  const at = new Date().toISOString()
  if (type === 'ecdsa-p256') return { at, pair: generateKeyPairSync('ec', { namedCurve: 'P-256' }) }
  if (type === 'ed25519') return { at, pair: generateKeyPairSync('ed25519') }
  if (type === 'rsa-2048') return { at, pair: generateKeyPairSync('rsa', { modulusLength: 2048 }) }
  return { at, symmetric: randomBytes(32) }
}

function publicText({ type }: Key, { pair }: Version): string {
  if (type !== 'ed25519') return pair!.publicKey.export({ type: 'spki', format: 'pem' }) as string
  return Buffer.from(pair!.publicKey.export({ format: 'jwk' }).x!, 'base64url').toString('base64')
}

function shown(name: string, key: Key): Said {
  const versions = key.versions.map((version, at) => {
    const { at: creation_time } = version
    const whole = { certificate_chain: '', creation_time, name: NAMES[key.type] ?? key.type }
    return [
      at + 1,
      version.pair ? { ...whole, public_key: publicText(key, version) } : Date.parse(creation_time) / 1000,
    ]
  })
  return right({
    ...key.flags,
    auto_rotate_period: 0,
    derived: false,
    imported_key: false,
    keys: Object.fromEntries(versions),
    latest_version: key.versions.length,
    min_available_version: 0,
    min_decryption_version: 1,
    min_encryption_version: key.minEncryption,
    name,
    soft_deleted: false,
    supports_signing: key.versions[0]?.pair !== undefined,
    type: key.type,
  })
}

export interface TransitEngine {
  answer(method: string, verb: string, name: string, after: string | undefined, body: Body): Said
  /** A key that is there at once. */
  add(name: string, type: string, flags?: Partial<Key['flags']>): void
}

export function createTransitEngine(): TransitEngine {
  const keys = new Map<string, Key>()
  const add: TransitEngine['add'] = (name, type, flags = {}) => {
    if (keys.has(name)) return
    const none = { exportable: false, allow_plaintext_backup: false, deletion_allowed: false }
    keys.set(name, { type, versions: [newVersion(type)], flags: { ...none, ...flags }, minEncryption: 0 })
  }

  function encrypt(name: string, body: Body): Said {
    if (!keys.has(name)) add(name, 'aes256-gcm96') // who may create gets a key by asking for its ciphertext
    const key = keys.get(name)!
    const { symmetric } = key.versions.at(-1)!
    if (!symmetric) return wrong(400, `message encryption not supported for key type ${key.type}`)
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', symmetric, iv)
    const sealed = [iv, cipher.update(String(body['plaintext']), 'base64'), cipher.final(), cipher.getAuthTag()]
    const version = key.versions.length
    return right({ ciphertext: `vault:v${version}:${Buffer.concat(sealed).toString('base64')}`, key_version: version })
  }

  function decrypt(name: string, body: Body): Said {
    const key = keys.get(name)
    if (!key) return wrong(400, 'encryption key not found')
    const [, version, text] = /^vault:v([0-9]+):(.*)$/.exec(String(body['ciphertext'])) ?? []
    if (text === undefined) return wrong(400, 'invalid ciphertext: no prefix')
    const symmetric = key.versions[Number(version) - 1]?.symmetric
    if (!symmetric) return wrong(400, 'invalid ciphertext: version is too new')
    const sealed = Buffer.from(text, 'base64')
    if (sealed.length < 28) return wrong(400, 'invalid ciphertext length')
    try {
      const decipher = createDecipheriv('aes-256-gcm', symmetric, sealed.subarray(0, 12))
      decipher.setAuthTag(sealed.subarray(-16))
      const plain = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()])
      return right({ plaintext: plain.toString('base64') })
    } catch {
      return wrong(400, 'cipher: message authentication failed')
    }
  }

  function signing(name: string, body: Body): Said {
    const key = keys.get(name)
    if (!key) return wrong(400, 'signing key not found')
    const { input = '', hash_algorithm: hash = 'sha2-256', marshaling_algorithm: marshaling = 'asn1' } = body
    if (hash !== 'sha2-256') return wrong(400, `invalid hash algorithm ${JSON.stringify(hash)}`)
    if (marshaling !== 'asn1' && marshaling !== 'jws')
      return wrong(400, `invalid marshaling type ${JSON.stringify(marshaling)}`)
    if (!key.versions[0]?.pair) return wrong(400, `key type ${key.type} does not support signing`)
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(String(input)))
      return wrong(400, 'unable to decode input as base64: illegal base64 data at input byte 0')
    const version = Number(body['key_version'] ?? 0) || key.versions.length
    if (version > key.versions.length)
      return wrong(500, oneOf('requested version for signing is higher than the latest key version'))
    if (version < key.minEncryption)
      return wrong(500, oneOf('requested version for signing is less than the minimum encryption key version'))
    const bytes = Buffer.from(String(input), 'base64')
    const signature = signed(key, key.versions[version - 1]!, bytes, body).toString('base64')
    return right({
      key_version: version,
      signature: `vault:v${version}:${marshaling === 'jws' ? unpadded(signature) : signature}`,
    })
  }

  return {
    add,
    answer(method, verb, name, after, body) {
      if (verb === 'encrypt') return encrypt(name, body)
      if (verb === 'decrypt') return decrypt(name, body)
      if (verb === 'sign') return signing(name, body)
      if (method === 'POST' && after === undefined) add(name, String(body['type'] ?? 'aes256-gcm96'))
      const key = keys.get(name)
      if (!key) return after === 'rotate' ? wrong(400, 'key not found') : wrong(404)
      if (after === 'rotate') key.versions.push(newVersion(key.type))
      if (after === 'config') key.minEncryption = Number(body['min_encryption_version'] ?? key.minEncryption)
      return shown(name, key)
    },
  }
}

function signed({ type }: Key, { pair }: Version, input: Buffer, body: Body): Buffer {
  const { privateKey } = pair!
  if (type === 'ed25519') return sign(null, input, privateKey)
  const digest = body['prehashed'] === true ? input : createHash('sha256').update(input).digest()
  if (type !== 'ecdsa-p256') {
    // RFC 8017 §9.2: the digest with its name, padded.
    if (body['signature_algorithm'] === 'pkcs1v15')
      return privateEncrypt(privateKey, Buffer.concat([SHA256_INFO, digest]))
    return sign('sha256', digest, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING })
  }
  const [r, s] = ecdsa(privateKey, digest)
  return body['marshaling_algorithm'] === 'jws' ? Buffer.concat([r, s]) : der(r, s)
}

const SHA256_INFO = Buffer.from('3031300d060960864801650304020105000420', 'hex')

const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
const modulo = (n: bigint) => ((n % ORDER) + ORDER) % ORDER
const number = (bytes: Buffer) => BigInt(`0x${bytes.toString('hex') || '0'}`)
const bytesOf = (n: bigint) => Buffer.from(n.toString(16).padStart(64, '0'), 'hex')
function inverse(n: bigint): bigint {
  let [result, base, power] = [1n, n, ORDER - 2n]
  for (; power > 0n; power >>= 1n) {
    if (power & 1n) result = modulo(result * base)
    base = modulo(base * base)
  }
  return result
}

/** FIPS 186-5 §6.4.1 over a digest that is given: node:crypto hashes by itself. */
function ecdsa(privateKey: KeyObject, digest: Buffer): readonly [Buffer, Buffer] {
  const curve = createECDH('prime256v1')
  const point = curve.generateKeys()
  const r = modulo(number(point.subarray(1, 33)))
  const d = number(Buffer.from(privateKey.export({ format: 'jwk' }).d!, 'base64url'))
  const z = number(digest.subarray(0, 32))
  return [bytesOf(r), bytesOf(modulo(inverse(number(curve.getPrivateKey())) * (z + r * d)))]
}

function der(...numbers: readonly Buffer[]): Buffer {
  const parts = numbers.map((each) => {
    const short = Buffer.from(each.toString('hex').replace(/^(?:00)+/, ''), 'hex')
    const value = short[0]! & 0x80 ? Buffer.concat([Buffer.of(0), short]) : short
    return Buffer.concat([Buffer.of(2, value.length), value])
  })
  const whole = Buffer.concat(parts)
  return Buffer.concat([Buffer.of(0x30, whole.length), whole])
}
