/**
 * Every release that was ever registered here, with what it is made of: tokens of one that was taken out of the
 * configuration may be alive, and another replica may have read one that this one has not. Its port: adapters in store/.
 */
export interface KnownRelease {
  readonly id: string
  /** client_id. */
  readonly agent: string
  /** Package URLs. */
  readonly components: readonly string[]
}

export interface KnownReleases {
  /** Durable, and seen by every later `all` on each replica, before it resolves. An id is the digest of what it names. */
  note(releases: readonly KnownRelease[]): Promise<void>
  all(): AsyncIterable<KnownRelease>
}
