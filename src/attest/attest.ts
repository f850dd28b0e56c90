/**
 * Evidence in, attestation result out (RFC 9334). The kind is told from the assertion type and the content, its
 * attestor says who that is, and the registration says whether it may attest so. Nothing is spent here: what may be
 * used once is spent by the caller with `spendEvidence`, after everything that needs no store was checked.
 */
import type { AttestationKind, Tier } from '@errand/verifier/claims.ts'
import { type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import { ok, type Reason, type Result, refuse } from '../oauth/refusal.ts'
import { ASSERTION_TYPE } from '../oauth/words.ts'
import type { AttestationResult } from './attestation-result.ts'
import type { AgentLookup, Attestor, Evidence, EvidenceSlot, Proven } from './attestor.ts'
import { createClientAssertions } from './client-assertion.ts'
import { createClientAttestation } from './client-attestation.ts'
import type { HeldToken, ProofDeps } from './held-token.ts'
import { createHolderCertificate } from './holder-certificate.ts'
import { createJoinedKey } from './joined-key.ts'
import type { Joining } from './joining.ts'
import { createJwtSvid } from './jwt-svid.ts'
import type { KeyPins, PrincipalBindings } from './key-pins.ts'
import { createParsedTokens } from './parsed.ts'
import { createPrivateKeyJwt } from './private-key-jwt.ts'
import type { MachineClient } from './registration.ts'
import { type Measured, measure } from './release.ts'
import type { ReplayGuard } from './replay-guard.ts'
import type { TrustDomain } from './trust-domain.ts'
import { createSelfSignedTlsClientAuth, createTlsClientAuth } from './tls-client-auth.ts'
import { createWitSvid } from './wit-svid.ts'
import type { Attester, WorkloadIssuer } from './workload-issuer.ts'
import { createWorkloadOidc } from './workload-oidc.ts'
import { createX509Svid } from './x509-svid.ts'

export interface Presentation {
  readonly slot: EvidenceSlot
  /** `type` is `client_assertion_type`; at endpoints without that parameter the content tells the kind. */
  readonly assertion?: { readonly type?: string; readonly token: string }
  /** Evidence in a header field of its own. */
  readonly held?: HeldToken
  /** What the request calls its client, by parameter or header. */
  readonly clientId?: string
  /** The client's certificates from mTLS: DER, leaf first. Beside another kind of evidence, proof of a key. */
  readonly certificate?: readonly Uint8Array[]
  /** Id of the release that the request says its agent is. */
  readonly release?: string
}

export type Attest = (presentation: Presentation) => Promise<Result<AttestationResult>>

export interface AttestDeps extends ProofDeps {
  /** Reads the configuration in force at the time of the call. */
  readonly agents: AgentLookup
  readonly trustDomains: (name: string) => TrustDomain | undefined
  /** By `iss`. */
  readonly workloadIssuers: (iss: string) => WorkloadIssuer | undefined
  /** By our name for it. */
  readonly attesters: (name: string) => Attester | undefined
  readonly principalBindings: PrincipalBindings
  readonly joining: Pick<Joining, 'key'>
}

export function createAttest(deps: AttestDeps): Attest {
  const { agents, trustDomains, now } = deps
  const assertions = createClientAssertions(deps)
  const privateKeyJwt = createPrivateKeyJwt({ assertions, agents })
  const joinedKey = createJoinedKey({ assertions, agents, joining: deps.joining })
  /** Standing evidence comes again and again. */
  const parsed = createParsedTokens()
  const jwtSvid = createJwtSvid(deps)
  const x509Svid = createX509Svid({ now, agents, trustDomains })
  const workloadOidc = createWorkloadOidc(deps)
  const holderCertificate = createHolderCertificate(deps)
  const witSvid = createWitSvid(deps)
  const clientAttestation = createClientAttestation(deps)
  const tlsClientAuth = createTlsClientAuth({ now, agents })
  const selfSignedTlsClientAuth = createSelfSignedTlsClientAuth({ now, agents })

  /** Which rules a certificate is judged by is the registration's to say, never the certificate's own. */
  const byCertificate = (clientId: string | undefined): Attestor => {
    const kinds = clientId === undefined ? undefined : agents.byClientId(clientId)?.evidence
    if (kinds?.includes('tls_client_auth')) return tlsClientAuth
    return kinds?.includes('self_signed_tls_client_auth') ? selfSignedTlsClientAuth : x509Svid
  }

  /** A key that the registration does not name may be one that the agent registered itself. */
  const byAssertion = ({ header, payload: { sub } }: ParsedJws): Attestor => {
    const agent = typeof sub === 'string' ? agents.byClientId(sub) : undefined
    if (!agent?.evidence.includes('join_token')) return privateKeyJwt
    // Without a name it is the only registered key, as ever: one that joined is called by its thumbprint.
    const { kid } = header
    return kid === undefined || agent.keys.some((key) => key.kid === kid) ? privateKeyJwt : joinedKey
  }

  const choose = ({
    slot,
    assertion,
    held,
    certificate,
    clientId,
  }: Presentation): Result<{ by: Attestor; evidence: Evidence }> => {
    if (held !== undefined) {
      // RFC 6749 §2.3: one way for one request.
      if (assertion !== undefined)
        return refuse('context_mismatch', slot, { detail: 'one client authentication at once' })
      return chooseHeld(held, held.field === 'attestation' && slot === 'client' ? 'client_attestation' : slot)
    }
    if (assertion === undefined) {
      if (certificate === undefined) return refuse('client_auth_required', slot)
      // RFC 8705 §2: a certificate alone does not say which client is meant.
      if (clientId === undefined) {
        return refuse('param_missing', slot, { detail: 'client_id is required with a client certificate' })
      }
      return ok({ by: byCertificate(clientId), evidence: { slot, chain: certificate, clientId } })
    }
    const jws = parsed.read(assertion.token)
    if (!jws.ok) return refuse(jws.fault, slot)
    const svid = namesSpiffe(jws.value)
    const { iss } = jws.value.payload
    // What kind an issuer is, the configuration says: nobody else signs for workloads, whatever a token looks like.
    const workload = typeof iss === 'string' && deps.workloadIssuers(iss) !== undefined
    const by = svid ? jwtSvid : workload ? workloadOidc : byAssertion(jws.value)
    if (assertion.type !== undefined) {
      const expected = svid ? ASSERTION_TYPE.jwtSpiffe : ASSERTION_TYPE.jwtBearer
      if (assertion.type !== expected) {
        return refuse('wrong_typ', slot, { detail: `this assertion is of the type ${expected}` })
      }
    }
    return ok({ by, evidence: { slot, jws: jws.value } })
  }

  const chooseHeld = (held: HeldToken, slot: EvidenceSlot): Result<{ by: Attestor; evidence: Evidence }> => {
    if (held.token.includes(',') || held.proof?.includes(',')) return refuse('header_duplicate', slot)
    const jws = parseJws(held.token)
    if (!jws.ok) return refuse(jws.fault, slot)
    // draft-ietf-oauth-spiffe-client-auth presents a WIT-SVID as an attestation; WIMSE's own header takes nothing else.
    const { typ } = jws.value.header
    const wit = held.field === 'workload' || (typeof typ === 'string' && /^(?:application\/)?wit\+jwt$/i.test(typ))
    return ok({ by: wit ? witSvid : clientAttestation, evidence: { slot, jws: jws.value, held } })
  }

  return async (presentation) => {
    const chosen = choose(presentation)
    if (!chosen.ok) return chosen
    const { by, evidence } = chosen.value
    const { slot } = evidence
    const verified = await by.verify(evidence)
    if (!verified.ok) return verified
    if (evidence.jws && !evidence.held && verified.value.oneUse === undefined) parsed.keep(evidence.jws)
    const proven = verified.value
    const { tier = by.tier, alsoCalled, measurements, statedRelease } = proven
    const standing = proven.standingId !== undefined && proven.oneUse === undefined
    const certificateThumbprint = standing ? holderCertificate(presentation.certificate) : undefined
    const measured = measure({
      rule: proven.agent.release,
      ages: proven.agent.evidenceAges,
      tier,
      stated: [statedRelease, presentation.release],
      measurements,
      issuedAt: proven.issuedAt,
      now: deps.now(),
    })
    const result = resultOf(proven, by.kind, measured.ok ? measured.tier : tier)
    if (certificateThumbprint !== undefined) result.certificateThumbprint = certificateThumbprint
    if (measured.ok && measured.release !== undefined) result.release = measured.release
    const fault = await objection(deps, presentation, result, alsoCalled, measured)
    if (fault !== undefined) {
      const { reason, detail, stranger } = fault
      return refuse(reason, slot, { proven: !stranger, ...(detail === undefined ? {} : { detail }) })
    }
    return ok(result)
  }
}

/** Member by member: a copy that grows afterwards costs microseconds each time on Node 20. */
function resultOf(proven: Proven, kind: AttestationKind, tier: Tier): Mutable<AttestationResult> {
  const { agent, expiresAt, issuedAt, oneUse, keyThumbprint, principals, challengeAsNonce, standingId } = proven
  const result: Mutable<AttestationResult> = { agent, kind, tier, spiffeId: agent.spiffeId, expiresAt }
  if (issuedAt !== undefined) result.issuedAt = issuedAt
  if (oneUse !== undefined) result.oneUse = oneUse
  if (keyThumbprint !== undefined) result.keyThumbprint = keyThumbprint
  if (proven.certificateThumbprint !== undefined) result.certificateThumbprint = proven.certificateThumbprint
  if (principals !== undefined) result.principals = principals
  if (challengeAsNonce !== undefined) result.challengeAsNonce = challengeAsNonce
  if (standingId !== undefined) result.standingId = standingId
  return result
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Content alone: a JWT-SVID has a SPIFFE id as its subject, and no `client_id` looks like one. */
const namesSpiffe = ({ payload }: ParsedJws): boolean => {
  const sub = payload['sub']
  return typeof sub === 'string' && /^(?:spiffe|wimse):/i.test(sub)
}

/** The registration holds the key itself: it belongs to one agent, whatever ids pass on. */
const BY_OWN_KEY: readonly AttestationKind[] = ['private_key_jwt', 'join_token', 'self_signed_tls_client_auth']
const TIERS: readonly Tier[] = ['key', 'platform', 'measured']

interface Objection {
  readonly reason: Reason
  readonly detail?: string
  /** Told no more than somebody whom we do not know. */
  readonly stranger?: true
}

/** What the registration has against evidence that is good in itself. */
async function objection(
  deps: AttestDeps,
  { clientId }: Presentation,
  { agent, issuedAt, kind, tier, principals = [agent.spiffeId] }: AttestationResult,
  alsoCalled: string | undefined,
  measured: Measured,
): Promise<Objection | undefined> {
  if (agent.disabled) return { reason: 'agent_disabled', stranger: true }
  if (!agent.evidence.includes(kind)) {
    return { reason: 'evidence_not_registered', detail: `${agent.clientId} is not registered to attest by ${kind}` }
  }
  if (!measured.ok) return measured
  const isBelow = (reached: Tier) =>
    agent.minimumTier !== undefined && TIERS.indexOf(reached) < TIERS.indexOf(agent.minimumTier)
  if (isBelow(tier)) {
    const detail = `${agent.clientId} must attest with tier ${agent.minimumTier}`
    return isBelow(measured.fresh)
      ? { reason: 'evidence_not_registered', detail }
      : { reason: 'attestation_expired', detail: `${detail}; ${measured.aged}` }
  }
  if (clientId !== undefined && clientId !== agent.clientId && clientId !== alsoCalled) {
    return { reason: 'context_mismatch', detail: 'client_id and the evidence name two agents' }
  }
  // A SPIFFE id may pass to another agent while evidence of the old one still lives. What is registered cannot.
  let since = agent.instanceSince ?? 0
  for (const principal of principals) {
    // Asked also where its own key proves the agent: whose the name is must be known before somebody else has it.
    const moved = await deps.principalBindings.since(principal, agent.clientId, deps.now())
    if (!BY_OWN_KEY.includes(kind)) since = Math.max(since, moved)
  }
  if (since > 0 && (issuedAt === undefined || issuedAt < since)) return { reason: 'instance_epoch' }
  return undefined
}

/**
 * Spends one-use evidence; standing evidence passes. Throws `Unavailable('replay_guard_unavailable')` where it cannot
 * be known whether this use is the first.
 */
export async function spendEvidence(
  { oneUse }: Pick<AttestationResult, 'oneUse'>,
  replayGuard: ReplayGuard,
  slot: EvidenceSlot = 'client',
  urgent = false,
): Promise<Result<true>> {
  if (oneUse === undefined) return ok(true)
  if (await replayGuard.spend(oneUse.id, oneUse.expiresAt, urgent, oneUse.issuedAt)) return ok(true)
  return refuse('evidence_replayed', slot)
}

/** Standing evidence is worth nothing without a fresh proof of a key; evidence with a key in it takes a proof of that one. */
export function checkPossession(
  { oneUse, certificateThumbprint, keyThumbprint }: AttestationResult,
  jkt: string | undefined,
  slot: 'dpop' | 'api',
): Result<true> {
  if (jkt === undefined)
    return oneUse || certificateThumbprint !== undefined ? ok(true) : refuse('proof_required', slot)
  // The certificate has proven its own key, in the handshake.
  if (certificateThumbprint !== undefined || keyThumbprint === undefined || keyThumbprint === jkt) return ok(true)
  return refuse('key_switch', slot)
}

/** Standing evidence without a key belongs to the first proof key seen with it; evidence with a key, to that key. */
export async function pinProofKey(
  { standingId, expiresAt }: Pick<AttestationResult, 'standingId' | 'expiresAt'>,
  jkt: string,
  keyPins: KeyPins,
  slot: EvidenceSlot = 'client',
): Promise<Result<true>> {
  if (standingId === undefined || (await keyPins.pin(standingId, jkt, expiresAt)) === jkt) return ok(true)
  return refuse('key_switch', slot)
}

/** C5: whether one token serves as both, under whatever encoding of its signature. */
export const isSelfActor = (subjectToken: string, actorToken: string): boolean =>
  subjectToken.slice(0, subjectToken.lastIndexOf('.')) === actorToken.slice(0, actorToken.lastIndexOf('.'))

export interface MachineProof {
  readonly machine: MachineClient
  readonly expiresAt: number
  readonly oneUse: { readonly id: string; readonly expiresAt: number; readonly issuedAt?: number }
  /** The key that signed: an administrator's DPoP proof must be made with the same. */
  readonly keyThumbprint: string
}

export type AuthenticateMachine = (presentation: Presentation) => Promise<Result<MachineProof>>

/** Tools and administrators: by `private_key_jwt`, with the same rules as an agent's. */
export function createAuthenticateMachine(deps: {
  readonly now: () => number
  readonly issuer: string
  readonly machines: (clientId: string) => MachineClient | undefined
}): AuthenticateMachine {
  const assertions = createClientAssertions(deps)
  return async ({ slot, assertion, clientId }) => {
    if (assertion === undefined) return refuse('client_auth_required', slot)
    if (assertion.type !== undefined && assertion.type !== ASSERTION_TYPE.jwtBearer) {
      return refuse('wrong_typ', slot, { detail: `this client authenticates with ${ASSERTION_TYPE.jwtBearer}` })
    }
    const jws = parseJws(assertion.token)
    if (!jws.ok) return refuse(jws.fault, slot)
    const verified = assertions.verify(jws.value, slot, deps.machines)
    if (!verified.ok) return verified
    const { client: machine, expiresAt, oneUse, keyThumbprint } = verified.value
    if (clientId !== undefined && clientId !== machine.clientId) {
      return refuse('context_mismatch', slot, { proven: true, detail: 'client_id and the assertion name two clients' })
    }
    return ok({ machine, expiresAt, oneUse, keyThumbprint })
  }
}
