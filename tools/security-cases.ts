/** The security cases by id: a name for each, and for those that nothing can test yet, the part they wait for. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { filesUnder, ROOT } from './files.ts'

interface Group {
  readonly title: string
  readonly cases: Readonly<Record<string, string>>
}

const GROUPS: readonly Group[] = [
  {
    title: 'A. JWT parsing and algorithms',
    cases: {
      A1: 'algorithm none in any spelling',
      A2: 'HMAC made with our public key',
      A4: 'base64url that is not canonical',
      A5: 'JSON serialisation in place of compact',
      A6: 'encrypted token',
      A7: 'member that stands twice',
      A8: 'expiry that is absent or no whole second',
      A9: 'issued or valid only in the future',
      A10: 'names of Object.prototype as claims, members, ids or scopes',
      A11: 'subject that is no plain text',
      A12: 'critical extensions and unencoded payloads',
      A13: 'token or headers beyond the limit',
      A14: 'text that is not UTF-8, or begins with a byte order mark',
      A15: 'decompression and key-derivation bombs',
      A16: 'signatures and keys of degenerate values',
      A17: 'key of another curve, too small, or off the curve',
      A18: 'token under another scheme, twice, or in the query',
    },
  },
  {
    title: 'B. Keys and issuers',
    cases: {
      B1: 'key id that is a path, a query, or no text',
      B2: 'token that brings its own key or says where to get it',
      B4: 'key in a state in which it does not count',
      B5: 'flood of unknown key ids',
      B6: 'two issuers with one key id',
      B7: 'issuer that only looks like a trusted one',
      B8: 'key set that is too big, private, symmetric or ambiguous',
    },
  },
  {
    title: 'C. Kinds of token',
    cases: {
      C1: 'every kind in every other kind’s slot',
      C2: 'spellings of a type',
      C3: 'client assertion made out to somebody else',
      C4: 'token type that lies about the token',
      C5: 'one token as subject and actor',
      C6: 'secrets, ids and codes presented as tokens',
      C7: 'token at another tool, or for another operation',
      C8: 'introspection and revocation by a bystander',
      C9: 'introspection and revocation by nobody',
    },
  },
  {
    title: 'D. Exchange amplification',
    cases: {
      D1: 'more than allowed',
      D2: 'scope that is not well-formed',
      D3: 'audience outside the parent’s',
      D4: 'several targets',
      D5: 'resource in another spelling',
      D6: 'child that would outlive its parent',
      D7: 'deadline or budget that is no sensible number',
      D8: 'claims sent as parameters, or copied from foreign tokens',
      D11: 'delegation named by half an identity',
      D12: 'chain that is too long',
      D13: 'no agent, or two',
      D14: 'token of somebody else as the subject',
      D15: 'renewal for ever',
      D16: 'repeated parameters, parameters in the query, other media types',
      D17: 'tokens of another tenant',
      D18: 'disabled subject, banned agent, ended task',
      D20: 'retry after a lost answer',
      D21: 'unknown told apart from forbidden',
      D22: 'token types that are not made here',
      D23: 'policy narrowed in mid-exchange',
      D24: 'other ways to a token',
      D25: 'names without a credential',
    },
  },
  {
    title: 'E. DPoP and mTLS',
    cases: {
      E1: 'proof used twice at once',
      E2: 'proof for another address',
      E3: 'proof for another method or token',
      E4: 'proof under a private, symmetric or missing key',
      E5: 'nonce that is old or somebody else’s',
      E6: 'bound token sent as bearer',
      E7: 'proof by another key than the evidence’s',
      E8: 'two proofs',
      E9: 'replay guard full or away',
      E11: 'certificate-bound token over another certificate, or a certificate by header',
      E12: 'certificate that ends while the connection stays',
      E13: 'renewal over another certificate',
    },
  },
  {
    title: 'F. Attestation and X.509',
    cases: {
      F1: 'evidence used twice',
      F2: 'evidence of another trust domain or scheme',
      F3: 'identity in another spelling',
      F4: 'identity beside the permitted path',
      F5: 'identity given to somebody new while old evidence lives',
      F6: 'attestation that has expired since it was remembered',
      F8: 'certificate outside its validity',
      F9: 'path length exceeded',
      F11: 'name constraints violated',
      F12: 'names that are too many or in the wrong place',
      F13: 'banned agent that attests again',
      F14: 'hostile chains: long, looping, huge, weak, for another use',
      F15: 'workload exchanged after it was measured',
      F16: 'keys of an issuer swapped in an outage',
    },
  },
  {
    title: 'G. Policy bypass',
    cases: {
      G1: 'names that only look alike',
      G2: 'policy name with blanks or in capitals',
      G4: 'prohibition evaded by another verb',
      G5: 'policy that is too large',
      G6: 'policy that is broken when it is read again',
      G7: 'empty, missing and null lists',
      G8: 'limits that are no numbers',
      G9: 'time windows at odd hours',
      G10: 'own paths in other spellings',
    },
  },
  {
    title: 'H. Denial of service',
    cases: {
      H1: 'bodies and headers beyond the limit, or without end',
      H2: 'JSON that is too deep or too wide',
      H3: 'text made to stall a regular expression',
      H4: 'flood of bad signatures',
      H5: 'limit evaded by spellings of an address',
      H6: 'flood by one tenant',
      H7: 'flood of approvals',
      H8: 'flood of subscribers',
      H9: 'endpoint that was forgotten',
    },
  },
  {
    title: 'I. SSRF',
    cases: {
      I1: 'private addresses in every spelling',
      I2: 'address that changes between check and use',
      I3: 'redirects',
      I4: 'other schemes',
      I5: 'answers without end',
      I6: 'addresses that parsers read in two ways',
    },
  },
  {
    title: 'J. Vault paths and tenancy',
    cases: {
      J1: 'dot segments in a path',
      J2: 'queries, fragments and escapes in a path',
      J3: 'system paths through the broker',
      J4: 'leases of somebody else',
      J5: 'spellings of the root namespace',
      J6: 'answers that contradict themselves',
      J7: 'secrets of odd shapes',
    },
  },
  {
    title: 'K. Logs',
    cases: {
      K1: 'names that would forge a record or a terminal',
      K2: 'secrets in odd places',
      K3: 'secrets in crashes',
    },
  },
  {
    title: 'L. Revocation races',
    cases: {
      L1: 'agent revoked while it exchanges',
      L3: 'parent revoked, child used',
      L6: 'feed cut, replayed or reordered',
      L7: 'everything restarted',
      L8: 'verifier stopped with a request in hand',
      L10: 'token newer than the verifier',
      L11: 'revocation by a window of issue',
      L13: 'a million tokens at once',
      L14: 'revoked twice, unknown, expired',
      L15: 'agent that asks again at once',
      L16: 'revocation while Vault is away',
    },
  },
  {
    title: 'M. Redis',
    cases: {
      M1: 'killed at any moment',
      M2: 'stopped for half a minute',
      M5: 'out of memory, or set to forget',
      M8: 'replica that lags',
      M9: 'somebody else writes into it',
      M10: 'shared with another application',
      M11: 'clock that jumps',
    },
  },
  {
    title: 'N. Vault and OpenBao',
    cases: {
      N1: 'sealed, standing by, failing or silent',
      N2: 'our own token gone',
      N3: 'lease made, answer lost',
      N4: 'lease gone before us',
      N6: 'renewal shorter than asked',
      N7: 'task ends in mid-renewal',
      N8: 'restored from a snapshot',
      N9: 'ten thousand leases at once',
      N10: 'secret revoked by others',
    },
  },
  {
    title: 'O. Keys',
    cases: {
      O1: 'rotation each second under load',
      O2: 'crash in mid-rotation',
      O3: 'key set cached to the last moment',
      O4: 'key compromised',
      O5: 'key file that others can read, or that is broken',
      O6: 'foreign signer slow or away',
    },
  },
  {
    title: 'P. Crash consistency',
    cases: {
      P1: 'killed between intent and effect',
      P2: 'torn, zeroed or copied end of a log',
      P3: 'two processes on one folder',
      P4: 'sync that fails',
      P5: 'restart on a million records',
      P6: 'older program on newer data',
    },
  },
  {
    title: 'Q. Audit log',
    cases: {
      Q1: 'any single edit',
      Q3: 'log rewritten whole',
      Q4: 'two histories for two viewers',
      Q5: 'token without a record, record of two tokens',
      Q6: 'clock set back',
      Q8: 'log taken away while it is written',
    },
  },
  {
    title: 'R. Approvals',
    cases: {
      R1: 'approval used twice',
      R2: 'approval of oneself',
      R4: 'approval at its last moment',
      R5: 'approver who is none any more',
      R6: 'yes and no at once',
      R8: 'bystander who decides',
      R9: 'policy changed since',
      R10: 'approver revoked',
    },
  },
  {
    title: 'S. Console',
    cases: {
      S1: 'markup and formulas in names',
      S2: 'request from another site',
      S3: 'framing',
      S4: 'pages in caches',
      S5: 'foreign host names',
      S6: 'event stream without a login',
      S7: 'cookies fixed, unprefixed, or left over',
    },
  },
  {
    title: 'T. CLI and SDKs',
    cases: {
      T1: 'secrets in arguments, environment and output',
      T2: 'token cache that others can reach',
      T3: 'output closed, command interrupted',
      T4: 'metadata of an attacker',
      T5: 'retries that storm or repeat refusals',
    },
  },
  {
    title: 'U. Supply chain',
    cases: {
      U1: 'install scripts',
      U2: 'packages without digest or from elsewhere',
      U3: 'package that learns to reach out',
      U4: 'tarball that is not what was built',
      U5: 'development material in production',
      U6: 'Node past its end of life',
    },
  },
  {
    title: 'Invariants under faults',
    cases: {
      Inv1: 'no token accepted beyond its revocation and the bound',
      Inv2: 'revoked stays revoked, and nothing else is killed',
      Inv3: 'one durable intent before each token',
      Inv4: 'no lease outlives its task',
      Inv5: 'nothing takes effect twice',
      Inv6: 'what was acknowledged is there',
      Inv7: 'an approval counts once',
      Inv8: 'the log verifies',
      Inv9: 'an unknown outcome is all or nothing',
      Inv10: 'a child is within its parent',
      Inv11: 'no secret where it does not belong',
      Inv12: 'recovery without an operator',
    },
  },
  {
    title: 'Faults',
    cases: {
      'FI-1': 'server killed in a loop',
      'FI-2': 'Redis killed, stopped, resumed',
      'FI-3': 'Redis failover',
      'FI-4': 'bad connections',
      'FI-5': 'storage full, read-only, failing',
      'FI-6': 'writes that were not synced are lost',
      'FI-7': 'clocks stepped, frozen, fast',
      'FI-8': 'event loop blocked, little memory, few descriptors',
      'FI-9': 'verifier stopped with a request in hand',
      'FI-10': 'Vault failing for minutes',
      'FI-11': 'a real OpenBao that fails',
      'FI-12': 'rotation, kills and old caches',
      'FI-13': 'replicas of two versions',
      'FI-14': 'any single edit of the log',
      'FI-15': 'an hour of everything',
      'FI-16': 'all interleavings',
    },
  },
]

const PARTS = {
  attestation: 'the other kinds of attestation and the measured agent',
  tenants: 'tenants',
  bench: 'the benchmarks, which read clocks where tests must not',
  revocation: 'the whole of revocation: modes, previews, receipts, witnesses',
  model: 'the model of revocation and its interleavings',
  cache: 'a token cache in the command line, which has none',
  redis: 'the seal and replay of scaled-out stores',
  broker: 'the credential broker',
  approvals: 'approvals',
  console: 'the console',
} as const

/** By id, or by the letter of a group for all of it. A case that has a test waits for nothing. */
const WAITING: Readonly<Record<string, keyof typeof PARTS>> = {
  D17: 'tenants',
  F16: 'attestation',
  H4: 'bench',
  H6: 'tenants',
  H7: 'approvals',
  H8: 'revocation',
  J: 'broker',
  L11: 'revocation',
  L16: 'broker',
  M9: 'redis',
  N: 'broker',
  O6: 'revocation',
  Q3: 'revocation',
  Q4: 'revocation',
  R: 'approvals',
  S: 'console',
  T2: 'cache',
  Inv4: 'broker',
  Inv7: 'approvals',
  Inv11: 'broker',
  'FI-3': 'redis',
  'FI-10': 'broker',
  'FI-11': 'broker',
  'FI-12': 'revocation',
  'FI-13': 'redis',
  'FI-15': 'revocation',
  'FI-16': 'model',
}

const ID = /(?:[A-U]\d{1,2}|FI-\d{1,2}|Inv\d{1,2})/
const TITLE = new RegExp(`^(${ID.source}(?:[ ,]+${ID.source})*)[:,]? (?=\\S)`)

export interface Covered {
  readonly id: string
  readonly file: string
  readonly title: string
}

/** Titles, and rows of the tables that titles are made from: every text under test/ that begins with ids. */
export function coveredCases(): readonly Covered[] {
  return filesUnder('test', '.ts').flatMap((file) => {
    const source = ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.ES2023, true)
    const found: Covered[] = []
    const visit = (node: ts.Node): void => {
      const title =
        ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node) ? node.text : templateText(node)
      const ids = title === undefined ? undefined : TITLE.exec(title)?.[1]
      if (title !== undefined && ids !== undefined)
        for (const id of ids.split(/[ ,]+/)) found.push({ id, file, title: title.replace(TITLE, '') })
      ts.forEachChild(node, visit)
    }
    visit(source)
    return found
  })
}

const templateText = (node: ts.Node): string | undefined =>
  ts.isTemplateExpression(node)
    ? [node.head.text, ...node.templateSpans.map((span) => `…${span.literal.text}`)].join('')
    : undefined

const partOf = (id: string): string | undefined => {
  const key = WAITING[id] ?? (/^[A-U]\d/.test(id) ? WAITING[id.slice(0, 1)] : undefined)
  return key && PARTS[key]
}

/** Ids in titles that no case has: misspelt, or of a case that was dropped. */
export function unknownCases(covered: readonly Covered[]): readonly Covered[] {
  const known = new Set(GROUPS.flatMap(({ cases }) => Object.keys(cases)))
  return covered.filter(({ id }) => !known.has(id))
}

/** Cases with neither a test nor a part that they wait for. */
export function openCases(covered: readonly Covered[]): readonly string[] {
  const tested = new Set(covered.map(({ id }) => id))
  return GROUPS.flatMap(({ cases }) => Object.keys(cases)).filter((id) => !tested.has(id) && partOf(id) === undefined)
}

/** What a table of tests fills in (printf, or `$name` of a row) reads as `…`, as in a template. */
const filledIn = (text: string) => text.replace(/%[sdifjo]|\$[a-z]\w*(?:\.\w+)*/gi, '…').replaceAll('%%', '%')

const cell = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('|', '\\|').replaceAll('<', '&lt;')

export function renderSecurityCases(covered: readonly Covered[]): string {
  const lines = [
    '# Security cases',
    '',
    'Attacks and faults by their ids, each with the tests whose titles start with it, or the part of Errand it waits for.',
    'Made from the test titles by `npm run generate`; do not edit.',
  ]
  for (const { title, cases } of GROUPS) {
    lines.push('', `## ${title}`, '', '| id | case | tests |', '| --- | --- | --- |')
    for (const [id, name] of Object.entries(cases)) {
      const files = new Map<string, Set<string>>()
      for (const each of covered.filter((one) => one.id === id))
        files.set(each.file, (files.get(each.file) ?? new Set()).add(cell(filledIn(each.title))))
      const shown = [...files].map(([file, titles]) => `\`${file}\`: ${[...titles].join('; ')}`)
      const part = partOf(id)
      const instead = part === undefined ? '**none yet**' : `waits for ${part}`
      lines.push(`| ${id} | ${cell(name)} | ${shown.length > 0 ? shown.join('<br>') : instead} |`)
    }
  }
  return `${lines.join('\n')}\n`
}
