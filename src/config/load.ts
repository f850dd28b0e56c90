/** config/ in, one immutable snapshot out, or every problem that was found, together. */
import { createHash } from 'node:crypto'
import { readdir as readdirFromDisk, readFile as readFileFromDisk } from 'node:fs/promises'
import { join } from 'node:path'
import { type AttestationKind, EVIDENCE_TIERS } from '@errand/verifier/claims.ts'
import { type AgentPlatform, platformPrincipal } from '../attest/platform.ts'
import type { AgentRegistration, MachineClient } from '../attest/registration.ts'
import type { AgentLookup } from '../attest/attestor.ts'
import type { TrustDomain } from '../attest/trust-domain.ts'
import type { Attester, WorkloadIssuer } from '../attest/workload-issuer.ts'
import { ambiguousRules, createWorkloadRules } from '../attest/workload-rules.ts'
import { someAtOnce } from '../keys/some-at-once.ts'
import { type Cedar, createCedar } from '../policy/cedar.ts'
import { createDecide } from '../policy/decide.ts'
import { loadPolicies, type PolicyFile } from '../policy/load.ts'
import type { Problem } from '../policy/problem.ts'
import type { ClaimType, Vocabulary } from '../policy/schema.ts'
import { didYouMean } from '../policy/suggest.ts'
import type { Tool } from '../policy/tool.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { isLoopbackHttp } from './addresses.ts'
import { declaredArguments } from './declared-arguments.ts'
import { createFetchJwks, createRemoteKeys, type RemoteKeys } from './fetch-jwks.ts'
import type { SchemaName } from './json-schemas.ts'
import { createKeyFiles, type ReadFile } from './key-files.ts'
import { readAgent } from './read-agent.ts'
import { readTrustDomain, readUserIssuer } from './read-issuer.ts'
import { checkPlatforms, platformOf, readPlatform } from './read-platform.ts'
import type { AgentPlatformFile } from './issuer-file.ts'
import { type Overrides, readAdministrators, readSettings } from './read-settings.ts'
import { readAttester, readWorkloadEvidence, readWorkloadOidc } from './read-workloads.ts'
import { certificatesOf } from './read-certificates.ts'
import { readReleases } from './read-releases.ts'
import { readTool } from './read-tool.ts'
import { createReadings, labelOf, type Reading, type Readings } from './readings.ts'
import { createReporter, type Reporter } from './reporter.ts'
import type { Snapshot } from './snapshot.ts'
import { strayProblems } from './stray.ts'
import type { HostSettings } from './tenants.ts'
import { type PostReview, postReview } from './token-review.ts'
import { FILE_BOUNDS, type YamlFile } from './yaml.ts'

/** Kinds that a configured trust domain must stand behind. */
const BY_SPIFFE: readonly AttestationKind[] = ['jwt_svid', 'x509_svid', 'wit_svid']

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

type Read<N extends SchemaName> = Extract<Reading<N>, { ok: true }> & { readonly report: Reporter }

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
  const texts = new Map<string, string>()
  // A file that could not be read would make names elsewhere look unknown that are not, and a name that two files take
  // would mean either.
  let complete = true

  async function read<N extends SchemaName>(name: N, path: string): Promise<Reading<N> | undefined> {
    const text = await textOf(path)
    return text === undefined ? undefined : readings.read(name, `${label}/${path}`, text)
  }

  function taken<N extends SchemaName>(reading: Reading<N> | undefined): Read<N> | undefined {
    if (reading?.ok) return { ...reading, report: createReporter(reading.yaml, problems) }
    complete = false
    if (reading) problems.push(...reading.problems)
    return undefined
  }

  async function textOf(path: string): Promise<string | undefined> {
    try {
      const text = await readFile(join(dir, path))
      texts.set(path, text)
      return text
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      problems.push({ file: `${label}/${path}`, code: 'file_missing', message: 'the file does not exist' })
      return undefined
    }
  }

  async function readAll<N extends SchemaName>(name: N, folder: string): Promise<readonly Read<N>[]> {
    const files = await filesOf(folder, '.yaml')
    const found = await someAtOnce(files, (file) => read(name, `${folder}/${file}`))
    return found.map((reading) => taken<N>(reading)).filter((one) => one !== undefined)
  }

  async function namesIn(folder: string): Promise<readonly string[]> {
    try {
      return await readFolder(join(dir, folder))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return []
    }
  }

  async function filesOf(folder: string, extension: '.yaml' | '.cedar'): Promise<readonly string[]> {
    const names = await namesIn(folder)
    // Editors leave hidden files and copies behind.
    const files = names
      .filter((name) => !name.startsWith('.') && !name.endsWith('~') && name !== 'schema.cedarschema')
      .sort()
    for (const name of files) {
      if (name.endsWith(extension)) continue
      problems.push({
        file: `${label}/${folder}/${name}`,
        code: 'bad_value',
        message: `only ${extension} files are read in ${folder}/`,
        ...(name.endsWith('.yml') ? { suggestion: `rename it to ${name.replace(/\.yml$/, '.yaml')}` } : {}),
      })
    }
    const own = files.filter((name) => name.endsWith(extension))
    if (own.length > FILE_BOUNDS.files) {
      problems.push({ file: `${label}/${folder}`, code: 'too_large', message: `more than ${FILE_BOUNDS.files} files` })
      return []
    }
    return own
  }

  problems.push(...(await strayProblems({ dir, keysDir, label, readFolder, tenant: loading.host !== undefined })))
  const keyFiles = createKeyFiles({ keysDir, readFile, allowMissing: loading.allowMissingKeys ?? false })

  const errand = taken<'errand'>(await read('errand', 'errand.yaml'))
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

  const toolFiles = await readAll('tool', 'tools')
  const agentFiles = await readAll('agent', 'agents')
  const issuerFiles = await readAll('issuer', 'issuers')
  const policyTexts = await someAtOnce(await filesOf('policies', '.cedar'), async (file) => {
    const text = await textOf(`policies/${file}`)
    return text === undefined ? undefined : { file: `${label}/policies/${file}`, text }
  })
  const policyFiles: readonly PolicyFile[] = policyTexts.filter((one) => one !== undefined)

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
  unique(issuerFiles, 'trust_domain', (issuer) => (issuer.kind === 'workload' ? issuer.trust_domain : undefined))

  const isPlatform = (one: Read<'issuer'>): one is Read<'issuer'> & { value: AgentPlatformFile } =>
    one.value.kind === 'agent_platform'
  checkPlatforms(issuerFiles.filter(isPlatform), {
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
    names: await namesIn('releases'),
    textOf,
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
  if (complete) {
    const reportOf = (agent: AgentRegistration) => agentFiles[agents.indexOf(agent)]!.report
    for (const { agent, rule, other } of ambiguousRules(agents)) {
      const message = `one token could be evidence of this agent and of ${other.clientId}`
      reportOf(agent)(['workload', rule], 'duplicate', message, 'name a claim in both whose values differ')
    }
    const certified = new Map<string, AgentRegistration>()
    for (const agent of agents) {
      const other = certificatesOf(agent).flatMap((each) => certified.get(each) ?? [])[0]
      for (const each of certificatesOf(agent)) certified.set(each, agent)
      if (other === undefined) continue
      const message = `one certificate could be evidence of this agent and of ${other.clientId}`
      reportOf(agent)([`tls_client_auth_${agent.tlsClientAuth!.name.form}`], 'duplicate', message)
    }
    const subjects = new Map<string, AgentRegistration>()
    const called = new Map(agents.flatMap((agent) => [agent.clientId, agent.spiffeId].map((name) => [name, agent])))
    for (const agent of agents) {
      for (const [index, { subject }] of (agent.attestedBy ?? []).entries()) {
        // Nor may it be what another agent is called: client_id would name the one, and the attestation the other.
        const named = called.get(subject)
        const other = subjects.get(subject) ?? (named === agent ? undefined : named)
        subjects.set(subject, other ?? agent)
        // An attestation names no issuer: its subject alone says whose it is, and which attester must have signed it.
        if (other === undefined) continue
        const message = `the subject ${subject} is already taken by ${other.clientId}`
        reportOf(agent)(['attested_by', index], 'duplicate', message)
      }
    }
  }

  const clientIds = agents.map((agent) => agent.clientId)
  if (complete) {
    for (const { value, report } of agentFiles) {
      for (const [index, other] of value.delegates_to.entries()) {
        if (!clientIds.includes(other))
          report(
            ['delegates_to', index],
            'unknown_reference',
            `there is no agent "${other}"`,
            didYouMean(other, clientIds).suggestion,
          )
      }
      const domain = value.spiffe_id.slice('spiffe://'.length).split('/', 1)[0]!
      for (const [index, kind] of value.evidence.entries()) {
        const domains = trustDomains.map(({ name }) => name)
        if (!BY_SPIFFE.includes(kind) || domains.includes(domain)) continue
        report(
          ['evidence', index],
          'unknown_reference',
          `${kind} needs the trust domain "${domain}", which no issuer of kind workload configures`,
          didYouMean(domain, domains).suggestion,
        )
      }
      const raised = attesters.some(({ name, tier }) => {
        return tier === 'platform' && value.attested_by.some((by) => by.attester === name)
      })
      if (
        value.minimum_tier === 'platform' &&
        !raised &&
        value.evidence.every((kind) => EVIDENCE_TIERS[kind] === 'key')
      ) {
        report(['minimum_tier'], 'bad_value', 'none of its kinds of evidence reaches the tier platform')
      }
      const measurable = [
        ...trustDomains.filter(({ name }) => name === domain && usesAny(value.evidence, ['jwt_svid', 'wit_svid'])),
        ...workloadIssuers.filter(({ name }) => value.workload.some(({ issuer }) => issuer === name)),
        ...attesters.filter(
          ({ name, tier }) => tier === 'platform' && value.attested_by.some(({ attester }) => attester === name),
        ),
      ].some(({ imageDigestClaim }) => imageDigestClaim !== undefined)
      if (value.minimum_tier === 'measured' && (value.release === undefined || !measurable)) {
        report(
          ['minimum_tier'],
          'bad_value',
          value.release === undefined
            ? 'measured needs registered releases: add release with the key of a signer'
            : 'none of its kinds of evidence says which image runs: set image_digest_claim at its issuer',
        )
      }
    }
    for (const { value, report } of toolFiles) {
      if (value.agent !== undefined && !clientIds.includes(value.agent))
        report(
          ['agent'],
          'unknown_reference',
          `there is no agent "${value.agent}"`,
          didYouMean(value.agent, clientIds).suggestion,
        )
      for (const client of value.takes?.kind === 'id_jag' ? Object.keys(value.takes.clients) : []) {
        if (clientIds.includes(client)) continue
        const { suggestion } = didYouMean(client, clientIds)
        report(['takes', 'clients', client], 'unknown_reference', `there is no agent "${client}"`, suggestion)
      }
    }
    const longest = settings?.tasks.maxDeadlineSeconds ?? Number.POSITIVE_INFINITY
    for (const { value, report } of [...agentFiles, ...issuerFiles.filter(isPlatform)]) {
      if ((value.default_task?.deadline_seconds ?? 0) > longest)
        report(['default_task', 'deadline_seconds'], 'bad_limit', `above tasks.max_deadline_seconds, ${longest}`)
    }
    for (const [index, { clientId }] of administrators.entries()) {
      if (clientIds.includes(clientId))
        errand!.report(
          ['administrators', index, 'client_id'],
          'duplicate',
          `the client_id ${clientId} is already taken by an agent`,
        )
    }
  }

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
      policyDigest: policies.set.digest,
      digest: digestOf(texts, keyFiles.texts, overrides),
      loadedAt: now(),
    },
  }
}

const usesAny = (own: readonly AttestationKind[], kinds: readonly AttestationKind[]): boolean =>
  kinds.some((kind) => own.includes(kind))

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
