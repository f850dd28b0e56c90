/** Records as events of the Open Cybersecurity Schema Framework, 1.3: the class that fits, and the whole record beside it. */
import type { AuditRecord, EventType, Json } from './log.ts'

const VERSION = '1.3.0'

/** Class and activity, as the schema numbers them. */
interface Kind {
  readonly class: number
  readonly activity: number
}

const AUTHENTICATION = 3002
const AUTHORIZE_SESSION = 3003
const ENTITY_MANAGEMENT = 3004
const APPLICATION_LIFECYCLE = 6002
const API_ACTIVITY = 6003

const LOGON = 1
const ASSIGN_PRIVILEGES = 1
const [CREATE, READ, UPDATE, DELETE] = [1, 2, 3, 4]
const [START, STOP] = [3, 4]
const OTHER = 99

const api = (activity: number): Kind => ({ class: API_ACTIVITY, activity })
const entity = (activity: number): Kind => ({ class: ENTITY_MANAGEMENT, activity })

const KINDS: Partial<Record<EventType, Kind>> = {
  'token.issuing': { class: AUTHORIZE_SESSION, activity: ASSIGN_PRIVILEGES },
  'token.reissued': { class: AUTHORIZE_SESSION, activity: ASSIGN_PRIVILEGES },
  'token.unsigned': api(CREATE),
  'token.refused': api(CREATE),
  'token.introspected': api(READ),
  'token.inspected_refused': api(READ),
  'task.opened': entity(CREATE),
  'agent.admitted': entity(CREATE),
  'task.ended': entity(DELETE),
  'task.suspended': entity(UPDATE),
  'task.contained': entity(UPDATE),
  'task.heartbeat': entity(UPDATE),
  'task.reserved': api(UPDATE),
  'task.refused': api(UPDATE),
  'revocation.added': entity(CREATE),
  'revocation.readmitted': entity(DELETE),
  'revocation.resumed': entity(DELETE),
  'receipt.issued': api(READ),
  'subject.signed_out': entity(UPDATE),
  'decision.evaluated': api(READ),
  'agent.joining': entity(CREATE),
  'agent.join_refused': api(CREATE),
  'key.moved': entity(UPDATE),
  'config.loaded': entity(UPDATE),
  'config.rejected': entity(UPDATE),
  'trust.changed': entity(UPDATE),
  'signal.refused': api(UPDATE),
  'admin.acted': api(UPDATE),
  'admin.refused': api(UPDATE),
  'strangers.refused': { class: AUTHENTICATION, activity: LOGON },
  'service.sealed': entity(CREATE),
  'service.unsealed': entity(DELETE),
  'service.started': { class: APPLICATION_LIFECYCLE, activity: START },
  'service.stopped': { class: APPLICATION_LIFECYCLE, activity: STOP },
}

/** What kind of thing a record is about, by the first part of its type. */
const categoryOf = (classId: number) => Math.floor(classId / 1000)
const text = (value: Json | undefined): string | undefined => (typeof value === 'string' ? value : undefined)
const known = (members: { readonly [name: string]: Json | undefined }): { [name: string]: Json } =>
  Object.fromEntries(Object.entries(members).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))

/** One event; `metadata.uid` is log and index, so that what comes twice is told as once. */
export function toOcsf(record: AuditRecord): { readonly [name: string]: Json } {
  const { i, t, type, decision, reason } = record
  const log = text(record['log']) ?? ''
  const kind = KINDS[type] ?? { class: API_ACTIVITY, activity: OTHER }
  const refused = decision === 'refuse' || /(?:refused|rejected|unsigned)$/.test(type)
  return known({
    activity_id: kind.activity,
    category_uid: categoryOf(kind.class),
    class_uid: kind.class,
    type_uid: kind.class * 100 + kind.activity,
    severity_id: refused ? 2 : 1,
    status_id: refused ? 2 : 1,
    status_detail: text(reason),
    time: t,
    message: type,
    metadata: known({
      version: VERSION,
      product: { name: 'Errand', vendor_name: 'Errand' },
      uid: `${log}/${i}`,
      sequence: i,
      log_name: log,
      event_code: type,
      correlation_uid: text(record['correlation']),
    }),
    ...ofClass(kind.class, record),
    unmapped: record as Json,
  })
}

/** What the class requires. A subject is the keyed hash that the record has. */
function ofClass(classId: number, record: AuditRecord): { readonly [name: string]: Json | undefined } {
  const { type, operations, tool, source, count } = record
  const actor = actorOf(record)
  switch (classId) {
    case AUTHORIZE_SESSION:
      return {
        actor,
        user: userOf(record),
        session: known({ uid: text(record['jti']), issuer: undefined }),
        privileges:
          Array.isArray(operations) && operations.length > 0 ? operations.map((each) => `${tool}:${each}`) : ['none'],
      }
    case ENTITY_MANAGEMENT:
      return { actor, entity: entityOf(record) }
    case APPLICATION_LIFECYCLE:
      return { app: { name: 'Errand', vendor_name: 'Errand' } }
    case AUTHENTICATION:
      return { user: { name: 'unknown', type_id: 0 }, src_endpoint: endpointOf(text(source)), count }
    default:
      return {
        actor,
        api: known({ operation: type, service: known({ name: text(tool) ?? 'errand' }) }),
        src_endpoint: endpointOf(text(source)),
      }
  }
}

const endpointOf = (source: string | undefined): Json => {
  if (source === undefined) return { name: 'unknown' }
  // A block of IPv6 addresses is no address.
  return source.includes('/') ? { name: source } : { ip: source }
}

function actorOf(record: AuditRecord): Json {
  const name = text(record['agent']) ?? text(record['by']) ?? 'system'
  return { user: { name, uid: name, type_id: name === 'system' ? 3 : record['agent'] === undefined ? 2 : 99 } }
}

function userOf(record: AuditRecord): Json {
  const subject = text(record['subject'])
  return subject === undefined
    ? { name: text(record['agent']) ?? 'unknown', type_id: 99 }
    : { uid: subject, name: subject, type_id: 1 }
}

function entityOf({ type, ...record }: AuditRecord): Json {
  const details = (record['details'] ?? {}) as { readonly [name: string]: Json }
  const uid = [record['task'], record['cause'], details['kid'], details['digest'], record['agent']].find(
    (each) => typeof each === 'string',
  )
  return { type: type.slice(0, type.indexOf('.')), uid: uid ?? type, name: uid ?? type }
}
