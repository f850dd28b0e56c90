import { describe, expect, it } from 'vitest'
import { FILE_BOUNDS, readYaml } from '../../src/config/yaml.ts'

const read = (text: string) => readYaml('config/x.yaml', text)
const codes = (text: string) => {
  const reading = read(text)
  return reading.ok ? [] : reading.problems.map(({ code }) => code)
}

describe('a YAML file', () => {
  it('is plain data with places', () => {
    const reading = read('a: 1\nb:\n  - text\n  - yes\n  - c: { d: [0x10, null, ~, 1.5, true] }\n')
    if (!reading.ok) throw new Error(JSON.stringify(reading.problems))
    expect(reading.value.data).toEqual({ a: 1, b: ['text', 'yes', { c: { d: [16, null, null, 1.5, true] } }] })
    expect(reading.value.placeOf(['b', 2, 'c', 'd', 1])).toEqual({ line: 5, column: 20 })
    expect(reading.value.placeOf(['b', 7, 'x'])).toEqual({ line: 3, column: 3 })
    expect(reading.value.placeOfKey([], 'b')).toEqual({ line: 2, column: 1 })
  })

  it('may be empty', () => {
    const reading = read('# nothing\n')
    expect(reading.ok && reading.value.data).toBeNull()
  })

  const hostile: [name: string, text: string, code: string][] = [
    ['an alias', 'a: &x 1\nb: *x\n', 'bad_yaml'],
    ['an anchor without alias', 'a: &x 1\n', 'bad_yaml'],
    [
      'a bomb of aliases',
      `a: &a [x]\n${'bcdefgh'
        .split('')
        .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
        .join('\n')}\n`,
      'bad_yaml',
    ],
    ['a tag of its own', 'a: !run "rm -rf"\n', 'bad_yaml'],
    ['a standard tag', 'a: !!str 1\n', 'bad_yaml'],
    ['binary', 'a: !!binary aGk=\n', 'bad_yaml'],
    ['a set', 'a: !!set { x, y }\n', 'bad_yaml'],
    ['a duplicate key', 'a: 1\na: 2\n', 'duplicate'],
    ['a duplicate key in quotes', 'a: 1\n"a": 2\n', 'duplicate'],
    ['a merge key', 'a: { b: 1 }\nc: { <<: { b: 2 }, d: 1 }\nx: *a\n', 'bad_yaml'],
    ['two documents', 'a: 1\n---\nb: 2\n', 'bad_yaml'],
    ['a number as key', '1: x\n', 'bad_yaml'],
    ['a list as key', '? [a, b]\n: x\n', 'bad_yaml'],
    ['null as key', '~: x\n', 'bad_yaml'],
    ['__proto__', 'a: 1\n__proto__: { mode: development }\n', 'bad_identifier'],
    ['constructor', 'constructor: 1\n', 'bad_identifier'],
    ['an unclosed list', 'a: [1, 2\n', 'bad_yaml'],
    ['tabs for indentation', 'a:\n\tb: 1\n', 'bad_yaml'],
    ['what is not UTF-8', 'a: \ufffd\n', 'bad_yaml'],
    ['a directive that we do not know', '%FOO bar\n---\na: 1\n', 'bad_yaml'],
    ['a file above its size', `a: "${'x'.repeat(FILE_BOUNDS.bytes)}"\n`, 'too_large'],
    ['ten thousand brackets', `a: ${'['.repeat(10_000)}${']'.repeat(10_000)}\n`, 'too_large'],
    ['ten thousand brackets, unclosed', `a: ${'['.repeat(10_000)}`, 'too_large'],
    ['ten thousand braces over lines', `${'{a:\n'.repeat(10_000)}`, 'too_large'],
    [
      'steps of indentation',
      Array.from({ length: 200 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
      'too_large',
    ],
    ['lists in lists in lists', `${'- '.repeat(5000)}a`, 'too_large'],
    ['more values than any honest file', `a: [${Array(60_000).fill('1').join(',')}]\n`, 'too_large'],
  ]
  it.each(hostile)('with %s is refused', (_, text, code) => {
    expect(codes(text)).toContain(code)
    expect(({} as Record<string, unknown>)['mode']).toBeUndefined()
  })
})
