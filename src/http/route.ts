/** What an endpoint is: its path, who may knock, what it takes and answers. The API description is made from it. */
import type { Context } from 'hono'
import type { ZodType } from 'zod'
import type { MachineClient } from '../attest/registration.ts'
import type { ProvenAgent, Wire } from '../exchange/authenticate.ts'
import type { Result } from '../oauth/refusal.ts'
import type { Receiver } from '../revoke/signals/transmit.ts'
import type { HttpDeps } from './deps.ts'

export type Caller =
  | { readonly kind: 'agent'; readonly proven: ProvenAgent }
  | { readonly kind: 'tool'; readonly client: MachineClient }
  | { readonly kind: 'admin'; readonly client: MachineClient }
  | { readonly kind: 'receiver'; readonly client: Receiver }

/** `public`: anybody. `form`: the endpoint reads client authentication out of its own form. `provider`: the same in a header, of identity providers and administrators. A list: these and nobody else. */
export type Access = 'public' | 'form' | 'provider' | readonly Caller['kind'][]

export type Variables = {
  correlation: string
  source: string
  reason?: string
  /** What `readBody` read. */
  body?: Result<string>
  /** Gives back what the request took of the share of its address; see admission.ts. */
  giveBack?: (() => void) | undefined
  /** Let in for the credentials it carries, where it would not have been without. */
  onCredentials?: boolean
}
export type Env = { Bindings: WireBindings; Variables: Variables }

/** What the listener tells of the connection. */
export interface WireBindings {
  /** Base URL of this listener as the configuration knows it. */
  readonly base: string
  /** Peer address of the socket. */
  readonly peer: string
  /** The request target as it came over the wire, before anything resolved it. */
  readonly target?: string
  /** Client certificate chain (DER, leaf first), read anew for each request. */
  certificate?(): readonly Uint8Array[] | undefined
}

/** What the gates ask of a request: Hono's context answers it, and so does the door of `POST /token`. */
export interface Knock {
  readonly req: {
    readonly method: string
    readonly url: string
    header(name: string): string | undefined
    query(name: string): string | undefined
  }
  readonly env: WireBindings
  get<K extends keyof Variables>(name: K): Variables[K]
  set<K extends keyof Variables>(name: K, value: Variables[K]): void
}

export interface Call {
  readonly c: Context<Env>
  readonly deps: HttpDeps
  readonly wire: Wire
  /** Present on every route whose access is a list, and where a public one recognises whoever says who it is. */
  readonly caller?: Caller
}

export interface Described {
  readonly description: string
  readonly schema?: ZodType
  /** Where it is not JSON. */
  readonly contentType?: string
  /** A media type of text that it has where `Accept` asks for it. */
  readonly also?: string
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE'
  /** In Hono's form: `/tasks/:id`. */
  readonly path: string
  readonly access: Access
  /** On a public route: the credentials of tools and administrators are not needed, and count where they are sent. */
  readonly recognises?: true
  readonly tag: string
  readonly summary: string
  readonly query?: Readonly<Record<string, string>>
  readonly form?: ZodType
  readonly json?: ZodType
  readonly answers: Readonly<Record<number, Described>>
  handle(call: Call): Promise<Response> | Response
}
