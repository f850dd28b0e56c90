/** The queue of leases: what is Vault's, what is on its way, what a crash forgets and what the record keeps. */
import { deadBy, type Emit, matches, storeOf } from './issuing.ts'
import { type Design, type Lease, LEASE_TTL, NOWHERE, type Scope, type State } from './state.ts'

/** Whether its task was ended or suspended after it was checked. */
const taskEnded = ({ entries }: State, { task, order }: Lease): boolean =>
  entries.some(
    (entry) =>
      (entry.mode === 'ban' || entry.mode === 'suspend') &&
      entry.epoch !== NOWHERE &&
      entry.order >= order &&
      matches(entry.match, { task, rev: 0, order, oldKey: false, approved: false }),
  )

const alive = ({ vault }: Lease): boolean => vault === 'login' || vault === 'secret'

export function leases(state: State, scope: Scope, design: Design, emit: Emit): void {
  if (scope.leases === 0) return
  const become = (at: number, label: string, changed: Partial<Lease>) =>
    emit(`lease ${at}: ${label}`, {
      ...state,
      leases: state.leases.map((each, index) => (index === at ? { ...each, ...changed } : each)),
    })
  if (state.serviceUp && state.leases.length < scope.leases && !state.sealed)
    for (const [index, token] of state.tokens.entries()) {
      if (token.exp <= state.now || deadBy(storeOf(state).has, token, design)) continue
      const lease: Lease = {
        task: token.hops[0]!.task,
        order: state.visible,
        inHand: true,
        recorded: false,
        asking: false,
        renewing: false,
        vault: 'none',
        ttl: 0,
        endedAt: -1,
        late: 0,
      }
      emit(`lease ${state.leases.length}: token ${index} is good`, { ...state, leases: [...state.leases, lease] })
    }
  for (const [at, lease] of state.leases.entries()) {
    const { inHand, recorded, vault, asking, renewing } = lease
    const until = state.now + LEASE_TTL
    if (inHand && vault === 'none' && state.vaultUp) become(at, 'login', { vault: 'login', ttl: until })
    const mayRecord = vault === 'secret' || (vault === 'login' && design.leaseRecorded === 'before asking')
    if (inHand && !recorded && mayRecord && !(design.recordsLook && taskEnded(state, lease)))
      become(at, 'its accessor is recorded', { recorded: true })
    const mayAsk = recorded || design.leaseRecorded === 'after'
    if (inHand && vault === 'login' && mayAsk && !asking) become(at, 'a secret is asked for', { asking: true })
    if (asking && state.vaultUp)
      become(at, 'Vault answers', { asking: false, vault: vault === 'login' ? 'secret' : vault })
    const mayRenew = design.renewals === 'always' || !taskEnded(state, lease)
    if (inHand && vault === 'secret' && !renewing && mayRenew) become(at, 'a renewal is sent', { renewing: true })
    if (renewing && state.vaultUp)
      become(at, 'Vault renews', { renewing: false, ...(alive(lease) ? { ttl: until } : {}) })
  }
  if (state.serviceUp)
    emit('the broker crashes', {
      ...state,
      serviceUp: false,
      leases: state.leases.map((lease) => ({ ...lease, inHand: false })),
    })
  else emit('the broker is up again', { ...state, serviceUp: true })
  emit(state.vaultUp ? 'Vault is away' : 'Vault is back', { ...state, vaultUp: !state.vaultUp })
}

/** What a tick brings: messages time out, Vault's own lives end, and whoever is up has done what was waiting. */
export function ticked(state: State, design: Design): readonly Lease[] {
  const bothUp = state.serviceUp && state.vaultUp
  return state.leases.map((lease) => {
    const ended = taskEnded(state, lease)
    const endedAt = ended && lease.endedAt < 0 ? state.now : lease.endedAt
    const found = design.leasesEndedFrom === 'records' ? lease.recorded : lease.inHand && lease.recorded
    const timed: Lease = { ...lease, asking: false, renewing: false, endedAt }
    if (!alive(lease)) return timed
    if (state.now + 1 > lease.ttl) return { ...timed, vault: 'ended' }
    if (!ended || !bothUp) return timed
    return found ? { ...timed, vault: 'ended' } : { ...timed, late: lease.vault === 'secret' ? 1 : 0 }
  })
}
