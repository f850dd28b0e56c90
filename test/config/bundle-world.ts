/** A bundle endpoint that a test serves from, with all that could be away, and what was told of it. */
import { readBundle } from '../../src/attest/bundle.ts'
import type { BundleEndpoint, TrustDomain } from '../../src/attest/trust-domain.ts'
import { type BundleChange, createBundleEndpoints, type KeptBundle } from '../../src/config/bundle-endpoints.ts'
import type { FetchJwks, FetchTrust } from '../../src/config/fetch-jwks.ts'
import { NOW, type TestTrustDomain } from '../attest/pki.ts'

export const BUNDLE_URL = 'https://spire.company.example/bundle'
export const NAME = 'company.example'

export const bundleOf = async (domain: TestTrustDomain, more: object = {}) =>
  JSON.stringify({ ...(await domain.bundle()), ...more })
/** What a file of config/issuers/ says of a trust domain. */
export const file = (endpoint?: BundleEndpoint, text?: string, name = NAME): TrustDomain => {
  const source = { name, file: 'config/issuers/x.yaml', ...(endpoint ? { bundleEndpoint: endpoint } : {}) }
  const read = text === undefined ? undefined : readBundle(text, source)
  if (read && !read.ok) throw new Error(read.problem)
  return read?.value ?? { ...source, jwtKeys: [], witKeys: [], x509Anchors: [] }
}

/** Without `fetch` it serves what `serves` says, and is away where that is undefined. */
export function world(domain: TrustDomain, others: readonly TrustDomain[] = [], fetch?: FetchJwks) {
  const state = {
    now: NOW,
    random: 1,
    serves: undefined as string | undefined,
    fetches: 0,
    trust: undefined as FetchTrust | undefined,
    auditDown: false,
    diskDown: false,
    domains: [domain, ...others],
    changes: [] as BundleChange[],
    problems: [] as (string | undefined)[],
    kept: new Map<string, KeptBundle>(),
  }
  const open = () =>
    createBundleEndpoints({
      fetch: async (url, trust) => {
        state.fetches++
        state.trust = trust
        if (fetch) return fetch(url, trust)
        if (state.serves === undefined) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
        return { text: state.serves }
      },
      now: () => state.now,
      random: () => state.random,
      domains: () => state.domains,
      kept: {
        read: async (name) => state.kept.get(name),
        write: async (name, bundle) => {
          if (state.diskDown) throw new Error('ENOSPC')
          state.kept.set(name, bundle)
        },
      },
      recorded: async (change) => {
        if (state.auditDown) throw new Error('audit away')
        state.changes.push(change)
      },
      onProblem: (_, problem) => void state.problems.push(problem),
    })
  return Object.assign(state, { open, endpoints: open() })
}
/** Which of the test's bundles it is. */
export const x = (domain: TrustDomain) => domain.jwtKeys[0]?.x
export const pass = async (w: ReturnType<typeof world>, seconds: number) => {
  w.now += seconds
  await w.endpoints.poll()
}
