/** The words of the model: what stands in a state, and what a design may do otherwise. Times are ticks of one clock. */

/** A place in the log as one number: generations of sixteen places each. */
export type Epoch = number
export const GENERATION = 16
export const NOWHERE: Epoch = -1
export const generationOf = (epoch: Epoch): number => Math.floor(epoch / GENERATION)

/** What an entry names. Conjunctions and the other dimensions only decide the same question: does a hop match. */
export const MATCHES = ['task 0', 'task 1', 'task 2', 'everything', 'stolen key', 'approval'] as const
export const EVERYTHING = 3
export const STOLEN_KEY = 4
export const APPROVAL = 5

export const MODES = ['cut', 'ban', 'suspend', 'contain'] as const
export type Mode = (typeof MODES)[number]

/** What an agent may do is a set of two operations. Containment takes the second. */
export const ALL_OPERATIONS = 0b11
export const CONTAINED = 0b01

export interface Entry {
  readonly match: number
  readonly mode: Mode
  /** Where the store has it now; NOWHERE while it is on replicas' disks only, or was lost. */
  readonly epoch: Epoch
  /** How many entries had been visible before it; -1 before it is. What was checked by then it kills. */
  readonly order: number
  readonly onDisks: boolean
  /** When its writer was told that it stands; -1 before. */
  readonly acked: number
  /** Re-admitted, resumed. */
  readonly lifted: boolean
}

/** What a reader of the store sees between two writes: per match the highest place. */
export interface View {
  readonly epoch: Epoch
  readonly has: readonly Epoch[]
  readonly since: number
  /** The tick in which it was seen last; -1 while it stands. */
  readonly until: number
}

export interface Hop {
  readonly task: number
  readonly rev: Epoch
  /** How many entries had been visible when it was checked: what is true, whatever `rev` says. */
  readonly order: number
  /** Signed by the key that is stolen in this history. */
  readonly oldKey: boolean
  readonly approved: boolean
}

export interface Token {
  /** Its own first. */
  readonly hops: readonly Hop[]
  readonly authority: number
  /** The token that it was made from; -1 for a user's. */
  readonly parent: number
  readonly exp: number
  /** Digest of what was approved; 0 without an approval. */
  readonly approval: number
  readonly forged: boolean
  /** Whether its intent was durable when it was signed. */
  readonly recorded: boolean
  /** Whether an acknowledged ban was in force when it was checked. */
  readonly underBan: boolean
}

/** An exchange between its check and its signature. */
export interface Exchange {
  readonly draft: Token
  readonly recorded: boolean
}

export interface Run {
  /** The run's own clock reads zero then. */
  readonly start: number
  readonly end: number
}

/** What a verifier knows of one run: the clock of the service by its answer, and the stamp up to which all is here. */
export interface Freshness {
  readonly offset: number | null
  readonly covered: number | null
}

export interface Verifier {
  readonly known: readonly Epoch[]
  readonly reached: Epoch
  readonly heard: Epoch
  readonly runs: readonly Freshness[]
  /** When the open question was sent, and how far the state was then. */
  readonly asked: number
  readonly askedAt: Epoch
  /** The view that stood then: what answers is read later. */
  readonly askedView: number
  readonly forked: boolean
  /** How far its lower bound of the service's time is behind; -1 before the first answer. */
  readonly lag: number
  /** Tokens that it has refused as revoked. */
  readonly refused: number
}

/** From a token that was good to a secret in use, through what is Vault's, ours in memory, and ours on disk. */
export interface Lease {
  readonly task: number
  readonly order: number
  /** Our process still has it in hand. */
  readonly inHand: boolean
  readonly recorded: boolean
  /** Sent to Vault and not there yet. */
  readonly asking: boolean
  readonly renewing: boolean
  readonly vault: 'none' | 'login' | 'secret' | 'ended'
  readonly ttl: number
  /** When its task ended; -1 while it goes on. */
  readonly endedAt: number
  /** Ticks since then in which service and Vault were both up. */
  readonly late: number
}

export interface Approval {
  readonly state: 'none' | 'asked' | 'granted' | 'spent'
  readonly digest: number
}

export interface State {
  readonly now: number
  readonly generation: number
  readonly entries: readonly Entry[]
  readonly visible: number
  readonly views: readonly View[]
  readonly sealed: boolean
  readonly failovers: number
  readonly keyStolen: boolean
  readonly runs: readonly Run[]
  readonly exchanges: readonly (Exchange | null)[]
  readonly tokens: readonly Token[]
  /** Tokens that the issuers have refused as revoked. */
  readonly refused: number
  readonly verifiers: readonly Verifier[]
  readonly approval: Approval
  readonly leases: readonly Lease[]
  readonly serviceUp: boolean
  readonly vaultUp: boolean
}

/** The rules of DESIGN.md, each of which a weaker design breaks. */
export interface Design {
  /** What tokens and entries are compared by. */
  readonly order: 'epochs' | 'time stamps'
  readonly revTaken: 'at the check' | 'at signing'
  readonly freshnessBound: boolean
  readonly failoverOpens: 'a generation' | 'nothing'
  /** An entry is on replicas' disks before anybody can see it. */
  readonly disksFirst: boolean
  readonly failoverNoticed: boolean
  readonly hopsOfAncestors: boolean
  readonly comparison: 'after' | 'at or after'
  readonly stamp: 'before the epoch is read' | 'after'
  readonly answersCount: 'with our nonce' | 'any'
  readonly runsApart: boolean
  readonly answersHeard: boolean
  readonly answersTimeOut: boolean
  readonly reachesRev: boolean
  readonly deltasNeedStart: boolean
  readonly keyEntries: 'absolute' | 'by rev'
  readonly entriesKeptFor: 'the longest life' | 'less'
  readonly intent: 'before signing' | 'after'
  readonly childAuthority: 'of its parent' | 'of its task'
  readonly containment: 'read in the check' | 'read before'
  readonly approvalSpent: 'in one step' | 'looked at, then spent'
  readonly approvalDigest: boolean
  readonly spendsOnDisks: boolean
  readonly leaseRecorded: 'before asking' | 'after'
  /** The record of a lease looks at its task in the same step. */
  readonly recordsLook: boolean
  readonly leasesEndedFrom: 'records' | 'memory'
  readonly renewals: 'while the task lives' | 'always'
}

export const DESIGN: Design = {
  order: 'epochs',
  revTaken: 'at the check',
  freshnessBound: true,
  failoverOpens: 'a generation',
  disksFirst: true,
  failoverNoticed: true,
  hopsOfAncestors: true,
  comparison: 'after',
  stamp: 'before the epoch is read',
  answersCount: 'with our nonce',
  runsApart: true,
  answersHeard: true,
  answersTimeOut: true,
  reachesRev: true,
  deltasNeedStart: true,
  keyEntries: 'absolute',
  entriesKeptFor: 'the longest life',
  intent: 'before signing',
  childAuthority: 'of its parent',
  containment: 'read in the check',
  approvalSpent: 'in one step',
  approvalDigest: true,
  spendsOnDisks: true,
  leaseRecorded: 'before asking',
  recordsLook: true,
  leasesEndedFrom: 'records',
  renewals: 'while the task lives',
}

/** How much of everything there may be: all that can happen within it is looked at. */
export interface Scope {
  readonly name: string
  readonly ticks: number
  readonly issuers: number
  readonly tokens: number
  readonly tasks: number
  readonly matches: readonly number[]
  readonly modes: readonly Mode[]
  readonly entries: number
  readonly lifts: boolean
  readonly verifiers: number
  readonly verifierRestarts: boolean
  readonly serviceRuns: number
  readonly failovers: number
  /** The store and replicas' disks are written one after the other. */
  readonly scaleOut: boolean
  readonly narrowing: boolean
  readonly theft: boolean
  readonly approvals: boolean
  readonly leases: number
  /** Life of a token and bound of staleness, in ticks. */
  readonly life: number
  readonly bound: number
}

export const LEASE_TTL = 2
/** So long an answer may be under way; entries are kept so much longer than the tokens that they match. */
export const ANSWER_TICKS = 1
