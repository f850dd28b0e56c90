/**
 * Ancestors of a delegated token, shortened to fit: what is the same as in the hop before (in the token itself, for
 * the newest) is left out. Keys, policies, epochs and audiences of a chain are mostly the same.
 */
import type { Hop } from './claims.ts'

/** What a hop may leave out. */
export interface Inherited {
  readonly aud: string
  readonly client_id: string
  readonly kid: string
  readonly pol: string
  readonly rev: string
}

/** A hop with everything it says, or leaves to the one before it. */
export type WholeHop = Inherited & Pick<Hop, 'jti' | 'task' | 'rel'>

const NAMES = ['aud', 'client_id', 'kid', 'pol', 'rev'] as const

export function unpackHops(own: Inherited, hops: readonly Hop[]): readonly WholeHop[] {
  let before = own
  return hops.map(({ jti, task, rel, ...said }) => {
    const whole = {
      jti,
      task,
      aud: said.aud ?? before.aud,
      client_id: said.client_id ?? before.client_id,
      kid: said.kid ?? before.kid,
      pol: said.pol ?? before.pol,
      rev: said.rev ?? before.rev,
      ...(rel === undefined ? {} : { rel }),
    }
    before = whole
    return whole
  })
}

export function packHops(own: Inherited, hops: readonly WholeHop[]): readonly Hop[] {
  let before: Inherited = own
  return hops.map((whole) => {
    const { jti, task, rel } = whole
    const said: { -readonly [name in keyof Inherited]?: string } = {}
    for (const name of NAMES) if (whole[name] !== before[name]) said[name] = whole[name]
    before = whole
    return { jti, task, ...said, ...(rel === undefined ? {} : { rel }) }
  })
}
