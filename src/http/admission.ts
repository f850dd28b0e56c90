/**
 * Whom the door lets in before anything is known of the caller, and at whose expense. Every request takes from a share
 * of its address before any work is done for it; whoever then proves who it is gets that back, and is rationed by who
 * it is. A flood of strangers empties their share, and no other: who carries credentials is heard all the same, out of
 * a share for its kind, so that the kill switch and the verifiers work beside a flood from their own address.
 */
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { formOf } from './body.ts'
import { claimedName } from './claimed-name.ts'
import type { HttpDeps } from './deps.ts'
import type { Caller, Knock } from './route.ts'

type Context = Knock
type Share = 'strangers' | 'discovery' | 'feed' | 'ready' | Caller['kind']

/** Times `strangers_per_second_per_source`. A name is only claimed here: what fails is paid for, whomever it names. */
const TIMES: Readonly<Record<Share, number>> = {
  strangers: 1,
  // Answered from memory. Verifiers live by them: no flood of anything else makes them stale.
  discovery: 1,
  feed: 2,
  ready: 1,
  agent: 2,
  tool: 4,
  admin: 8,
  receiver: 2,
}
const KINDS: readonly Caller['kind'][] = ['agent', 'tool', 'admin', 'receiver']
const FEED: readonly string[] = ['/revocations', '/revocations/now', '/revocations/stream']
/** Evidence in header fields of its own, which only agents have. */
const HELD: readonly string[] = ['oauth-client-attestation', 'workload-identity-token']
const CREDENTIALS = /^ClientAssertion (\S+)$/i

/** Seconds to wait where nothing that may be in its body could let the request in; 0 where it is to be read. */
export function hopeless(deps: HttpDeps, c: Context, path: string): number {
  const first = openTo(c, path)
  const wait = waitFor(deps, c, first)
  if (!hearsCredentials(first)) return wait
  const isForm = c.req.method === 'POST' && (c.req.header('content-type') ?? '').includes('form-urlencoded')
  const may = isForm ? KINDS : [claimedKind(deps, c)]
  return wait > 0 && may.every((kind) => kind === undefined || waitFor(deps, c, kind) > 0) ? wait : 0
}

/** Takes a share for the request, with its body read. */
export function admit(deps: HttpDeps, c: Context, path: string): Result<true> {
  const first = openTo(c, path)
  const wait = take(deps, c, first)
  if (wait === 0) return ok(true)
  const kind = hearsCredentials(first) ? (claimedKind(deps, c) ?? claimedInForm(deps, c)) : undefined
  if (kind === undefined || take(deps, c, kind) > 0) {
    return refuse('rate_limited', 'request', { retryAfterSeconds: wait })
  }
  c.set('onCredentials', true)
  return ok(true)
}

/** Takes from the strangers' share, for what is refused by its mere form. */
export const charge = (deps: HttpDeps, c: Context): void => void take(deps, c, 'strangers')

/** What it took of its address's share goes back: it has proven who it is and is rationed by that, or was not served. */
export function giveBack(c: Context): void {
  c.get('giveBack')?.()
  c.set('giveBack', undefined)
}

function openTo(c: Context, path: string): Share {
  if (path === '/ready') return 'ready'
  if (c.req.method !== 'GET' && c.req.method !== 'HEAD') return 'strangers'
  if (path.startsWith('/.well-known/')) return 'discovery'
  return FEED.includes(path) ? 'feed' : 'strangers'
}

const hearsCredentials = (share: Share): boolean => share === 'strangers' || share === 'feed'

/** As whom the headers would have it come. */
function claimedKind(deps: HttpDeps, c: Context): Caller['kind'] | undefined {
  const assertion = CREDENTIALS.exec(c.req.header('authorization') ?? '')?.[1]
  if (assertion !== undefined) return kindOf(deps, assertion)
  const held = HELD.some((name) => c.req.header(name) !== undefined)
  return held || c.env.certificate?.() !== undefined ? 'agent' : undefined
}

function claimedInForm(deps: HttpDeps, c: Context): Caller['kind'] | undefined {
  const form = formOf(c)
  if (!form.ok) return undefined
  const assertion = form.value.get('client_assertion')?.[0] ?? form.value.get('actor_token')?.[0]
  if (assertion !== undefined) return kindOf(deps, assertion)
  return form.value.get('assertion')?.[0] === undefined ? undefined : 'agent'
}

/** Only a registered machine has a share as one; everybody else is an agent at best. */
const kindOf = (deps: HttpDeps, assertion: string): Caller['kind'] =>
  deps.snapshot().machines.byClientId(claimedName(deps, { assertion }))?.kind ?? 'agent'

const keyOf = (c: Context, share: Share): string => `${share}:${c.get('source')}`
const perSecond = ({ snapshot }: HttpDeps, share: Share): number =>
  snapshot().settings.bounds.strangersPerSecondPerSource * TIMES[share]

const waitFor = (deps: HttpDeps, c: Context, share: Share): number =>
  deps.limits.wait(keyOf(c, share), perSecond(deps, share))

function take(deps: HttpDeps, c: Context, share: Share): number {
  const key = keyOf(c, share)
  const wait = deps.limits.take(key, perSecond(deps, share))
  if (wait === 0) c.set('giveBack', () => deps.limits.giveBack(key, perSecond(deps, share)))
  return wait
}
