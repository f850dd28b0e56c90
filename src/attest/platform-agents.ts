/** Which agents of platforms were seen: nobody registers them, so the store knows them by their coming. */

export interface PlatformAgent {
  readonly clientId: string
  /** Name of its platform. */
  readonly platform: string
  /** Its identifier at the platform. */
  readonly sub: string
  /** Unix seconds. */
  readonly firstSeen: number
  /** Unix seconds; within the hour. */
  readonly lastSeen: number
}

export type Admitted = 'known' | 'new' | 'full'

export interface PlatformAgents {
  /**
   * Notes that an agent came. `full` where it is not known and `most` agents of its platform are: in one step, so that
   * of simultaneous calls, also from several processes, no more than `most` are admitted. Those that did not come since
   * `since` are forgotten first. Durable before it resolves. Unix seconds.
   */
  admit(
    agent: Pick<PlatformAgent, 'clientId' | 'platform' | 'sub'>,
    now: number,
    bounds: { readonly most: number; readonly since: number },
  ): Promise<Admitted>
  /** In the order of their client_ids, the first so many. */
  list(limit: number): Promise<readonly PlatformAgent[]>
  find(clientId: string): Promise<PlatformAgent | undefined>
}
