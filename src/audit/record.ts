/**
 * The canonical record of an event, and what it seals. The members are an allowlist: what an event holds beyond them
 * never gets in. Their names and meanings are final; later versions only add.
 */
import { canonicalize, canonicalString, isPlain, wellFormed, type Written } from './canonical.ts'
import type { AuditEvent, AuditRecord, Json, Unsealed } from './log.ts'
import type { Subject, SubjectSeal } from './subject-vault.ts'

/** The canonical text in three parts: index and time are known only when it is written. */
export interface Draft {
  readonly head: string
  readonly middle: string
  readonly tail: string
  readonly length: number
}

const MAX_TEXT = 1024
const MAX_DETAIL_DEPTH = 8

/** Under whose key the personal part of an event is sealed; undefined where it has none. */
export function sealedFor(event: AuditEvent): string | undefined {
  if (event.subject !== undefined) return event.subject
  const sub = event.claims?.['sub']
  if (typeof sub === 'string') return sub
  // A purpose without a subject still is somebody's text.
  return event.purpose === undefined ? undefined : `agent:${event.agent ?? event.by ?? ''}`
}

/** What is frozen in events is tidied and written once; what names a subject and nothing else is sealed once. */
export interface DraftMemory {
  readonly written: Written
  readonly tidied: WeakMap<object, Json>
  readonly sealed: WeakMap<SubjectSeal, { readonly subject: Json; readonly sub: Json; readonly text: string }>
}

export const createDraftMemory = (): DraftMemory => ({
  written: new WeakMap(),
  tidied: new WeakMap(),
  sealed: new WeakMap(),
})

/** `sealer` is the vault's answer for `sealedFor(event)`. Throws TypeError where claims have no canonical form. */
export function draftRecord(
  event: AuditEvent,
  logId: string,
  sealer: Subject | undefined,
  memory: DraftMemory = createDraftMemory(),
): Draft {
  const { written } = memory
  const seal = sealer === 'erased' ? undefined : sealer
  const named = event.subject !== undefined || typeof event.claims?.['sub'] === 'string'
  const { open: claims, personal } = splitClaims(event.claims)
  const attestation = event.attestation

  // In the order of RFC 8785 §3.2.3, so nothing is sorted at run time.
  let head = ''
  head += member('agent', event.agent)
  if (attestation !== undefined) {
    const { kind, tier, release } = attestation
    head += `"att":{${member('kind', kind)}${member('release', release)}${`"tier":${quote(tier)}`}},`
  }
  head += member('by', event.by)
  head += member('cause', event.cause)
  if (claims !== undefined) head += `"claims":${canonicalize(claims, written)},`
  head += member('correlation', event.correlation)
  if (event.count !== undefined) head += `"count":${canonicalize(event.count)},`
  head += member('decision', event.decision)
  head += member('decision_id', event.decisionId)
  if (event.details !== undefined) head += `"details":${canonicalize(tidy(event.details, 0, memory), written)},`
  head += member('epoch', event.epoch)

  let middle = member('jti', event.jti)
  middle += `"log":"${logId}",`
  middle += list('operations', event.operations)
  middle += member('parent', event.parentTask)
  middle += member('reason', event.reason)
  middle += member('risk', event.risk)
  middle += member('root', event.root)
  middle += list('rules', event.rules)
  if (seal !== undefined) {
    middle += `"sealed":"${sealPersonal(event, personal, seal, memory)}",`
    if (!named) middle += `"sealed_under":"${seal.hash}",`
  }
  middle += member('source', event.source)
  if (named) middle += `"subject":"${seal?.hash ?? 'erased'}",`

  const tail = `${member('task', event.task)}${member('tool', event.tool)}"type":${quote(event.type)},"v":1}`
  return { head: `{${head}`, middle, tail, length: head.length + middle.length + tail.length + 64 }
}

export const assemble = (draft: Draft, index: number, timeMs: number): string =>
  `${draft.head}"i":${index},${draft.middle}"t":${timeMs},${draft.tail}`

/** What `draftRecord` sealed, opened by the subject's key. */
export function unsealRecord(record: AuditRecord, seal: SubjectSeal): Unsealed | undefined {
  const { sealed, jti, claims } = record
  if (typeof sealed !== 'string') return undefined
  const text =
    seal.open(sealed, SUBJECT_ALONE) ??
    seal.open(sealed, sealContext(record.type, typeof jti === 'string' ? jti : undefined))
  if (text === undefined) return undefined
  const { subject, purpose, claims: personal } = JSON.parse(text) as Unsealed
  return {
    ...(subject === undefined ? {} : { subject }),
    ...(purpose === undefined ? {} : { purpose }),
    ...(claims === undefined ? {} : { claims: { ...(claims as { readonly [name: string]: Json }), ...personal } }),
  }
}

/** Under which hash the sealed part of a record is found. */
export function sealedUnder({ subject, sealed_under }: AuditRecord): string | undefined {
  if (typeof subject === 'string' && subject !== 'erased') return subject
  return typeof sealed_under === 'string' ? sealed_under : undefined
}

/** Text as a record holds it: well-formed and bounded. Searching compares in the same form. */
export function recordText(text: string): string {
  return wellFormed(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1)}…` : text)
}

function sealPersonal(event: AuditEvent, personal: Claims | undefined, seal: SubjectSeal, memory: DraftMemory): string {
  const { type, jti, purpose, subject = null } = event
  if (purpose !== undefined) return seal.seal(canonicalize(personalPart(event, personal)), sealContext(type, jti))
  const sub = personal?.['sub'] ?? null
  const before = memory.sealed.get(seal)
  if (before?.subject === subject && before.sub === sub) return before.text
  const text = seal.seal(canonicalize(personalPart(event, personal)), SUBJECT_ALONE)
  memory.sealed.set(seal, { subject, sub, text })
  return text
}

/** Of every record about a subject that says who it is and no more: each shows the same `subject` anyway. */
const SUBJECT_ALONE = 'subject'
// Moved to another record, what else is sealed does not open.
const sealContext = (type: string, jti: string | undefined) => `${type} ${jti ?? ''}`

const quote = (text: string) =>
  text.length <= MAX_TEXT && isPlain(text) ? `"${text}"` : canonicalString(recordText(text))
const member = (name: string, text: string | undefined) => (text === undefined ? '' : `"${name}":${quote(text)},`)
const list = (name: string, texts: readonly string[] | undefined) =>
  texts === undefined ? '' : `"${name}":[${texts.map(quote).join(',')}],`

type Claims = { readonly [name: string]: Json }

/** A person's `sub` leaves the claims; an agent's SPIFFE id names no person and stays. */
function splitClaims(claims: Claims | undefined): { readonly open?: Claims; readonly personal?: Claims } {
  if (claims === undefined) return {}
  const { sub, ...open } = claims
  if (sub === undefined || (typeof sub === 'string' && sub.startsWith('spiffe://'))) return { open: claims }
  return { open, personal: { sub } }
}

function personalPart({ subject, purpose }: AuditEvent, personal: Claims | undefined): Json {
  const part: { [name: string]: Json } = {}
  if (personal !== undefined) part['claims'] = personal
  if (purpose !== undefined) part['purpose'] = wellFormed(purpose)
  if (subject !== undefined) part['subject'] = wellFormed(subject)
  return part
}

function tidy(value: Json, depth: number, memory: DraftMemory): Json {
  if (typeof value === 'string') return recordText(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth >= MAX_DETAIL_DEPTH) return '…'
  // As deep as it stands the first time: nothing of ours is at two depths.
  const known = memory.tidied.get(value)
  if (known !== undefined) return known
  const made = tidyMembers(value, depth, memory)
  if (Object.isFrozen(value)) memory.tidied.set(value, Object.freeze(made))
  return made
}

/** A copy only where something had to be put right, which is seldom. */
function tidyMembers(value: object, depth: number, memory: DraftMemory): Json {
  const whole = value as Json & object
  if (Array.isArray(value)) {
    const items = value.map((item: Json) => tidy(item, depth + 1, memory))
    return items.every((item, at) => item === value[at]) ? whole : items
  }
  const members = value as { readonly [name: string]: Json }
  const isTidy = (name: string) =>
    recordText(name) === name && tidy(members[name]!, depth + 1, memory) === members[name]
  if (Object.keys(value).every(isTidy)) return whole
  return Object.fromEntries(
    Object.entries(members).map(([name, item]) => [recordText(name), tidy(item, depth + 1, memory)]),
  )
}
