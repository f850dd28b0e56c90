/** What is right in each file of config/ and wrong beside the others: told where it stands, once all could be read. */
import { type AttestationKind, EVIDENCE_TIERS } from '@errand/verifier/claims.ts'
import type { AgentRegistration, MachineClient } from '../attest/registration.ts'
import type { TrustDomain } from '../attest/trust-domain.ts'
import type { Attester, WorkloadIssuer } from '../attest/workload-issuer.ts'
import { ambiguousRules } from '../attest/workload-rules.ts'
import { didYouMean } from '../policy/suggest.ts'
import { certificatesOf } from './read-certificates.ts'
import type { ConfigFile } from './config-folder.ts'
import type { Reporter } from './reporter.ts'
import type { AgentPlatformFile } from './issuer-file.ts'

type AgentOnFile = ConfigFile<'agent'> & { readonly agent: AgentRegistration }

interface Together {
  readonly agents: readonly AgentOnFile[]
  readonly tools: readonly ConfigFile<'tool'>[]
  readonly platforms: readonly (ConfigFile<'issuer'> & { readonly value: AgentPlatformFile })[]
  readonly trustDomains: readonly TrustDomain[]
  readonly workloadIssuers: readonly WorkloadIssuer[]
  readonly attesters: readonly Attester[]
  readonly errand?: { readonly administrators: readonly MachineClient[]; readonly report: Reporter }
  readonly maxDeadlineSeconds: number
}

export function checkTogether(all: Together): void {
  checkEvidence(all)
  checkNames(all)
  checkTiers(all)
  for (const { value, report } of [...all.agents, ...all.platforms]) {
    if ((value.default_task?.deadline_seconds ?? 0) > all.maxDeadlineSeconds) {
      const message = `above tasks.max_deadline_seconds, ${all.maxDeadlineSeconds}`
      report(['default_task', 'deadline_seconds'], 'bad_limit', message)
    }
  }
}

/** Nothing may be evidence of two agents: it would be whoever was looked at first, or whoever the request names. */
function checkEvidence({ agents: files }: Together): void {
  const agents = files.map(({ agent }) => agent)
  const reportOf = (agent: AgentRegistration) => files[agents.indexOf(agent)]!.report
  for (const { agent, rule, other } of ambiguousRules(agents)) {
    const message = `one token could be evidence of this agent and of ${other.clientId}`
    reportOf(agent)(['workload', rule], 'duplicate', message, 'name a claim in both whose values differ')
  }
  const certified = new Map<string, AgentRegistration>()
  for (const { agent, report } of files) {
    const certificates = certificatesOf(agent)
    const other = certificates.flatMap((each) => certified.get(each) ?? [])[0]
    for (const each of certificates) certified.set(each, agent)
    if (other === undefined) continue
    const message = `one certificate could be evidence of this agent and of ${other.clientId}`
    report([`tls_client_auth_${agent.tlsClientAuth!.name.form}`], 'duplicate', message)
  }
  const subjects = new Map<string, AgentRegistration>()
  const called = new Map(agents.flatMap((agent) => [agent.clientId, agent.spiffeId].map((name) => [name, agent])))
  for (const { agent, report } of files) {
    for (const [index, { subject }] of (agent.attestedBy ?? []).entries()) {
      // Nor may it be what another agent is called: client_id would name the one, and the attestation the other.
      const named = called.get(subject)
      const other = subjects.get(subject) ?? (named === agent ? undefined : named)
      subjects.set(subject, other ?? agent)
      // An attestation names no issuer: its subject alone says whose it is, and which attester must have signed it.
      if (other === undefined) continue
      report(['attested_by', index], 'duplicate', `the subject ${subject} is already taken by ${other.clientId}`)
    }
  }
}

/** Kinds that a configured trust domain must stand behind. */
const BY_SPIFFE: readonly AttestationKind[] = ['jwt_svid', 'x509_svid', 'wit_svid']

/** Whoever and whatever is named must be there, and no administrator may be called as an agent is. */
function checkNames({ agents, tools, trustDomains, errand }: Together): void {
  const clientIds = agents.map(({ agent }) => agent.clientId)
  const known = new Set(clientIds)
  const mustBeKnown = (clientId: string, path: readonly (string | number)[], report: Reporter): void => {
    if (known.has(clientId)) return
    const { suggestion } = didYouMean(clientId, clientIds)
    report(path, 'unknown_reference', `there is no agent "${clientId}"`, suggestion)
  }
  const domains = trustDomains.map(({ name }) => name)
  for (const { value, report } of agents) {
    for (const [index, other] of value.delegates_to.entries()) mustBeKnown(other, ['delegates_to', index], report)
    const domain = domainOf(value.spiffe_id)
    for (const [index, kind] of value.evidence.entries()) {
      if (!BY_SPIFFE.includes(kind) || domains.includes(domain)) continue
      report(
        ['evidence', index],
        'unknown_reference',
        `${kind} needs the trust domain "${domain}", which no issuer of kind workload configures`,
        didYouMean(domain, domains).suggestion,
      )
    }
  }
  for (const { value, report } of tools) {
    if (value.agent !== undefined) mustBeKnown(value.agent, ['agent'], report)
    for (const client of value.takes?.kind === 'id_jag' ? Object.keys(value.takes.clients) : [])
      mustBeKnown(client, ['takes', 'clients', client], report)
  }
  for (const [index, { clientId }] of (errand?.administrators ?? []).entries()) {
    if (!known.has(clientId)) continue
    const message = `the client_id ${clientId} is already taken by an agent`
    errand!.report(['administrators', index, 'client_id'], 'duplicate', message)
  }
}

/** A tier that none of an agent's evidence can reach would shut it out. */
function checkTiers({ agents, trustDomains, workloadIssuers, attesters }: Together): void {
  for (const { value, report } of agents) {
    const raising = attesters.filter(
      ({ name, tier }) => tier === 'platform' && value.attested_by.some(({ attester }) => attester === name),
    )
    if (
      value.minimum_tier === 'platform' &&
      raising.length === 0 &&
      value.evidence.every((kind) => EVIDENCE_TIERS[kind] === 'key')
    ) {
      report(['minimum_tier'], 'bad_value', 'none of its kinds of evidence reaches the tier platform')
    }
    if (value.minimum_tier !== 'measured') continue
    const domain = domainOf(value.spiffe_id)
    const bySvid = value.evidence.some((kind) => kind === 'jwt_svid' || kind === 'wit_svid')
    const measurable = [
      ...trustDomains.filter(({ name }) => bySvid && name === domain),
      ...workloadIssuers.filter(({ name }) => value.workload.some(({ issuer }) => issuer === name)),
      ...raising,
    ].some(({ imageDigestClaim }) => imageDigestClaim !== undefined)
    if (value.release !== undefined && measurable) continue
    report(
      ['minimum_tier'],
      'bad_value',
      value.release === undefined
        ? 'measured needs registered releases: add release with the key of a signer'
        : 'none of its kinds of evidence says which image runs: set image_digest_claim at its issuer',
    )
  }
}

const domainOf = (spiffeId: string): string => spiffeId.slice('spiffe://'.length).split('/', 1)[0]!
