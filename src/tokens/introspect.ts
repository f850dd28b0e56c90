/** Whether one of our tokens is good at this moment (RFC 7662), for a caller that may know. */
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { hopsOf } from '@errand/verifier/shapes.ts'
import type { SubjectReaderDeps, SubjectToken } from './subject.ts'
import { createSubjectReader } from './subject.ts'
import { TOKEN_TYPE, TYP } from '../oauth/words.ts'
import type { Revocations } from './revocations.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { hopsOfHandOver } from './hand-over.ts'
import { plainTyp } from './kinds.ts'

export type OwnToken = Extract<SubjectToken, { kind: 'own' | 'hand_over' }>

export interface Introspected {
  readonly active: boolean
  readonly token?: OwnToken
  /** The entry that killed it, where one did. */
  readonly dead?: string
}

export interface IntrospectDeps extends Omit<SubjectReaderDeps, 'byIss'> {
  readonly revocations: Revocations
}

/** Reads any token of ours; everything else, and everything bad, is just not active. */
export function createIntrospect(deps: IntrospectDeps): (token: string) => Promise<Introspected> {
  const read = createSubjectReader({ ...deps, byIss: () => undefined })
  return async (token) => {
    const parsed = parseJws(token)
    if (!parsed.ok) return { active: false }
    const handOver = plainTyp(parsed.value.header.typ) === TYP.handOver
    const own = await read(token, handOver ? TOKEN_TYPE.handOver : TOKEN_TYPE.accessToken)
    if (!own.ok || own.value.kind === 'user') return { active: false }
    const { claims, kid } = own.value
    const hops = own.value.kind === 'own' ? hopsOf(own.value.claims, kid) : hopsOfHandOver(own.value.claims, kid)
    if (!hops) return { active: false }
    const { dead } = await deps.revocations.check({ hops })
    if (dead) return { active: false, token: own.value, dead: dead.entry }
    if (claims.exp - claims.iat > MAX_TOKEN_LIFETIME_SECONDS) return { active: false }
    return { active: true, token: own.value }
  }
}
