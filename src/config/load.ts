/** config/ in, one immutable snapshot out, or every problem that was found, together. */
import { createHash } from 'node:crypto'
import { readdir as readdirFromDisk, readFile as readFileFromDisk } from 'node:fs/promises'
import { join } from 'node:path'
import { type AgentPlatform, platformPrincipal } from '../attest/platform.ts'
import type { AgentRegistration, MachineClient } from '../attest/registration.ts'
import type { AgentLookup } from '../attest/attestor.ts'
import type { TrustDomain } from '../attest/trust-domain.ts'
import type { Attester, WorkloadIssuer } from '../attest/workload-issuer.ts'
import { createWorkloadRules } from '../attest/workload-rules.ts'
import { someAtOnce } from '../keys/some-at-once.ts'
import { type Cedar, createCedar } from '../policy/cedar.ts'
import { createDecide } from '../policy/decide.ts'
import { loadPolicies, type PolicyFile } from '../policy/load.ts'
import type { Problem } from '../policy/problem.ts'
import type { ClaimType, Vocabulary } from '../policy/schema.ts'
import type { Tool } from '../policy/tool.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { isLoopbackHttp } from './addresses.ts'
import { checkTogether } from './check-together.ts'
import { type ConfigFile, createConfigFolder } from './config-folder.ts'
import { declaredArguments } from './declared-arguments.ts'
import { createFetchJwks, createRemoteKeys, type RemoteKeys } from './fetch-jwks.ts'
import { createKeyFiles, type ReadFile } from './key-files.ts'
import { readAgent } from './read-agent.ts'
import { readTrustDomain, readUserIssuer } from './read-issuer.ts'
import { checkPlatforms, platformOf, readPlatform } from './read-platform.ts'
import type { AgentPlatformFile } from './issuer-file.ts'
import { type Overrides, readAdministrators, readReceivers, readSettings } from './read-settings.ts'
import { readAttester, readWorkloadEvidence, readWorkloadOidc } from './read-workloads.ts'
import { readReleases } from './read-releases.ts'
import { readTool } from './read-tool.ts'
import { createReadings, labelOf, type Readings } from './readings.ts'
import type { Reporter } from './reporter.ts'
import type { Snapshot } from './snapshot.ts'
import { strayProblems } from './stray.ts'
import type { HostSettings } from './tenants.ts'
import { type PostReview, postReview } from './token-review.ts'
import type { YamlFile } from './yaml.ts'

export interface Loading {
  /** The folder config/. */
  readonly dir: string
  readonly keysDir: string
  readonly now: () => number
  /** Files of the folder named by path; ENOENT where there is none. */
  readonly readFile?: ReadFile
  /** Names in a folder; ENOENT where there is none. */
  readonly readFolder?: (path: string) => Promise<readonly string[]>
  /** What was read ahead. */
  readonly readings?: Readings
  readonly overrides?: Overrides
  /** For the folder of a tenant: what its own errand.yaml may not say. */
  readonly host?: HostSettings
  /** Before the first start has made them, key files that do not exist are no problem. */
  readonly allowMissingKeys?: boolean
  /** Kept across reloads: what was parsed and fetched before need not be again. */
  readonly cedar?: Cedar
  readonly remoteKeys?: (mode: { readonly development: boolean }) => RemoteKeys
  /** Told why a set of keys that was fetched, or not, changes nothing. */
  readonly onKeysRefused?: (uri: string, why: string) => void
  /** How a cluster is asked about its tokens. */
  readonly postReview?: PostReview
}

export type LoadResult =
  | {
      readonly ok: true
      readonly snapshot: Snapshot
      readonly vocabulary: Vocabulary
      /** How many there are: without any, all is denied. */
      readonly policyCount: number
    }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads the same folder again and again: what was parsed and fetched once is kept. */
export function createConfigLoader(loading: Loading): () => Promise<LoadResult> {
  const { cedar = createCedar(), remoteKeys = createDefaultRemoteKeys(loading) } = loading
  return () => loadConfig({ ...loading, cedar, remoteKeys })
}

export async function loadConfig(loading: Loading): Promise<LoadResult> {
  const { dir, keysDir, now, overrides = {}, cedar = createCedar() } = loading
  const readFile = loading.readFile ?? ((path: string) => readFileFromDisk(path, 'utf8'))
  const readFolder = loading.readFolder ?? ((path: string) => readdirFromDisk(path))
  const readings = loading.readings ?? createReadings()
  const label = labelOf(dir)
  const problems: Problem[] = []
  const folder = createConfigFolder({ dir, readFile, readFolder, readings, problems })

  problems.push(...(await strayProblems({ dir, keysDir, label, readFolder, tenant: loading.host !== undefined })))
  const keyFiles = createKeyFiles({ keysDir, readFile, allowMissing: loading.allowMissingKeys ?? false })

  const errand = await folder.read('errand', 'errand.yaml')
  const development = errand?.value.mode === 'development'
  const settings = errand
    ? readSettings(errand.value, {
        keysDir,
        overrides,
        report: errand.report,
        stated: (path) => isStated(errand.yaml.data, path),
        ...(loading.host === undefined ? {} : { host: loading.host }),
      })
    : undefined
  const administrators = errand ? await readAdministrators(errand.value, { keyFiles, report: errand.report }) : []

  const receivers = errand ? await readReceivers(errand.value, { keyFiles, development, report: errand.report }) : []

  const toolFiles = await folder.readAll('tool', 'tools')
  const agentFiles = await folder.readAll('agent', 'agents')
  const issuerFiles = await folder.readAll('issuer', 'issuers')
  const policyTexts = await someAtOnce(await folder.filesOf('policies', '.cedar'), async (file) => {
    const text = await folder.textOf(`policies/${file}`)
    return text === undefined ? undefined : { file: `${label}/policies/${file}`, text }
  })
  const policyFiles: readonly PolicyFile[] = policyTexts.filter((one) => one !== undefined)

  // A file that could not be read would make names elsewhere look unknown that are not, and a name that two files take
  // would mean either.
  let complete = folder.complete()
  complete = unique(toolFiles, 'name', ({ name }) => name) && complete
  complete = unique(agentFiles, 'client_id', ({ client_id }) => client_id) && complete
  complete = unique(issuerFiles, 'name', (issuer) => (issuer.kind === 'workload' ? undefined : issuer.name)) && complete
  for (const { value, report } of toolFiles) {
    // The actions of policies are operations and, as effect:<effect>, all that have one effect.
    if (value.name !== 'effect') continue
    complete = false
    report(['name'], 'bad_identifier', 'no tool can be called effect: policies say "effect:…" of all tools')
  }
  unique(toolFiles, 'audience', ({ audience }) => audience)
  unique(agentFiles, 'spiffe_id', ({ spiffe_id }) => spiffe_id)
  // Whether its tokens speak for users or for workloads must never hang on what one of them says of itself.
  unique(issuerFiles, 'issuer', (issuer) =>
    issuer.kind === 'user' || issuer.kind === 'workload_oidc' ? issuer.issuer : undefined,
  )
  unique(issuerFiles, 'signals', (issuer) =>
    issuer.kind === 'user' && issuer.signals ? (issuer.signals.transmitter ?? issuer.issuer) : undefined,
  )
  unique(issuerFiles, 'trust_domain', (issuer) => (issuer.kind === 'workload' ? issuer.trust_domain : undefined))

  const isPlatform = (one: ConfigFile<'issuer'>): one is ConfigFile<'issuer'> & { value: AgentPlatformFile } =>
    one.value.kind === 'agent_platform'
  const platformFiles = issuerFiles.filter(isPlatform)
  checkPlatforms(platformFiles, {
    issuers: issuerFiles.flatMap(({ value }) =>
      value.kind === 'user' || value.kind === 'workload_oidc' ? [value.issuer] : [],
    ),
    domains: issuerFiles.flatMap(({ value }) => (value.kind === 'workload' ? [value.trust_domain] : [])),
    spiffeIds: agentFiles.map(({ value }) => value.spiffe_id),
  })

  const tools: Tool[] = []
  for (const { yaml, value, report } of toolFiles)
    tools.push(await readTool(value, yaml.file, { keyFiles, development, report }))
  const toolsByName = new Map(tools.map((tool) => [tool.name, tool]))
  const declared = new Map(toolFiles.map(({ value }) => [value.name, declaredArguments(value)]))

  const agents: AgentRegistration[] = []
  const quiet: Reporter = () => {}
  for (const { yaml, value, report } of agentFiles) {
    agents.push(
      await readAgent(value, yaml.file, { keyFiles, tools: toolsByName, declared, report: complete ? report : quiet }),
    )
  }
  const releases = await readReleases({
    agents: agentFiles,
    keyFiles,
    names: await folder.namesIn('releases'),
    textOf: folder.textOf,
    label,
    problems,
  })
  for (const [index, agent] of agents.entries()) {
    const release = releases.get(agent.clientId)
    if (release) agents[index] = { ...agent, release }
  }

  const remoteKeys = (loading.remoteKeys ?? createDefaultRemoteKeys(loading))({ development })
  const issuers: TrustedIssuer[] = []
  const trustDomains: TrustDomain[] = []
  const workloadIssuers: WorkloadIssuer[] = []
  const attesters: Attester[] = []
  const platforms: AgentPlatform[] = []
  const claims: Record<string, ClaimType> = {}
  for (const { yaml, value, report } of issuerFiles) {
    if (value.kind === 'workload') {
      trustDomains.push(await readTrustDomain(value, yaml.file, { keyFiles, development, report }))
      continue
    }
    if (value.kind === 'workload_oidc') {
      const context = {
        keyFiles,
        remoteKeys,
        development,
        report,
        issuer: settings?.issuer ?? '',
        now,
        readKeyFile: (file: string) => readFile(join(keysDir, file)),
        postReview: loading.postReview ?? postReview,
      }
      workloadIssuers.push(await readWorkloadOidc(value, context))
      continue
    }
    if (value.kind === 'attester') {
      attesters.push(await readAttester(value, { keyFiles, remoteKeys, development, report }))
      continue
    }
    const context = {
      keyFiles,
      remoteKeys,
      development,
      tools: toolsByName,
      declared,
      report: complete ? report : quiet,
    }
    if (value.kind === 'agent_platform') platforms.push(await readPlatform(value, yaml.file, context))
    else issuers.push(await readUserIssuer(value, context))
    for (const [name, type] of Object.entries(value.claims)) {
      if (claims[name] !== undefined && claims[name] !== type)
        report(['claims', name], 'bad_value', `another issuer says that the claim ${name} is ${claims[name]}`)
      claims[name] = type
    }
  }

  const issByName = new Map(workloadIssuers.map(({ name, issuer }) => [name, issuer]))
  for (const [index, { value, report }] of agentFiles.entries()) {
    const context = { issuers: issByName, attesters, report: complete ? report : quiet }
    agents[index] = { ...agents[index]!, ...readWorkloadEvidence(value, context) }
  }
  const clientIds = agents.map((agent) => agent.clientId)
  if (complete) {
    checkTogether({
      agents: agentFiles.map((file, index) => ({ ...file, agent: agents[index]! })),
      tools: toolFiles,
      platforms: platformFiles,
      trustDomains,
      workloadIssuers,
      attesters,
      ...(errand ? { errand: { administrators, report: errand.report } } : {}),
      maxDeadlineSeconds: settings?.tasks.maxDeadlineSeconds ?? Number.POSITIVE_INFINITY,
    })
  }

  const drilling = settings?.drill?.agent
  if (complete && drilling !== undefined && !agents.some(({ clientId, drill }) => clientId === drilling && drill))
    errand?.report(['drill', 'agent'], 'bad_value', `no agent ${drilling} has drill: true in its file`)

  const vocabulary: Vocabulary = {
    agents: [...clientIds, ...platforms.map(({ name }) => platformPrincipal(name))],
    tools,
    issuers: [...issuers, ...platforms].map(({ name }) => name),
    claims,
  }
  // Policies are judged against names; with a file unread, names would seem unknown that are not.
  const policies = complete ? loadPolicies(policyFiles, vocabulary, cedar) : undefined
  if (policies && !policies.ok) problems.push(...policies.problems)
  if (problems.length > 0 || !settings || !policies?.ok) return { ok: false, problems }

  const shortcuts = [
    ...settings.developmentShortcuts,
    ...issuers
      .filter((issuer) => issuer.development)
      .map((issuer) => `the development issuer "${issuer.name}" vouches for users`),
    ...trustDomains.flatMap(({ name, bundleEndpoint }) =>
      bundleEndpoint && isLoopbackHttp(bundleEndpoint.url) ? [`the bundle of "${name}" is fetched over http`] : [],
    ),
    ...issuerFiles.flatMap(({ value }) =>
      value.kind !== 'workload' && value.jwks_uri !== undefined && isLoopbackHttp(value.jwks_uri)
        ? [`the keys of issuer "${value.name}" are fetched over http`]
        : [],
    ),
    ...tools
      .filter(({ audience }) => isLoopbackHttp(audience))
      .map(({ name }) => `the tool "${name}" is served over http`),
  ]
  const machines: readonly MachineClient[] = [
    ...administrators,
    ...receivers,
    // A form that no agent can have: a tool and an agent may both be called payments.
    ...tools
      .filter(({ keys }) => keys.length > 0)
      .map(({ name, audience, keys }) => ({ clientId: `tool:${name}`, kind: 'tool' as const, keys, audience })),
  ]
  return {
    ok: true,
    vocabulary,
    policyCount: policies.set.policies.size,
    snapshot: {
      settings: { ...settings, developmentShortcuts: shortcuts },
      agents: {
        all: agents,
        byClientId: by(agents, 'clientId'),
        bySpiffeId: by(agents, 'spiffeId'),
        ...evidenceIndex(agents),
      },
      tools: { all: tools, byName: by(tools, 'name'), byAudience: by(tools, 'audience') },
      issuers: { all: issuers, byIss: by(issuers, 'issuer') },
      trustDomains: { all: trustDomains, byName: by(trustDomains, 'name') },
      workloadIssuers: { all: workloadIssuers, byIss: by(workloadIssuers, 'issuer') },
      platforms: { all: platforms, of: platformOf(platforms) },
      attesters: { all: attesters, byName: by(attesters, 'name') },
      machines: { all: machines, byClientId: by(machines, 'clientId') },
      decide: createDecide(policies.set),
      policyReason: (id) => policies.set.policies.get(id)?.annotations.reason,
      policyTexts: [...policies.set.policies].map(([id, { file, line, text }]) => ({ id, file, line, text })),
      policyDigest: policies.set.digest,
      digest: digestOf(folder.texts, keyFiles.texts, overrides),
      loadedAt: now(),
    },
  }
}

function isStated(data: unknown, path: readonly string[]): boolean {
  let at = data
  for (const name of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return false
    at = (at as Readonly<Record<string, unknown>>)[name]
  }
  return true
}

/** Whether no two files say the same; each that repeats another is told. */
function unique<V>(
  files: readonly { readonly yaml: YamlFile; readonly value: V; readonly report: Reporter }[],
  key: string,
  of: (value: V) => string | undefined,
): boolean {
  const first = new Map<string, string>()
  let repeated = false
  for (const { yaml, value, report } of files) {
    const own = of(value)
    if (own === undefined) continue
    const other = first.get(own)
    if (other === undefined) first.set(own, yaml.file)
    else {
      repeated = true
      report([key], 'duplicate', `the ${key} ${own} is already taken by ${other}`)
    }
  }
  return !repeated
}

/** Whose evidence a token is that does not name its agent itself. */
function evidenceIndex(agents: readonly AgentRegistration[]): Pick<AgentLookup, 'byWorkload' | 'byAttestedSubject'> {
  const rules = createWorkloadRules(agents)
  const subjects = new Map(
    agents.flatMap((agent) =>
      (agent.attestedBy ?? []).map(({ subject, attester }) => [subject, { agent, attester }] as const),
    ),
  )
  return {
    byWorkload: (issuer, payload) => rules.match(issuer, payload),
    byAttestedSubject: (subject) => subjects.get(subject),
  }
}

function by<K extends string, T extends { readonly [key in K]: string }>(
  all: readonly T[],
  key: K,
): (value: string) => T | undefined {
  const index = new Map(all.map((one) => [one[key] as string, one]))
  return (value) => index.get(value)
}

function createDefaultRemoteKeys({
  now,
  onKeysRefused,
}: Pick<Loading, 'now' | 'onKeysRefused'>): (mode: { readonly development: boolean }) => RemoteKeys {
  // One for each mode: what development may fetch is not found in production.
  const made = new Map<boolean, RemoteKeys>()
  return ({ development }) => {
    const onRefused = onKeysRefused === undefined ? {} : { onRefused: onKeysRefused }
    const fetch = createFetchJwks({ development })
    const known = made.get(development) ?? createRemoteKeys({ fetch, now, ...onRefused })
    made.set(development, known)
    return known
  }
}

function digestOf(
  config: ReadonlyMap<string, string>,
  keys: ReadonlyMap<string, string>,
  overrides: Overrides,
): string {
  const sorted = (texts: ReadonlyMap<string, string>) => [...texts].sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([sorted(config), sorted(keys), overrides]))
    .digest('hex')
}
