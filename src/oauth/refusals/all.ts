/**
 * The words of every refusal. A new reason gets its answer in ../refusal.ts and one entry here, in the file of its
 * family: tokens (form), issuers-and-kinds, exchange (scope, tasks, delegation, grants), request, possession,
 * attestation (evidence of any kind), certificates, service (not now), at-tools. Without one this file does not
 * compile. The page docs/refusals/<reason>.md is made of it by `npm run generate`.
 */
import type { Reason, Refusal } from '../refusal.ts'
import { AT_TOOLS, type ToolCode } from './at-tools.ts'
import { ATTESTATION } from './attestation.ts'
import { CERTIFICATES } from './certificates.ts'
import { EXCHANGE } from './exchange.ts'
import { ISSUERS_AND_KINDS } from './issuers-and-kinds.ts'
import { POSSESSION } from './possession.ts'
import { REQUEST } from './request.ts'
import { SERVICE } from './service.ts'
import { TOKENS } from './tokens.ts'
import type { Step, Words } from './words.ts'

/** A missing reason is a missing property here; a name that is no reason is one too many in its family. */
export const WORDS: Readonly<Record<Reason, Words>> = {
  ...TOKENS,
  ...ISSUERS_AND_KINDS,
  ...EXCHANGE,
  ...REQUEST,
  ...POSSESSION,
  ...ATTESTATION,
  ...CERTIFICATES,
  ...SERVICE,
}

/** What a page can be about: reasons of the service, and what only tools answer. */
export type Subject = Reason | ToolCode
export const SUBJECTS = [...Object.keys(WORDS), ...Object.keys(AT_TOOLS)] as readonly Subject[]

export const isSubject = (text: string): text is Subject => Object.hasOwn(WORDS, text) || Object.hasOwn(AT_TOOLS, text)
export const isAtTools = (subject: Subject): subject is ToolCode => Object.hasOwn(AT_TOOLS, subject)
export const wordsOf = (subject: Subject): Words => (isAtTools(subject) ? AT_TOOLS[subject] : WORDS[subject])

/** What helps, where it was presented. */
export function stepFor({ reason, slot }: Pick<Refusal, 'reason' | 'slot'>): Step {
  const { action, next, inSlot } = WORDS[reason]
  return inSlot?.[slot] ?? { action, next }
}
