/**
 * A store that may have lost what it acknowledged answers nothing until it was given back: it is sealed, gets a new generation,
 * every process on its roster adds what it holds on its own disk, and the last one unseals it. Its port.
 */
export interface StoreSeal {
  /**
   * `replaced`: the server was started anew, or is another; `went_back`: it answered what was true before; `tampered`: what
   * stood in it is gone or changed, and nobody of ours did that.
   */
  readonly why: 'replaced' | 'went_back' | 'tampered'
  /** Unix seconds. */
  readonly since: number
  /** Processes on the roster that are waited for. */
  readonly missing: readonly string[]
}

export type SealEvent =
  | { readonly event: 'sealed'; readonly why: StoreSeal['why'] }
  | {
      readonly event: 'unsealed'
      readonly generation: number
      readonly seconds: number
      /** Declared lost: every token from before is dead. */
      readonly without: readonly string[]
    }

export interface StoreSealing {
  /** Undefined while the store is whole, or merely away. */
  current(): StoreSeal | undefined
  /** Told of what has happened since the store was opened, and from now on. One listener. */
  listen(listener: (event: SealEvent) => void): void
}

export const NEVER_SEALED: StoreSealing = { current: () => undefined, listen: () => undefined }
