/** The verifier where there is no node:crypto, and nothing else of Node: it accepts and refuses what it does on Node. */
import { serve } from '@hono/node-server'
import { execFile } from 'node:child_process'
import { type KeyObject, sign } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CompactSign, exportJWK, generateKeyPair } from 'jose'
import { build } from 'tsdown'
import { SIGNATURE_ALGS } from '@errand/verifier/signature.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../../tools/files.ts'
import { generateKeyPairSync } from '../key-pairs.ts'
import { revocation } from '../verifier-follow/fake-log.ts'
import {
  AUDIENCE,
  createClock,
  createFakeService,
  ISSUER,
  keyPair,
  proof,
  request,
  START,
} from '../verifier-follow/fake-service.ts'
import { type Corpus, judge, type Verdicts } from './portable.ts'

/**
 * Runs the bundle where no module of Node resolves. Its globals are hidden from the bundle alone: Node's own fetch
 * would not work without them.
 */
const CHILD = `
import { readFileSync } from 'node:fs'
import { register } from 'node:module'
import { pathToFileURL } from 'node:url'
const [bundle, corpus] = process.argv.slice(2)
const input = JSON.parse(readFileSync(corpus, 'utf8'))
const { stdout } = process
const hook = "import { isBuiltin } from 'node:module'; export function resolve(specifier, context, next) {" +
  " if (isBuiltin(specifier)) throw new Error('there is no ' + specifier + ' here'); return next(specifier, context) }"
register('data:text/javascript,' + encodeURIComponent(hook))
const timers = new Map()
globalThis.bare = {
  globalThis: { crypto, fetch: (...request) => fetch(...request) },
  setTimeout: (run, ms) => { const id = timers.size + 1; timers.set(id, setTimeout(run, ms)); return id },
  clearTimeout: (id) => clearTimeout(timers.get(id)),
}
const absent = await import('node:crypto').then(() => 'there', (error) => error.message)
const { judge } = await import(pathToFileURL(bundle))
stdout.write(JSON.stringify({ absent, verdicts: await judge(input) }), () => stdout.end())
`

const part = (value: object | string): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const ORDER = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
/** Of Ed25519, little endian. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n
const bigLittle = (bytes: Uint8Array): bigint =>
  Buffer.from(bytes)
    .reverse()
    .reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
const littleBytes = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse()

/** Every way in which a signature of ours can be spoilt. */
async function signatureCorpus(): Promise<Corpus['signatures']> {
  const list: { jwk: Record<string, unknown>; algs: readonly string[]; jws: string }[] = []
  for (const alg of SIGNATURE_ALGS) {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
    const jwk = { ...(await exportJWK(publicKey)), alg }
    const jws = await new CompactSign(Buffer.from('{"a":1}')).setProtectedHeader({ alg }).sign(privateKey)
    const [header, payload, text] = jws.split('.') as [string, string, string]
    const signature = Buffer.from(text, 'base64url')
    const signed = (bytes: Uint8Array) => `${header}.${payload}.${Buffer.from(bytes).toString('base64url')}`
    const add = (spoilt: string, key: Record<string, unknown> = jwk) =>
      list.push({ jwk: key, algs: SIGNATURE_ALGS, jws: spoilt })
    add(jws)
    for (const at of [0, 31, 32, signature.length - 1]) {
      const other = Buffer.from(signature)
      other[at]! ^= 1
      add(signed(other))
    }
    for (const length of [0, 1, signature.length - 1]) add(signed(signature.subarray(0, length)))
    add(signed(Buffer.concat([signature, Buffer.alloc(1)])))
    add(`${header}.${part('{"a":2}')}.${text}`)
    add(jws, { ...(await exportJWK((await generateKeyPair(alg, { extractable: true })).publicKey)), alg })
    for (const other of [...SIGNATURE_ALGS, 'none', 'HS256'].filter((each) => each !== alg))
      add(`${part({ alg: other })}.${payload}.${text}`)
    if (alg === 'ES256') {
      const [zero, one] = [Buffer.alloc(32), Buffer.concat([Buffer.alloc(31), Buffer.from([1])])]
      for (const r of [zero, one, ORDER]) for (const s of [zero, one, ORDER]) add(signed(Buffer.concat([r, s])))
    }
    // S + L is the same scalar under another name (RFC 8032 §5.1.7).
    if (alg === 'EdDSA')
      add(signed(Buffer.concat([signature.subarray(0, 32), littleBytes(bigLittle(signature.subarray(32)) + L)])))
  }
  return [...list, ...wycheproof()]
}

function wycheproof(): Corpus['signatures'] {
  const folder = new URL('../../../shared/vectors/wycheproof/', import.meta.url)
  if (!existsSync(folder)) return []
  interface Group {
    readonly public?: Record<string, unknown>
    readonly private?: Record<string, unknown>
    readonly tests: readonly { readonly jws: string }[]
  }
  return ['json_web_signature_test.json', 'json_web_key_test.json'].flatMap((file) => {
    const { testGroups } = JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as { testGroups: readonly Group[] }
    return testGroups.flatMap((group) => {
      const set = (group.public ?? group.private)!
      const keys = (set['keys'] as Record<string, unknown>[] | undefined) ?? [set]
      return group.tests.flatMap(({ jws }) => keys.map((jwk) => ({ jwk, algs: SIGNATURE_ALGS, jws })))
    })
  })
}

function keyCorpus(): Corpus['keys'] {
  const jwkOf = (key: KeyObject) => key.export({ format: 'jwk' }) as Record<string, string>
  const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })
  const rsa = (modulusLength: number, publicExponent = 65_537) =>
    jwkOf(generateKeyPairSync('rsa', { modulusLength, publicExponent }).publicKey)
  const p256 = jwkOf(ec('P-256').publicKey)
  const p384 = jwkOf(ec('P-384').publicKey)
  const ed = jwkOf(generateKeyPairSync('ed25519').publicKey)
  const spoil = (text: string, at: number): string => {
    const bytes = Buffer.from(text, 'base64url')
    bytes[at]! ^= 1
    return bytes.toString('base64url')
  }
  const point = (hex: string) => ({ kty: 'OKP', crv: 'Ed25519', x: Buffer.from(hex, 'hex').toString('base64url') })
  const keys: Record<string, unknown>[] = [
    p256,
    p384,
    ed,
    jwkOf(ec('P-521').publicKey),
    jwkOf(ec('P-256').privateKey),
    jwkOf(generateKeyPairSync('ed25519').privateKey),
    { kty: 'oct', k: 'c2VjcmV0' },
    { ...p256, y: spoil(p256['y']!, 31) },
    { ...p256, x: spoil(p256['x']!, 0) },
    { ...p384, y: spoil(p384['y']!, 47) },
    { ...p256, x: part(''), y: p256['y'] },
    { ...p256, x: Buffer.alloc(32).toString('base64url'), y: Buffer.alloc(32).toString('base64url') },
    { ...p256, x: Buffer.alloc(32, 0xff).toString('base64url') },
    { ...p256, x: Buffer.concat([Buffer.alloc(1), Buffer.from(p256['x']!, 'base64url')]).toString('base64url') },
    { ...p256, crv: 'P-384' },
    { ...p256, alg: 'ES384' },
    { ...p256, use: 'enc' },
    { ...p256, key_ops: ['sign'] },
    point('0200000000000000000000000000000000000000000000000000000000000000'),
    point('0000000000000000000000000000000000000000000000000000000000000000'),
    point('0100000000000000000000000000000000000000000000000000000000000000'),
    point('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'),
    point('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'),
    { ...rsa(2048), alg: 'RS256' },
    { ...rsa(2048), alg: 'PS256' },
    rsa(2048),
    { ...rsa(1024), alg: 'RS256' },
    { ...rsa(2048, 3), alg: 'RS256' },
  ]
  return keys.map((jwk) => ({ jwk, algs: SIGNATURE_ALGS }))
}

function proofCorpus(token: string): Corpus['proofs'] {
  const expected = { method: 'GET', url: `${AUDIENCE}tickets/7`, now: START, maxAgeSeconds: 60, accessToken: token }
  const ed = generateKeyPairSync('ed25519')
  const edJwk = ed.publicKey.export({ format: 'jwk' })
  const claims = { jti: 'one', htm: 'GET', htu: `${AUDIENCE}tickets/7`, iat: START }
  const byEd = (header: object, payload: object = claims) => {
    const input = `${part({ typ: 'dpop+jwt', alg: 'EdDSA', jwk: edJwk, ...header })}.${part(payload)}`
    return `${input}.${sign(null, Buffer.from(input), ed.privateKey).toString('base64url')}`
  }
  const [bad = '', other = ''] = [proof(token, { now: START }), proof(token, { now: START })]
  return [
    { proof: proof(token, { now: START }), expected },
    { proof: proof(token, { now: START - 100 }), expected },
    { proof: proof(token, { now: START, method: 'POST' }), expected },
    { proof: proof('another', { now: START }), expected },
    { proof: `${bad.slice(0, bad.lastIndexOf('.'))}${other.slice(other.lastIndexOf('.'))}`, expected },
    { proof: byEd({}), expected: { ...expected, accessToken: undefined } },
    { proof: byEd({}), expected },
    { proof: byEd({ alg: 'ES256' }), expected },
    { proof: byEd({ jwk: ed.privateKey.export({ format: 'jwk' }) }), expected },
    { proof: byEd({ jwk: { kty: 'OKP', crv: 'Ed25519', x: Buffer.alloc(32).toString('base64url') } }), expected },
    // An absent member is not the same as one that is undefined.
  ].map((each) => JSON.parse(JSON.stringify(each)) as Corpus['proofs'][number])
}

describe('without node:crypto', () => {
  const clock = createClock()
  const service = createFakeService(clock)
  let folder: string
  let close: () => Promise<void>
  let corpus: Corpus
  let onNode: Verdicts
  let elsewhere: Verdicts
  let absent: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'errand-portable-'))
    await build({
      config: false,
      cwd: ROOT,
      tsconfig: 'tsconfig.json',
      entry: { judge: 'test/verifier/portable.ts' },
      outDir: folder,
      format: 'esm',
      // What browsers and edge runtimes have: no process, no Buffer, and timers that are numbers.
      banner: 'const { globalThis, global, process, Buffer, setImmediate, setTimeout, clearTimeout } = bare',
      platform: 'neutral',
      fixedExtension: true,
      deps: { alwaysBundle: [/./], onlyBundle: false },
      dts: false,
      clean: false,
      logLevel: 'silent',
      report: false,
    })

    const short = { exp: clock.now + 60 }
    const bound = await service.token(short)
    const bearer = await service.token({ ...short, cnf: undefined as never })
    const spoilt = (text: string) => `${text.slice(0, -6)}${text.endsWith('AAAAAA') ? 'BBBBBA' : 'AAAAAA'}`
    const once = request(bound, { now: START })
    const byBearer = (token: string) => ({
      method: 'GET',
      url: `${AUDIENCE}tickets/7`,
      headers: { authorization: `Bearer ${token}` },
    })
    const list = [
      once,
      once,
      request(bound, { now: START }),
      request(bound, { now: START, key: keyPair() }),
      request(bound, { now: START, url: `${AUDIENCE}other` }),
      { ...request(bound, { now: START }), url: `${AUDIENCE}elsewhere` },
      request(spoilt(bound), { now: START }),
      request(await service.token(short, {}, keyPair().privateKey), { now: START }),
      request(await service.token(short, { kid: 'feed-1' }), { now: START }),
      request(await service.token(short, { kid: 'nobody' }), { now: START }),
      request(await service.token(short, { typ: 'JWT' }), { now: START }),
      request(await service.token({ ...short, aud: 'https://other.example/' }), { now: START }),
      request(await service.token({ exp: clock.now - 1, iat: clock.now - 60 }), { now: START }),
      request(await service.token({ exp: clock.now + 300 }), { now: START }),
      byBearer(bearer),
      byBearer(bound),
      byBearer(spoilt(bearer)),
      byBearer(`${part({ alg: 'none', typ: 'at+jwt', kid: 'token-1' })}.${bearer.split('.')[1]}.`),
    ]

    const server = serve({
      hostname: '127.0.0.1',
      port: 0,
      fetch: async (incoming) => {
        if (new URL(incoming.url).pathname !== '/revoke') return service.handle(incoming)
        await service.log.add(revocation({ jti: new URL(incoming.url).searchParams.get('jti')! }))
        return new Response(null, { status: 204 })
      },
    })
    await new Promise((resolve) => server.once('listening', resolve))
    close = () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        if ('closeAllConnections' in server) server.closeAllConnections()
      })
    const serviceUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const following = async (jti: string): Promise<Corpus['followed']> => ({
      now: START,
      options: { issuer: ISSUER, audience: AUDIENCE, tool: 'tickets', key: service.toolKey, serviceUrl },
      request: request(await service.token({ jti }), { now: START }),
      revokeUrl: `${serviceUrl}/revoke?jti=${jti}`,
    })

    corpus = {
      texts: ['', 'a', 'ab', 'abc', 'Zürich, 東京 🗼', 'x'.repeat(1000)],
      keys: keyCorpus(),
      signatures: await signatureCorpus(),
      proofs: proofCorpus(bound),
      requests: {
        now: START,
        jwks: service.jwks(),
        options: { issuer: ISSUER, audience: AUDIENCE, tool: 'tickets', acceptBearer: true },
        list,
      },
      followed: await following('AAECAwQFBgcICQoLDA0ODxAREhM'),
    }
    onNode = await judge(corpus)
    const file = join(folder, 'corpus.json')
    const child = join(folder, 'child.mjs')
    await writeFile(file, JSON.stringify({ ...corpus, followed: await following('BBECAwQFBgcICQoLDA0ODxAREhM') }))
    await writeFile(child, CHILD)
    const { stdout } = await promisify(execFile)(process.execPath, [child, join(folder, 'judge.mjs'), file], {
      maxBuffer: 2 ** 24,
      env: {},
    })
    ;({ absent, verdicts: elsewhere } = JSON.parse(stdout) as { absent: string; verdicts: Verdicts })
  }, 120_000)

  afterAll(async () => {
    await close()
    service.close()
    await rm(folder, { recursive: true, force: true })
  })

  it('the process really has none, and the other one has', () => {
    expect(absent).toBe('there is no node:crypto here')
    expect([onNode.nodeCrypto, elsewhere.nodeCrypto]).toEqual([true, false])
  })

  it('the digests, codes and encodings are the same', () => {
    expect(elsewhere.texts).toEqual(onNode.texts)
  })

  it('A16 A17 the same keys are taken, and the others refused for the same reason', () => {
    const compared = corpus.keys.map(({ jwk }, index) => [jwk, elsewhere.keys[index]])
    expect(compared).toEqual(corpus.keys.map(({ jwk }, index) => [jwk, onNode.keys[index]]))
    expect(onNode.keys.filter((verdict) => verdict !== 'bad_key').length).toBe(5)
  })

  it('A1 A2 A16 the same signatures are accepted, and the others refused for the same reason', () => {
    const compared = corpus.signatures.map(({ jws }, index) => [jws, elsewhere.signatures[index]])
    expect(compared).toEqual(corpus.signatures.map(({ jws }, index) => [jws, onNode.signatures[index]]))
    expect(onNode.signatures.filter((verdict) => verdict === 'accepted').length).toBeGreaterThanOrEqual(
      SIGNATURE_ALGS.length,
    )
    expect(new Set(onNode.signatures)).toContain('bad_signature')
  })

  it('the same proofs are accepted, and the others refused for the same reason', () => {
    expect(elsewhere.proofs).toEqual(onNode.proofs)
    expect(onNode.proofs.map((verdict) => verdict.split(' ').length)).toEqual([2, 1, 1, 1, 1, 2, 1, 1, 1, 1])
  })

  it('the same requests are accepted, and the others refused for the same reason', () => {
    expect(elsewhere.requests).toEqual(onNode.requests)
    expect(onNode.requests.flatMap((verdict, index) => (verdict === 'accepted' ? [index] : []))).toEqual([0, 2, 4, 14])
  })

  it('a verifier with a key proves itself, follows the feed, and refuses what is revoked', () => {
    expect(onNode.followed).toEqual(['accepted', '401 proof_replayed', '401 revoked'])
    expect(elsewhere.followed).toEqual(onNode.followed)
  })
})
