/** What can be wrong with a log on disk, and the error that refuses to open it. */

export type DamageKind =
  | 'bad_crc' // a frame's bytes are not what was written
  | 'not_canonical' // intact bytes that are no canonical record
  | 'missing' // the index that should stand here is not there
  | 'out_of_order' // another index stands here
  | 'duplicate_segment' // a file whose records stand in another one already
  | 'missing_segment'
  | 'bad_segment_header'
  | 'wrong_log' // a record or a segment of another log
  | 'duplicate_jti' // one jti in two intents
  | 'clock_unrecorded' // time went back and no `clock_regressed` says so
  | 'torn_tail' // the last write was cut off; the service repairs it at its next start
  | 'zero_tail'
  | 'stray_file'
  | 'altered' // a good record in its place, but not the one that was put into the tree
  | 'bad_tile' // a stored tile is missing, or its hashes are not those of the records
  | 'bad_checkpoint' // no checkpoint of this log, or not signed by its keys
  | 'checkpoint_ahead' // it speaks of more records than there are
  | 'checkpoint_mismatch' // its root is not that of the records: they, or it, are another history
  | 'format_newer' // written by a newer version of Errand

export interface Damage {
  /** The index at which the log first is not what it was. */
  readonly index: number
  readonly kind: DamageKind
  readonly file: string
  readonly detail: string
}

/** The log cannot be opened as it is. Thrown at start: nothing is changed on disk before it. */
export class AuditDamage extends Error {
  readonly kind: DamageKind
  readonly index: number
  readonly file: string
  constructor(kind: DamageKind, index: number, file: string, detail: string) {
    super(`audit log: ${kind} at index ${index} in ${file}: ${detail}`)
    this.name = 'AuditDamage'
    this.kind = kind
    this.index = index
    this.file = file
  }
}
