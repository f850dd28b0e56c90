/** Who is calling an endpoint of our own: an agent, a tool or an administrator, each by what it can prove. */
import { checkPossession, pinProofKey, spendEvidence } from '../attest/attest.ts'
import type { MachineClient } from '../attest/registration.ts'
import { ok, type Result, refuse, type Slot, Unavailable } from '../oauth/refusal.ts'
import { isReceiver } from '../revoke/signals/transmit.ts'
import { giveBack } from './admission.ts'
import { claimedName } from './claimed-name.ts'
import { isKeptFree } from './gate.ts'
import type { Call, Caller } from './route.ts'

export interface Presented {
  readonly assertion?: { readonly type?: string; readonly token: string }
  readonly clientId?: string
}

export const nameOf = (caller: Caller): string =>
  caller.kind === 'agent' ? caller.proven.attested.agent.clientId : caller.client.clientId

/** Of a route that administrators alone may use. */
export const adminOf = ({ caller }: Pick<Call, 'caller'>): string =>
  caller?.kind === 'admin' ? caller.client.clientId : 'unknown'

/** `Authorization: ClientAssertion <jwt>`, exactly one, evidence in a header of its own, or a client certificate with `Client-Id`. */
export function presentedInHeaders({ c, wire }: Call): Result<Presented> {
  const authorization = c.req.header('authorization')
  if (authorization === undefined) {
    if (!wire.certificate && !wire.held) return refuse('client_auth_required', 'api')
    const clientId = c.req.header('client-id')
    return ok(clientId === undefined ? {} : { clientId })
  }
  // Two headers arrive joined by a comma; none of our credentials holds one.
  const match = /^ClientAssertion ([A-Za-z0-9_.-]+)$/i.exec(authorization)
  if (!match || c.req.query('access_token') !== undefined) return refuse('bad_auth_scheme', 'api')
  return ok({ assertion: { token: match[1]! } })
}

/** The same out of a form (RFC 7521 §4.2). */
export function presentedInForm(form: ReadonlyMap<string, readonly string[]>, { wire }: Call): Result<Presented> {
  const token = form.get('client_assertion')?.[0]
  const type = form.get('client_assertion_type')?.[0]
  const clientId = form.get('client_id')?.[0]
  if ((token === undefined) !== (type === undefined)) return refuse('client_auth_required', 'client')
  if (token === undefined && !wire.certificate && !wire.held) return refuse('client_auth_required', 'client')
  return ok({
    ...(token === undefined ? {} : { assertion: { type: type!, token } }),
    ...(clientId === undefined ? {} : { clientId }),
  })
}

/**
 * Verifies what was presented, spends it, and says who it is. `slot` decides the answer of a refusal: `client` at the
 * form endpoints, `api` elsewhere.
 */
export async function callerOf(
  call: Call,
  presented: Presented,
  allowed: readonly Caller['kind'][],
  slot: Extract<Slot, 'client' | 'api'>,
): Promise<Result<Caller>> {
  const { deps, wire } = call
  const claimed = claimedName(deps, {
    ...(presented.clientId === undefined ? {} : { clientId: presented.clientId }),
    ...(presented.assertion ? { assertion: presented.assertion.token } : {}),
    ...(wire.held ? { held: wire.held.token } : {}),
  })
  if (presented.assertion && deps.snapshot().machines.byClientId(claimed)) {
    const proven = await deps.authenticateMachine({ slot, ...presented })
    if (!proven.ok) return proven
    const { machine, oneUse, keyThumbprint } = proven.value
    const proof = wire.dpop === undefined ? undefined : checkProof(call, machine.clientId)
    if (proof && !proof.ok) return proof
    // Whoever steals an administrator's assertion in flight cannot turn it on another endpoint.
    if (machine.kind === 'admin') {
      if (!proof) return refuse('proof_required', 'api')
      if (proof.value.jkt !== keyThumbprint) return refuse('key_switch', 'api')
    }
    // Whoever may end things is let in also where the disk is full.
    const urgent = machine.kind === 'admin' && isKeptFree(call.c.req.path)
    const spent = await spendEvidence({ oneUse }, deps.replayGuard, slot, urgent)
    if (!spent.ok) return spent
    if (proof) {
      const fresh = await deps.dpop.spend(proof.value, urgent)
      if (!fresh.ok) return fresh
    }
    if (!allowed.includes(machine.kind)) return refuse('not_permitted', 'api', { proven: true })
    return ok(callerFrom(machine))
  }

  const attested = await deps.attest({
    slot,
    ...(presented.assertion ? { assertion: presented.assertion } : {}),
    ...(presented.clientId === undefined ? {} : { clientId: presented.clientId }),
    ...(wire.held ? { held: wire.held } : {}),
    ...(wire.certificate ? { certificate: wire.certificate } : {}),
  })
  if (!attested.ok) return attested
  const { agent, certificateThumbprint, challengeAsNonce } = attested.value
  const proof = wire.dpop === undefined ? undefined : checkProof(call, agent.clientId, challengeAsNonce)
  if (proof && !proof.ok) return proof
  const possessed = checkPossession(attested.value, proof?.value.jkt, slot === 'api' ? 'api' : 'dpop')
  if (!possessed.ok) return possessed
  const spent = await spendEvidence(attested.value, deps.replayGuard, slot)
  if (!spent.ok) return spent
  if (proof) {
    const fresh = await deps.dpop.spend(proof.value)
    if (!fresh.ok) return fresh
  }
  const key = proof?.value.jkt ?? certificateThumbprint
  if (key !== undefined) {
    const pinned = await pinProofKey(attested.value, key, deps.keyPins, slot)
    if (!pinned.ok) return pinned
  }
  if (!allowed.includes('agent')) return refuse('not_permitted', 'api', { proven: true })
  return ok({
    kind: 'agent',
    proven: {
      attested: attested.value,
      ...(proof
        ? { confirmation: { jkt: proof.value.jkt } }
        : certificateThumbprint === undefined
          ? {}
          : { confirmation: { 'x5t#S256': certificateThumbprint } }),
    },
  })
}

function callerFrom(machine: MachineClient): Caller {
  if (isReceiver(machine)) return { kind: 'receiver', client: machine }
  // Whatever else there may be one day is no administrator by that.
  if (machine.kind !== 'tool' && machine.kind !== 'admin') throw new Error(`no caller is of the kind ${machine.kind}`)
  return { kind: machine.kind, client: machine }
}

/**
 * Where no credentials are needed, those of a tool or an administrator buy a place, and whoever cannot prove them is a stranger as if it
 * had sent none: the feed does not end for a verifier whose key was changed, or with a store that takes no writes.
 */
export async function recognised(call: Call, placed: boolean): Promise<Result<Call>> {
  const { c, deps, wire } = call
  const alone = c.get('onCredentials') === true
  if (!alone && !(placed && c.req.header('authorization') !== undefined)) return ok(call)
  const caller = await provenOrUnknown(call)
  if (caller?.ok) {
    giveBack(c)
    return ok({ ...call, caller: caller.value })
  }
  if (alone) return caller ?? refuse('overloaded', 'request')
  if (caller) deps.audit.countStranger(wire.source, caller.refusal.reason)
  return ok(call)
}

async function provenOrUnknown(call: Call): Promise<Result<Caller> | undefined> {
  const presented = presentedInHeaders(call)
  if (!presented.ok) return presented
  try {
    return await callerOf(call, presented.value, ['tool', 'admin'], 'api')
  } catch (error) {
    if (error instanceof Unavailable) return undefined
    throw error
  }
}

/** RFC 9449 §7.1: at a protected resource a bad proof is a 401. */
const checkProof = ({ deps, wire }: Call, clientHint: string, challengeAsNonce = false) =>
  deps.dpop.check({ header: wire.dpop!, method: wire.method, url: wire.url, clientHint, challengeAsNonce, slot: 'api' })
