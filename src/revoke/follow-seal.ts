/** What happens when the store was sealed and is open again: it is written down, and what was under way is carried on. */
import type { AuditEvent } from '../audit/log.ts'
import type { StoreSealing } from './store-seal.ts'

export interface FollowSealDeps {
  readonly sealing: StoreSealing
  readonly audit: { append(event: AuditEvent): Promise<unknown> }
  /** Tasks of what was given back are ended, paused and narrowed again. */
  readonly carryOn: () => Promise<void>
  readonly onError: (error: unknown) => void
}

export function followSeal({ sealing, audit, carryOn, onError }: FollowSealDeps): void {
  sealing.listen((told) => {
    if (told.event === 'sealed') {
      audit.append({ type: 'store.sealed', by: 'system', details: { why: told.why } }).catch(onError)
      return
    }
    const { generation, seconds, without } = told
    audit
      .append({
        type: 'store.unsealed',
        by: 'system',
        details: { generation, seconds, ...(without.length === 0 ? {} : { without }) },
      })
      .catch(onError)
    carryOn().catch(onError)
  })
}
