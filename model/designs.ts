/** Designs that lack one rule of DESIGN.md, and what each of them breaks: the checker must find it. */
import type { ScopeName } from './scopes.ts'
import type { Design } from './state.ts'

export interface Weaker {
  readonly name: string
  readonly lacks: Partial<Design>
  readonly scope: ScopeName
  /** What breaks, at least. */
  readonly breaks: readonly string[]
}

/** The four that are told most often when revocation is designed. */
export const WEAKER: readonly Weaker[] = [
  { name: 'time stamps instead of epochs', lacks: { order: 'time stamps' }, scope: 'stamps', breaks: ['R1', 'R4'] },
  { name: 'epoch taken at signing', lacks: { revTaken: 'at signing' }, scope: 'relay', breaks: ['R1'] },
  { name: 'no freshness bound', lacks: { freshnessBound: false }, scope: 'relay', breaks: ['R1'] },
  { name: 'fail-over without a generation', lacks: { failoverOpens: 'nothing' }, scope: 'failover', breaks: ['R1'] },
]

/** Every other rule of the model, left out once. */
export const LEFT_OUT: readonly Weaker[] = [
  { name: 'an entry is seen before it is on disks', lacks: { disksFirst: false }, scope: 'failover', breaks: ['R2'] },
  {
    name: 'the store goes back, and it is not noticed at once',
    lacks: { failoverNoticed: false },
    scope: 'failover',
    breaks: ['ban', 'R2'],
  },
  { name: 'a child carries its own hop alone', lacks: { hopsOfAncestors: false }, scope: 'hops', breaks: ['R1', 'R3'] },
  {
    name: 'an entry kills what was checked after it',
    lacks: { comparison: 'at or after' },
    scope: 'race',
    breaks: ['R4'],
  },
  { name: 'frames are stamped after the epoch is read', lacks: { stamp: 'after' }, scope: 'relay', breaks: ['R1'] },
  { name: 'answers to other questions count', lacks: { answersCount: 'any' }, scope: 'relay', breaks: ['R1'] },
  { name: 'the clocks of two runs are taken for one', lacks: { runsApart: false }, scope: 'runs', breaks: ['R1'] },
  { name: 'the epoch of an answer is not heard', lacks: { answersHeard: false }, scope: 'restarts', breaks: ['R2'] },
  { name: 'an answer may take for ever', lacks: { answersTimeOut: false }, scope: 'expiry', breaks: ['R1', 'R2'] },
  { name: 'a token newer than the state is accepted', lacks: { reachesRev: false }, scope: 'relay', breaks: ['L10'] },
  { name: 'a delta is applied over a gap', lacks: { deltasNeedStart: false }, scope: 'relay', breaks: ['R1'] },
  { name: 'entries by key are compared by rev', lacks: { keyEntries: 'by rev' }, scope: 'theft', breaks: ['R1'] },
  {
    name: 'entries are forgotten before the last token',
    lacks: { entriesKeptFor: 'less' },
    scope: 'expiry',
    breaks: ['R1', 'R2'],
  },
  { name: 'the intent is recorded after the signature', lacks: { intent: 'after' }, scope: 'race', breaks: ['R6'] },
  { name: 'a child has what its task may', lacks: { childAuthority: 'of its task' }, scope: 'chain', breaks: ['R7'] },
  {
    name: 'a containment is read before the check',
    lacks: { containment: 'read before' },
    scope: 'chain',
    breaks: ['contain'],
  },
  {
    name: 'an approval is looked at, then spent',
    lacks: { approvalSpent: 'looked at, then spent' },
    scope: 'approvals',
    breaks: ['R8'],
  },
  { name: 'what was approved is not compared', lacks: { approvalDigest: false }, scope: 'approvals', breaks: ['R8'] },
  { name: 'spends are not on disks', lacks: { spendsOnDisks: false }, scope: 'approvals', breaks: ['R8'] },
  {
    name: 'a lease is recorded after it was asked for',
    lacks: { leaseRecorded: 'after' },
    scope: 'leases',
    breaks: ['R5'],
  },
  {
    name: 'a record of a lease does not look at its task',
    lacks: { recordsLook: false },
    scope: 'leases',
    breaks: ['R5'],
  },
  { name: 'leases are ended from memory', lacks: { leasesEndedFrom: 'memory' }, scope: 'leases', breaks: ['R5'] },
  {
    name: 'leases are renewed for a task that has ended',
    lacks: { renewals: 'always' },
    scope: 'leases',
    breaks: ['R5'],
  },
]
