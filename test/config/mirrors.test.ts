/** What errand.yaml may say of copies of the audit log. */
import { describe, expect, it } from 'vitest'
import { load, problemsOf } from './folder.ts'

const ERRAND = 'config/errand.yaml'
const withMirrors = (lines: readonly string[], mode = 'production') => ({
  [ERRAND]: `issuer: https://errand.example.com\nmode: ${mode}\naudit:\n  mirrors:\n${lines.map((each) => `    - ${each}\n`).join('')}`,
})

describe('mirrors of the audit log', () => {
  it('are read with what stands for itself where nothing is said', async () => {
    const loaded = await load(
      withMirrors([
        '{ name: disk, to: file, path: /var/log/errand/audit.jsonl }',
        '{ name: siem, to: syslog, host: siem.example.com, ca_file: logs/ca.pem }',
        '{ name: lake, to: http, url: "https://lake.internal/errand", private: true, bearer_file: logs/token, format: ocsf, on_failure: refuse, max_behind: 50 }',
        '{ name: out, to: stdout }',
      ]),
    )
    const { mirrors } = (loaded.ok ? loaded.snapshot.settings.audit : undefined)!
    const usual = { format: 'json', onFailure: 'continue', maxBehind: 100_000 }
    expect(mirrors).toEqual([
      { name: 'disk', to: 'file', path: '/var/log/errand/audit.jsonl', ...usual },
      {
        name: 'siem',
        to: 'syslog',
        host: 'siem.example.com',
        port: 6514,
        tls: true,
        caFile: expect.stringMatching(/logs\/ca\.pem$/),
        private: false,
        ...usual,
      },
      {
        name: 'lake',
        to: 'http',
        url: 'https://lake.internal/errand',
        bearerFile: expect.stringMatching(/logs\/token$/),
        private: true,
        format: 'ocsf',
        onFailure: 'refuse',
        maxBehind: 50,
      },
      { name: 'out', to: 'stdout', ...usual },
    ])
  })

  it.each([
    ['{ name: a, to: file, path: audit.jsonl }', 'bad_value'],
    ['{ name: a, to: http, url: "http://logs.example.com/" }', 'url_forbidden'],
    ['{ name: a, to: http, url: "https://10.0.0.8/" }', 'url_forbidden'],
    ['{ name: a, to: http, url: "https://logs.internal/" }', 'url_forbidden'],
    ['{ name: a, to: http, url: "https://user:secret@logs.example.com/" }', 'url_forbidden'],
    ['{ name: a, to: syslog, host: 10.0.0.8 }', 'url_forbidden'],
    ['{ name: a, to: syslog, host: siem.example.com, tls: false }', 'bad_value'],
    ['{ name: a, to: syslog, host: "siem/x" }', 'bad_identifier'],
    ['{ name: a, to: stdout, path: /x }', 'unknown_key'],
    ['{ name: a, to: kafka }', 'bad_value'],
  ])('I1 refuses %s: %s', async (mirror, code) => {
    expect((await problemsOf(withMirrors([mirror]))).map((problem) => problem.code)).toEqual([code])
  })

  it('refuses two of one name', async () => {
    const twice = withMirrors(['{ name: a, to: stdout }', '{ name: a, to: stdout }'])
    expect((await problemsOf(twice)).map(({ code, line }) => [code, line])).toEqual([['duplicate', 6]])
  })
})
