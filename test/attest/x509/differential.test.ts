import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Chain, createChains, NAMES, wished, type Wished } from './chains.ts'
import { hasOpenssl, type Opinion, openssl, ours, pkijs } from './judges.ts'

/** What is wrong with a chain as far as one judge sees it, and why we see it otherwise. The page says the same. */
interface Difference {
  readonly where: RegExp
  readonly why: string
}

/** We refuse what another judge takes. */
const STRICTER: Readonly<Record<'openssl' | 'pkijs', readonly Difference[]>> = {
  openssl: [
    { where: /: SHA-1/, why: 'signatures with SHA-1 are refused (collisions are affordable)' },
    { where: /: name constraints not critical/, why: 'name constraints must be critical (RFC 5280 §4.2.1.10)' },
    {
      where: /: leaf for key agreement/,
      why: 'a client signs the handshake: key usage must permit digital signatures',
    },
  ],
  pkijs: [
    { where: /: SHA-1/, why: 'signatures with SHA-1 are refused (collisions are affordable)' },
    { where: /: name constraints not critical/, why: 'name constraints must be critical (RFC 5280 §4.2.1.10)' },
    { where: /: for servers/, why: 'every certificate that limits its purposes must permit client authentication' },
    { where: /: no key ids/, why: 'key identifiers are required where RFC 5280 §4.2.1.1 and §4.2.1.2 require them' },
    { where: /leaf: leaf that is an authority/, why: 'an authority is no workload: CA certificates are no evidence' },
    {
      where: /: unknown critical extension/,
      why: 'an unknown critical extension is refused wherever it stands (RFC 5280 §4.2)',
    },
    {
      where: /: leaf for key agreement/,
      why: 'a client signs the handshake: key usage must permit digital signatures',
    },
    {
      where: /anchor: (path length|permits|excludes)/,
      why: 'an anchor is held to its own path length and name constraints (RFC 5280 §6.2 lets us)',
    },
  ],
}

/** We take what another judge refuses: RFC 5280 is on our side in each case, or it is a fault of theirs. */
const LOOSER: Readonly<Record<'openssl' | 'pkijs', readonly Difference[]>> = {
  openssl: [
    {
      where: /: ends this second/,
      why: 'a certificate is valid through its notAfter (RFC 5280 §4.1.2.5), to the second',
    },
    {
      where: /(anchor|authority \d): no key usage/,
      why: 'an authority without key usage may sign certificates: it is looked at where it is there (RFC 5280 §6.1.4 (n))',
    },
    { where: /: for any purpose/, why: 'anyExtendedKeyUsage permits client authentication (RFC 5280 §4.2.1.12)' },
  ],
  pkijs: [],
}

const RUNS = 80
const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31)

const unexplained = (kind: typeof STRICTER, judge: 'openssl' | 'pkijs', chain: Chain): boolean =>
  !kind[judge].some(({ where }) => chain.changes.some((change) => where.test(change)))

const told = ({ changes }: Chain, us: Opinion, judge: string, them: Opinion): string =>
  `[${changes.join(', ')}] we ${us.accepts ? 'accept' : us.why}, ${judge} ${them.accepts ? 'accepts' : them.why}`

async function compare(
  judge: 'openssl' | 'pkijs',
  chains: readonly Chain[],
  judged: (chains: readonly Chain[]) => Promise<readonly Opinion[]>,
  /** What others say: a judge that stands alone against us and another has a fault of its own. */
  others: readonly (readonly Opinion[])[] = [],
) {
  const theirs = await judged(chains)
  const used = new Set<Difference>()
  const surprises: string[] = []
  let agreed = 0
  for (const [index, chain] of chains.entries()) {
    const us = await ours(chain)
    const them = theirs[index]!
    if (us.accepts === them.accepts) {
      agreed++
      continue
    }
    if (others.some((opinions) => opinions[index]!.accepts === us.accepts)) continue
    const table = us.accepts ? LOOSER : STRICTER
    if (unexplained(table, judge, chain)) surprises.push(told(chain, us, judge, them))
    for (const row of table[judge]) if (chain.changes.some((change) => row.where.test(change))) used.add(row)
  }
  return { surprises, agreed, used }
}

const singles: readonly Wished[] = [
  { between: 1, changes: [] },
  ...NAMES.flatMap((name) => [0, 1, 2].map((level) => ({ between: 1, changes: [{ level, name }] }))),
]
const withOpenssl = hasOpenssl()
if (!withOpenssl) console.warn('skipped: there is no OpenSSL 3 to compare certificate chains with')

describe('chains with something wrong in them', () => {
  const judges: readonly (readonly ['openssl' | 'pkijs', (chains: readonly Chain[]) => Promise<readonly Opinion[]>])[] =
    [['pkijs', (chains) => Promise.all(chains.map(pkijs))], ...(withOpenssl ? ([['openssl', openssl]] as const) : [])]

  it('F8 F9 F11 F14 are judged as OpenSSL and pkijs judge them, but for the differences that are listed', async () => {
    const make = await createChains()
    const one: Chain[] = []
    for (const each of singles) one.push(await make(each))
    const many: Chain[] = []
    for (const each of fc.sample(wished, { numRuns: RUNS, seed })) many.push(await make(each))
    expect((await Promise.all(one.map(ours))).filter(({ accepts }) => accepts).length).toBeGreaterThan(20)

    for (const [judge, judged] of judges) {
      const single = await compare(judge, one, judged)
      expect(single.surprises).toEqual([])
      expect(single.agreed).toBeGreaterThan(one.length * 0.6)
      // A row that explains nothing would hide something one day.
      const needless = [...STRICTER[judge], ...LOOSER[judge]].filter((row) => !single.used.has(row))
      expect([judge, needless.map(({ why }) => why)]).toEqual([judge, []])
      // Of chains with several faults each judge alone has its own idea.
      const others = await Promise.all(judges.filter(([name]) => name !== judge).map(([, also]) => also(many)))
      if (others.length === 0) continue
      const random = await compare(judge, many, judged, others)
      expect(random.surprises, `FC_SEED=${seed}`).toEqual([])
    }
  }, 60_000)

  it('each difference is on the page about attestation, with its reason', () => {
    const page = readFileSync(new URL('../../../docs/attestation.md', import.meta.url), 'utf8')
    const rows = [...Object.values(STRICTER), ...Object.values(LOOSER)].flat()
    for (const { why } of rows) expect(page).toContain(why)
  })
})
