/** The bounds within which everything is looked at: each asks one question, and leaves out what it does not need. */
import type { Scope } from './state.ts'

const SMALL: Scope = {
  name: '',
  ticks: 0,
  issuers: 1,
  tokens: 1,
  tasks: 1,
  matches: [0],
  modes: ['cut'],
  entries: 1,
  lifts: false,
  verifiers: 0,
  verifierRestarts: false,
  serviceRuns: 1,
  failovers: 0,
  scaleOut: false,
  narrowing: false,
  theft: false,
  approvals: false,
  leases: 0,
  life: 2,
  bound: 0,
}

export const SCOPES = {
  /** Two issuers, and an entry between any two of their steps; bans, suspensions, and what lifts them. */
  race: {
    ...SMALL,
    name: 'race',
    issuers: 2,
    tokens: 2,
    tasks: 2,
    matches: [0, 1],
    modes: ['cut', 'ban', 'suspend'],
    entries: 2,
    lifts: true,
  },
  /** A chain of three hops, revoked at any of them, with less authority asked for, and a containment. */
  chain: {
    ...SMALL,
    name: 'chain',
    tokens: 3,
    tasks: 3,
    matches: [0, 1, 2],
    modes: ['cut', 'contain'],
    entries: 2,
    narrowing: true,
  },
  /** The same seen by a verifier. */
  hops: { ...SMALL, name: 'hops', ticks: 1, tokens: 3, tasks: 3, verifiers: 1, life: 3 },
  /** Two entries, and frames of them that come late, twice, out of order, or never. */
  relay: { ...SMALL, name: 'relay', ticks: 1, entries: 2, verifiers: 1, life: 3 },
  /** Two issuers whose clocks differ: it counts only where clocks do. */
  stamps: { ...SMALL, name: 'stamps', ticks: 1, issuers: 2, verifiers: 1, life: 4 },
  /** A verifier restarts and remembers nothing. */
  restarts: { ...SMALL, name: 'restarts', ticks: 1, entries: 2, verifiers: 1, verifierRestarts: true, life: 3 },
  /** The service restarts: another run, whose clock begins anew. */
  runs: { ...SMALL, name: 'runs', ticks: 1, verifiers: 1, serviceRuns: 2, life: 4 },
  /** Tokens and entries come to their end, and are forgotten. */
  expiry: { ...SMALL, name: 'expiry', ticks: 3, verifiers: 1, life: 1 },
  /** A thief has the key of old and writes any epoch; the entry by key is absolute. */
  theft: { ...SMALL, name: 'theft', ticks: 1, tokens: 2, tasks: 2, matches: [4], theft: true, verifiers: 1, life: 3 },
  /** The store goes back in time between any two steps; disks keep what was acknowledged. */
  failover: {
    ...SMALL,
    name: 'failover',
    ticks: 1,
    tokens: 2,
    matches: [0, 1],
    modes: ['cut', 'ban'],
    entries: 2,
    failovers: 1,
    scaleOut: true,
    life: 3,
  },
  /** The same seen by a verifier that may restart with nothing. */
  'failover followed': {
    ...SMALL,
    name: 'failover followed',
    ticks: 1,
    failovers: 1,
    scaleOut: true,
    verifiers: 1,
    life: 3,
  },
  approvals: {
    ...SMALL,
    name: 'approvals',
    issuers: 2,
    tokens: 2,
    matches: [0, 5],
    failovers: 1,
    scaleOut: true,
    approvals: true,
  },
  leases: { ...SMALL, name: 'leases', ticks: 4, modes: ['ban'], leases: 1, life: 4 },
} as const satisfies Record<string, Scope>
export type ScopeName = keyof typeof SCOPES

/** Too many states for every test run: `model/run.ts` looks at these as well. */
export const WIDE: readonly ScopeName[] = ['hops', 'failover followed']
