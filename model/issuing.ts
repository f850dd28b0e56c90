/** Issuers and the log: a check and a signature that anything may come between, revocations, fail-over. */
import {
  ALL_OPERATIONS,
  APPROVAL,
  CONTAINED,
  type Design,
  type Entry,
  type Epoch,
  EVERYTHING,
  GENERATION,
  type Hop,
  MATCHES,
  type Mode,
  NOWHERE,
  type Scope,
  type State,
  STOLEN_KEY,
  type Token,
  type View,
} from './state.ts'

export type Emit = (label: string, state: State) => void

export const matches = (match: number, hop: Hop): boolean =>
  match === EVERYTHING || (match === STOLEN_KEY ? hop.oldKey : match === APPROVAL ? hop.approved : hop.task === match)

/** What is true, by the order in which things happened: no epoch, clock or message is asked. */
export const kills = ({ match, order }: Entry, { hops }: Token): boolean =>
  order >= 0 && hops.some((hop) => matches(match, hop) && (match === STOLEN_KEY || hop.order <= order))

/** Of a token, the hops that it carries. */
export const carried = ({ hops }: Token, design: Design): readonly Hop[] =>
  design.hopsOfAncestors ? hops : hops.slice(0, 1)

/** By what a reader has, as the follower and the store judge: the hop and the entry's place that make it dead. */
export function deadBy(
  has: readonly Epoch[],
  token: Token,
  design: Design,
): { readonly hop: Hop; readonly match: number; readonly epoch: Epoch } | undefined {
  for (const hop of carried(token, design))
    for (let match = 0; match < has.length; match++) {
      const epoch = has[match]!
      if (epoch === NOWHERE || !matches(match, hop)) continue
      if (match === STOLEN_KEY && design.keyEntries === 'absolute') return { hop, match, epoch }
      const wide = design.order === 'time stamps' || design.comparison === 'at or after'
      if (epoch > hop.rev || (wide && epoch === hop.rev)) return { hop, match, epoch }
    }
  return undefined
}

export const storeOf = ({ views }: State): View => views[views.length - 1]!

/** By the generation's first place: the epoch of a log without entries in it. */
export const firstOf = (generation: number): Epoch => generation * GENERATION

/** What the store shows from now on. */
export function shown(state: State, entries: readonly Entry[], epoch: Epoch, design: Design): State {
  const has: Epoch[] = MATCHES.map(() => NOWHERE)
  for (const entry of entries)
    if (entry.epoch !== NOWHERE && entry.epoch > has[entry.match]!) has[entry.match] = entry.epoch
  if (design.order === 'time stamps') {
    const before = storeOf(state).has
    has.forEach((place, match) => {
      // The writer's clock is right; it is an issuer's that is not.
      has[match] =
        place === NOWHERE ? NOWHERE : before[match] === NOWHERE || epoch === place ? state.now : before[match]!
    })
  }
  const last = storeOf(state)
  const views = [...state.views.slice(0, -1), { ...last, until: last.until < 0 ? state.now : last.until }]
  return { ...state, entries, views: [...views, { epoch, has, since: state.now, until: -1 }] }
}

const replaced = <T>(list: readonly T[], index: number, value: T): readonly T[] =>
  list.map((each, at) => (at === index ? value : each))

const inForce = (entry: Entry, modes: readonly Mode[]): boolean =>
  entry.epoch !== NOWHERE && !entry.lifted && modes.includes(entry.mode)

/** The operations that containments in force leave to these tasks. */
const leftOf = (entries: readonly Entry[], hops: readonly Hop[]): number =>
  entries.some((entry) => inForce(entry, ['contain']) && hops.some((hop) => matches(entry.match, hop)))
    ? CONTAINED
    : ALL_OPERATIONS

/** Judged by what has happened and was acknowledged, for the invariants: not by what the store still has. */
export const contained = (entries: readonly Entry[], hops: readonly Hop[]): boolean =>
  entries.some(
    ({ match, mode, acked, order, lifted }) =>
      mode === 'contain' && acked >= 0 && !lifted && hops.some((hop) => matches(match, hop) && hop.order > order),
  )

/** A clock of an issuer: the second one's is ahead. It counts only where time stamps do. */
const clockOf = (state: State, issuer: number): number => state.now + issuer

function* subjects(state: State, scope: Scope): Generator<{ readonly parent: number; readonly task: number }> {
  yield { parent: -1, task: 0 }
  for (let parent = 0; parent < state.tokens.length; parent++) {
    const { task } = state.tokens[parent]!.hops[0]!
    if (task + 1 < scope.tasks) yield { parent, task: task + 1 }
  }
}

/** Stage one of an exchange: the time, and in one step every entry, ban and the epoch. */
export function checks(state: State, scope: Scope, design: Design, emit: Emit): void {
  if (state.sealed) return
  const busy = state.exchanges.filter(Boolean).length
  if (state.tokens.length + busy >= scope.tokens) return
  const { has, epoch } = storeOf(state)
  for (let issuer = 0; issuer < scope.issuers; issuer++) {
    if (state.exchanges[issuer]) continue
    for (const { parent, task } of subjects(state, scope)) {
      const from = state.tokens[parent]
      if (from && (from.exp <= state.now || deadBy(has, from, design))) continue
      const own: Hop = {
        task,
        rev: design.order === 'time stamps' ? clockOf(state, issuer) : epoch,
        order: state.visible,
        oldKey: !state.entries.some(({ match, epoch: at }) => match === STOLEN_KEY && at !== NOWHERE),
        approved: false,
      }
      const banned = (each: Entry): boolean => inForce(each, ['ban', 'suspend']) && matches(each.match, own)
      if (state.entries.some(banned)) continue
      const underBan = state.entries.some(
        ({ mode, acked, lifted, match }) =>
          (mode === 'ban' || mode === 'suspend') && acked >= 0 && !lifted && matches(match, own),
      )
      const hops = [own, ...(from?.hops ?? [])]
      const parents = from && design.childAuthority === 'of its parent' ? from.authority : ALL_OPERATIONS
      // Where it was read before, nothing of what came since is seen.
      const left = design.containment === 'read in the check' ? leftOf(state.entries, hops) : ALL_OPERATIONS
      const most = parents & left
      const draft: Token = {
        hops,
        authority: most,
        parent,
        exp: state.now + scope.life,
        approval: 0,
        forged: false,
        recorded: false,
        underBan,
      }
      const label = `issuer ${issuer} checks task ${task}${from ? ` under token ${parent}` : ''}`
      const checked = (each: Token, said: string, next: State = state) =>
        emit(said, { ...next, exchanges: replaced(next.exchanges, issuer, { draft: each, recorded: false }) })
      checked(draft, label)
      if (scope.narrowing && most !== CONTAINED) checked({ ...draft, authority: CONTAINED }, `${label}, for less`)
      if (!scope.approvals || state.approval.state !== 'granted') continue
      for (const digest of [1, 2]) {
        if (design.approvalDigest && digest !== state.approval.digest) continue
        const approved = { ...draft, hops: [{ ...own, approved: true }, ...hops.slice(1)], approval: digest }
        const spent = design.approvalSpent === 'in one step'
        checked(
          approved,
          `${label}, with the approval for ${digest}`,
          spent ? { ...state, approval: { ...state.approval, state: 'spent' } } : state,
        )
      }
    }
  }
}

/** What follows the check, whenever: the record of intent, the signature; or the end of the process. */
export function signatures(state: State, scope: Scope, design: Design, emit: Emit): void {
  for (let issuer = 0; issuer < scope.issuers; issuer++) {
    const exchange = state.exchanges[issuer]
    if (!exchange) continue
    const { draft, recorded } = exchange
    const without: State = { ...state, exchanges: replaced(state.exchanges, issuer, null) }
    emit(`issuer ${issuer} crashes`, without)
    if (!recorded)
      emit(`issuer ${issuer} records its intent`, {
        ...state,
        exchanges: replaced(state.exchanges, issuer, { draft, recorded: true }),
        approval:
          draft.approval && state.approval.state === 'granted' ? { ...state.approval, state: 'spent' } : state.approval,
      })
    if (!recorded && design.intent === 'before signing') continue
    const own = draft.hops[0]!
    const rev = design.revTaken === 'at signing' && !state.sealed ? storeOf(state).epoch : own.rev
    emit(`issuer ${issuer} signs token ${state.tokens.length}`, {
      ...without,
      tokens: [...state.tokens, { ...draft, hops: [{ ...own, rev }, ...draft.hops.slice(1)], recorded }],
    })
  }
}

/** A thief with the old key: any task, any epoch, any authority, and it lives as long as a token may. */
export function thefts(state: State, scope: Scope, emit: Emit): void {
  if (!scope.theft || state.tokens.length + state.exchanges.filter(Boolean).length >= scope.tokens) return
  for (const rev of [storeOf(state).epoch, storeOf(state).epoch + 1]) {
    const hop: Hop = { task: 0, rev, order: rev, oldKey: true, approved: false }
    emit(`a thief forges token ${state.tokens.length} with rev ${rev}`, {
      ...state,
      keyStolen: true,
      tokens: [
        ...state.tokens,
        {
          hops: [hop],
          authority: ALL_OPERATIONS,
          parent: -1,
          exp: state.now + scope.life,
          approval: 0,
          forged: true,
          recorded: false,
          underBan: false,
        },
      ],
    })
  }
}

export function revocations(state: State, scope: Scope, design: Design, emit: Emit): void {
  const { entries, sealed } = state
  const name = ({ match, mode }: Entry): string => `${mode} of ${MATCHES[match]}`
  // What is on disks becomes visible, and what is visible goes to disks; its writer is told when it is both.
  for (const [at, entry] of entries.entries()) {
    if (entry.acked < 0 && entry.epoch === NOWHERE && entry.order < 0 && !sealed)
      emit(`${name(entry)} is in the store`, visible(state, at, { ...entry, acked: state.now }, design))
    if (entry.acked < 0 && entry.epoch !== NOWHERE && !entry.onDisks)
      emit(`${name(entry)} is on disks`, {
        ...state,
        entries: replaced(entries, at, { ...entry, onDisks: true, acked: state.now }),
      })
    if (scope.lifts && inForce(entry, ['ban', 'suspend', 'contain']) && entry.match !== STOLEN_KEY && !sealed)
      emit(`${name(entry)} is lifted`, { ...state, entries: replaced(entries, at, { ...entry, lifted: true }) })
  }
  if (entries.length >= scope.entries) return
  for (const match of scope.matches)
    for (const mode of match === STOLEN_KEY ? (['ban'] as const) : scope.modes) {
      const entry: Entry = { match, mode, epoch: NOWHERE, order: -1, onDisks: false, acked: -1, lifted: false }
      if (!scope.scaleOut) {
        if (!sealed)
          emit(
            name(entry),
            visible(
              { ...state, entries: [...entries, entry] },
              entries.length,
              { ...entry, onDisks: true, acked: state.now },
              design,
            ),
          )
      } else if (design.disksFirst)
        emit(`${name(entry)} is on disks`, { ...state, entries: [...entries, { ...entry, onDisks: true }] })
      else if (!sealed)
        emit(
          `${name(entry)} is in the store`,
          visible({ ...state, entries: [...entries, entry] }, entries.length, entry, design),
        )
    }
}

function visible(state: State, at: number, entry: Entry, design: Design): State {
  const epoch = storeOf(state).epoch + 1
  const entries = replaced(state.entries, at, { ...entry, epoch, order: state.visible })
  return shown({ ...state, visible: state.visible + 1 }, entries, epoch, design)
}

/** The store goes back to what it was at some time; what the replicas hold is replayed, in whatever order. */
export function failovers(state: State, scope: Scope, design: Design, emit: Emit): void {
  if (!state.sealed && state.failovers < scope.failovers) {
    for (const [at, { epoch }] of state.views.entries()) {
      const entries = state.entries.map((entry) => (entry.epoch > epoch ? { ...entry, epoch: NOWHERE } : entry))
      const { approval } = state
      const backTo = `the store goes back to place ${epoch}`
      const lost: State = {
        ...state,
        entries,
        failovers: state.failovers + 1,
        approval: !design.spendsOnDisks && approval.state === 'spent' ? { ...approval, state: 'granted' } : approval,
      }
      const last = storeOf(state)
      if (design.failoverNoticed)
        emit(`${backTo}: sealed`, {
          ...lost,
          sealed: true,
          views: [...state.views.slice(0, -1), { ...last, until: state.now }],
        })
      else if (at < state.views.length - 1) emit(`${backTo}, unnoticed`, shown(lost, entries, epoch, design))
    }
  }
  if (!state.sealed && !(state.failovers > 0 && !design.failoverNoticed && state.generation === 0)) return
  const missing = state.entries.flatMap(({ epoch, onDisks }, at) => (epoch === NOWHERE && onDisks ? [at] : []))
  const generation = design.failoverOpens === 'a generation' ? state.generation + 1 : state.generation
  const kept = Math.max(firstOf(state.generation), ...state.entries.map(({ epoch }) => epoch))
  for (const order of orders(missing)) {
    let epoch = design.failoverOpens === 'a generation' ? firstOf(generation) : kept
    let { visible: seen } = state
    const entries = [...state.entries]
    for (const at of order) {
      const entry = entries[at]!
      epoch += 1
      // One that nobody had seen comes into the log now; the others keep the place that they had in history.
      const first = entry.order < 0
      entries[at] = { ...entry, epoch, order: first ? seen++ : entry.order, acked: first ? state.now : entry.acked }
    }
    emit(
      `replay${order.length > 0 ? ` of ${order.map((at) => MATCHES[entries[at]!.match]).join(', ')}` : ''}, unsealed`,
      shown({ ...state, sealed: false, generation, visible: seen }, entries, epoch, design),
    )
  }
}

function* orders(list: readonly number[]): Generator<readonly number[]> {
  if (list.length <= 1) return yield list
  for (const [at, first] of list.entries())
    for (const rest of orders([...list.slice(0, at), ...list.slice(at + 1)])) yield [first, ...rest]
}

export function approvals(state: State, scope: Scope, emit: Emit): void {
  if (!scope.approvals) return
  const { approval } = state
  if (approval.state === 'none')
    emit('an approval for 1 is asked for', { ...state, approval: { state: 'asked', digest: 1 } })
  if (approval.state === 'asked') emit('it is granted', { ...state, approval: { ...approval, state: 'granted' } })
}
