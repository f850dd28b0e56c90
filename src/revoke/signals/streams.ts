/** Streams of security events to registered receivers, and what waits in each. A port: adapters live in store/. */
import type { Epoch } from '@errand/verifier/epoch.ts'

export const STREAM_STATUSES = ['enabled', 'paused', 'disabled'] as const // SSF §8.1.2
export type StreamStatus = (typeof STREAM_STATUSES)[number]

export interface StreamSettings {
  readonly delivery: 'push' | 'poll'
  /** Header value that the receiver wants with each push, sealed. */
  readonly authorization?: string
  /** Absent: all there are. */
  readonly eventsRequested?: readonly string[]
  readonly description?: string
  readonly status: StreamStatus
  readonly statusReason?: string
  /** Subjects that the receiver removed, as canonical text. */
  readonly removed: readonly string[]
}

export interface SignalStream extends StreamSettings {
  readonly id: string
  /** client_id; a receiver has one stream. */
  readonly receiver: string
  /** Up to which entry of the revocation log it was filled. */
  readonly cursor: Epoch
}

export interface QueuedEvent {
  readonly jti: string
  /** The claims of the token, JSON: signed when it is delivered, by the key of then. */
  readonly claims: string
}

export interface SignalStreams {
  /** False where the receiver has one already. */
  create(stream: SignalStream): Promise<boolean>
  list(): Promise<readonly SignalStream[]>
  get(id: string): Promise<SignalStream | undefined>
  ofReceiver(receiver: string): Promise<SignalStream | undefined>
  /** False where there is none (any more). */
  change(id: string, settings: StreamSettings): Promise<boolean>
  /** With everything that waits in it. */
  remove(id: string): Promise<boolean>
  /**
   * In one step, once for each place of the log: the events go to the end of the queue and the cursor to `cursor`.
   * `behind` where the stream was there already, whoever brought it there; `full` where more than `most` would wait, and
   * then nothing is changed.
   */
  append(
    id: string,
    cursor: Epoch,
    events: readonly QueuedEvent[],
    most: number,
  ): Promise<'added' | 'behind' | 'full' | 'gone'>
  /** One more that is of no entry. */
  add(id: string, event: QueuedEvent): Promise<void>
  /** Those that wait longest, oldest first. */
  pending(id: string, limit: number): Promise<readonly QueuedEvent[]>
  /** Answers how many of them waited. */
  acknowledge(id: string, jtis: readonly string[]): Promise<number>
  /** Forgets what waits, and goes on from `cursor`. */
  restart(id: string, cursor: Epoch): Promise<void>
}
