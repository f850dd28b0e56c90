/** A configuration folder in memory, small and right, for tests to spoil. */
import { type Loading, type LoadResult, loadConfig } from '../../src/config/load.ts'
import type { Problem } from '../../src/policy/problem.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

export const publicJwk = (kid: string) => ({
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  kid,
})
const RESEARCH_KEY = publicJwk('research-1')

export const GOOD: Readonly<Record<string, string>> = {
  'config/errand.yaml': 'issuer: https://errand.example.com\n',
  'config/agents/research.yaml': `client_id: research
spiffe_id: spiffe://company.example/agents/research
evidence: [private_key_jwt]
keys_file: agents/research.pub.jwk
stage: reversible_write
ceiling:
  - tickets:*
delegates_to: []
`,
  'config/tools/tickets.yaml': `name: tickets
audience: https://tickets.example.com/
operations:
  read:
    effect: read
    routes: [GET /tickets/:id]
    mcp_tools: [read_ticket]
  comment:
    effect: reversible_write
    arguments: { type: object, properties: { text: { type: string, maxLength: 100 } } }
`,
  'config/issuers/company.yaml': `kind: user
name: company
issuer: https://login.example.com/
jwks_file: users/company.jwks.json
algorithms: [ES256]
audiences: [errand]
rights:
  support: [tickets:*]
  readers: [tickets:read]
`,
  'config/policies/base.cedar': '@id("all") permit (principal, action, resource);\n',
  'keys/agents/research.pub.jwk': JSON.stringify(RESEARCH_KEY),
  'keys/users/company.jwks.json': JSON.stringify({ keys: [publicJwk('company-1')] }),
}

const missing = (path: string): Error => Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })

function memory(files: Readonly<Record<string, string | undefined>>): Loading {
  const present = Object.entries(files).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return {
    dir: 'config',
    keysDir: 'keys',
    now: () => 1_800_000_000,
    readFile: async (path) => {
      const found = present.find(([name]) => name === path)
      if (!found) throw missing(path)
      return found[1]
    },
    readFolder: async (path) => {
      const inside = present.filter(([name]) => name.startsWith(`${path}/`))
      if (inside.length === 0) throw missing(path)
      return [...new Set(inside.map(([name]) => name.slice(path.length + 1).split('/', 1)[0]!))]
    },
  }
}

/** The good folder with some files replaced, added or (undefined) taken away. */
export const load = (
  changed: Readonly<Record<string, string | undefined>> = {},
  more: Partial<Loading> = {},
): Promise<LoadResult> => loadConfig({ ...memory({ ...GOOD, ...changed }), ...more })

export async function problemsOf(
  changed: Readonly<Record<string, string | undefined>>,
  more: Partial<Loading> = {},
): Promise<readonly Problem[]> {
  const loaded = await load(changed, more)
  return loaded.ok ? [] : loaded.problems
}

/** `file` of the good folder with `from` replaced. */
export function edit(file: keyof typeof GOOD & string, from: string, to: string): Record<string, string> {
  const text = GOOD[file]!
  if (!text.includes(from)) throw new Error(`${file} has no ${from}`)
  return { [file]: text.replace(from, () => to) }
}
