/** Remembers what a retried request was answered, so that a lost response is no lost effect (SECURITY-CASES D20). */

export interface Remembered {
  /** SHA-256 over what must be the same in a retry: grant, subject, targets, scope, details, task. */
  readonly digest: string
  /** Set once the intent is recorded: where its audit record is, and the response without tokens. */
  readonly result?: { readonly index: number; readonly logId: string; readonly response: string }
}

export type Claim =
  /** Nobody was here: this caller does the work and then calls `complete` or `release`. */
  | { readonly outcome: 'claimed' }
  /** Done before with this digest, or with another one: the caller compares. */
  | { readonly outcome: 'remembered'; readonly remembered: Remembered }
  /** Somebody is at it right now (and has not vanished: a claim lapses after 10 s). */
  | { readonly outcome: 'in_progress'; readonly digest: string }

export interface IdempotencyStore {
  /** `key` is already bound to client and proof key. `expiresAt` and `now` in Unix seconds. */
  claim(key: string, digest: string, now: number, expiresAt: number): Promise<Claim>
  /** Durable before it resolves. */
  complete(key: string, result: NonNullable<Remembered['result']>): Promise<void>
  /** Gives the key back after a refusal or a fault before the intent. */
  release(key: string): Promise<void>
}
