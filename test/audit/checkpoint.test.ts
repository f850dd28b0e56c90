import { createHash, sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkpointText, openCheckpoint, originOf, parseCheckpoint } from '../../src/audit/checkpoint.ts'
import { formatNote, isSignedBy, noteKey, noteKeyId, parseNote, verifierKeyLine } from '../../src/audit/note.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const ORIGIN = 'errand.example/log/0a1b2c3d'
const root = createHash('sha256').update('a tree').digest()

function newKey(name = ORIGIN) {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url')
  const key = noteKey(name, raw)
  const signature = (text: string) => ({ name, keyId: key.keyId, signature: sign(null, Buffer.from(text), privateKey) })
  return { raw, key, signature }
}

describe('signed notes and checkpoints', () => {
  it('signed-note: reads the example of the specification to its last byte', () => {
    const example =
      'Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n'
    const note = parseNote(example)!
    expect(note.text).toBe(
      'Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n',
    )
    expect(note.signatures).toMatchObject([
      { name: 'quasimodo.example/salvatore', keyId: Buffer.from('367ba04b', 'hex') },
    ])
    expect(formatNote(note)).toBe(example)
  })

  it('tlog-checkpoint: takes what one of the known keys signed, and passes over signatures of others', () => {
    const { key, signature } = newKey()
    const witness = newKey('witness.example/w1')
    const text = checkpointText({ origin: ORIGIN, size: 7, root })
    const note = formatNote({ text, signatures: [witness.signature(text), signature(text)] })
    expect(openCheckpoint(note, [key])).toEqual({ origin: ORIGIN, size: 7, root })
    expect(openCheckpoint(note, [newKey().key, key])).toEqual({ origin: ORIGIN, size: 7, root })
    expect(openCheckpoint(note, [newKey().key])).toBeUndefined()
    expect(openCheckpoint(note, [])).toBeUndefined()
  })

  it('signed-note: refuses a note with a bad signature of a known key, whoever else signed it', () => {
    const { key, signature } = newKey()
    const other = newKey('witness.example/w1')
    const text = checkpointText({ origin: ORIGIN, size: 7, root })
    const bad = { ...signature(text), signature: Buffer.alloc(64) }
    const note = parseNote(formatNote({ text, signatures: [bad, other.signature(text)] }))!
    expect(isSignedBy(note, [other.key])).toBe(true)
    expect(isSignedBy(note, [key, other.key])).toBe(false)
  })

  it('Q3 believes no byte of a checkpoint that was changed', () => {
    const { key, signature } = newKey()
    const text = checkpointText({ origin: ORIGIN, size: 1_000_001, root })
    const whole = Buffer.from(formatNote({ text, signatures: [signature(text)] }))
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, bits) => {
        const bent = Buffer.from(whole)
        bent[at]! ^= bits
        expect(openCheckpoint(bent.toString('utf8'), [key])).toBeUndefined()
      }),
      { numRuns: 300 },
    )
  })

  it('signed-note: names a key by the hash of its name, algorithm and bytes', () => {
    const raw = Buffer.alloc(32, 9)
    const expected = createHash('sha256')
      .update(Buffer.concat([Buffer.from(`${ORIGIN}\n\u0001`), raw]))
      .digest()
    expect(noteKeyId(ORIGIN, raw)).toEqual(expected.subarray(0, 4))
    expect(noteKeyId(ORIGIN, raw, 'cosignature')).not.toEqual(noteKeyId(ORIGIN, raw))
    const hex = expected.toString('hex', 0, 4)
    expect(verifierKeyLine(ORIGIN, raw)).toBe(`${ORIGIN}+${hex}+${Buffer.from([1, ...raw]).toString('base64')}`)
  })

  it.each([
    ['nothing', ''],
    ['no signature', 'text\n\n'],
    ['no empty line', 'text\n— a AAAAAAA=\n'],
    ['no line feed at the end', 'text\n\n— a AAAAAAA='],
    ['a hyphen for the dash', 'text\n\n- a AAAAAAA=\n'],
    ['a name with a plus', 'text\n\n— a+b AAAAAAA=\n'],
    ['a signature of four bytes', 'text\n\n— a AAAAAA==\n'],
    ['another spelling of base64', 'text\n\n— a AAAAAAB=\n'],
    ['a carriage return', 'text\r\n\n— a AAAAAAA=\n'],
    ['a thousand signatures', `text\n\n${'— a AAAAAAA=\n'.repeat(1000)}`],
  ])('signed-note: takes %s for no note', (_, text) => {
    expect(parseNote(text)).toBeUndefined()
  })

  it.each([
    ['a size with a leading zero', `${ORIGIN}\n07\n${root.toString('base64')}\n`],
    ['a negative size', `${ORIGIN}\n-7\n${root.toString('base64')}\n`],
    ['a size beyond what is exact', `${ORIGIN}\n9007199254740993\n${root.toString('base64')}\n`],
    ['a root of 31 bytes', `${ORIGIN}\n7\n${root.subarray(1).toString('base64')}\n`],
    ['an origin with a space', `errand example\n7\n${root.toString('base64')}\n`],
    ['an empty extension line', `${ORIGIN}\n7\n${root.toString('base64')}\n\n`],
    ['two lines', `${ORIGIN}\n7\n`],
  ])('tlog-checkpoint: takes %s for no checkpoint', (_, text) => {
    expect(parseCheckpoint(text)).toBeUndefined()
  })

  it('gives each log of an issuer an origin of its own', () => {
    expect(originOf('https://errand.example/', '0a1b2c3d')).toBe(ORIGIN)
    expect(originOf('http://127.0.0.1:4460', '0a1b2c3d')).toBe('127.0.0.1:4460/log/0a1b2c3d')
    expect(originOf('https://errand.example/a+b', '0a1b2c3d')).toBe('errand.example/a%2Bb/log/0a1b2c3d')
  })
})
