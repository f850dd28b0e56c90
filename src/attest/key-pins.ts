/** Standing evidence without a key in it belongs to the first proof key seen with it. */
export interface KeyPins {
  /**
   * Pins `thumbprint` to the evidence unless one is pinned already; answers the one that is pinned. `expiresAt` in Unix seconds.
   * `issuedAt` of what is used once: see `ReplayGuard`.
   */
  pin(evidenceId: string, thumbprint: string, expiresAt: number, issuedAt?: number): Promise<string>
  /** What is pinned to the evidence, where something is: changes nothing. */
  pinned(evidenceId: string): Promise<string | undefined>
}

/** A SPIFFE id that passes to another registration starts a new life: evidence of the old one must not serve the new. */
export interface PrincipalBindings {
  /**
   * Since when (Unix seconds) `spiffeId` has belonged to `clientId`: 0 where it never belonged to another, `now`
   * where this call moves it.
   */
  since(spiffeId: string, clientId: string, now: number): Promise<number>
}
