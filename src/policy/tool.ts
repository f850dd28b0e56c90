/** A tool API: its audience and its operations, each labelled with one effect. */
import type { Constraint, Effect } from '@errand/verifier/claims.ts'
import type { JWK } from '../attest/registration.ts'

export interface Operation {
  readonly name: string
  readonly effect: Effect
  readonly description?: string
  /** Schema of its arguments: authority is always also bounded by it. */
  readonly arguments?: Constraint
  /** HTTP routes it maps to; `:name` segments become arguments. */
  readonly routes: readonly { readonly method: string; readonly path: string }[]
  /** MCP tool names it maps to. */
  readonly mcpTools: readonly string[]
  /** Present where calls reserve from the task's budget; `cost` is per call, in the budget's unit. */
  readonly budgeted?: { readonly cost: number }
}

/** Another authorization server stands before it: it gives its own tokens for our ID-JAGs. */
export interface IdJagTarget {
  readonly kind: 'id_jag'
  readonly authorizationServer: string
  /** Our client_id → the agent's client_id there. */
  readonly clients: ReadonlyMap<string, string>
  /** Operation → scope value there. */
  readonly scopes: ReadonlyMap<string, string>
  readonly act: boolean
  readonly details: boolean
  readonly lifetimeSeconds: number
}

/** A trust domain within which calls carry transaction tokens. */
export interface TxnTarget {
  readonly kind: 'txn_token'
  readonly trustDomain: string
  readonly scopes: ReadonlyMap<string, string>
  /** Members of `request_context` that are passed on. */
  readonly requestContext: readonly string[]
  readonly lifetimeSeconds: number
}

export type Takes = IdJagTarget | TxnTarget

export interface Tool {
  /** ASCII, `[a-z][a-z0-9_-]{0,31}`: the part of a scope value before the colon. */
  readonly name: string
  readonly displayName: string
  /** Exact, canonical audience URI. */
  readonly audience: string
  readonly operations: ReadonlyMap<string, Operation>
  /** Whether its verifier follows the feed; without it its tokens live 60 s at most. */
  readonly followsFeed: boolean
  /** Whether its tokens have a place in a status list, for verifiers that read such lists. */
  readonly statusList: boolean
  /** Whether it accepts bearer tokens (60 s at most); otherwise DPoP or mTLS is required. */
  readonly acceptsBearer: boolean
  /** Upper bound of its tokens' life, seconds. */
  readonly maxTokenLifetimeSeconds: number
  /** Staleness bounds by effect, seconds; 0 means introspect each time. */
  readonly stalenessSeconds: Readonly<Record<Effect, number>>
  /** Public keys with which its verifier authenticates to us. */
  readonly keys: readonly JWK[]
  /** client_id, where the tool is a registered agent itself and may exchange tokens it received. */
  readonly agent?: string
  /** What it takes instead of our access tokens. */
  readonly takes?: Takes
  readonly file: string
}
