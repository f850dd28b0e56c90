/**
 * Status List Tokens (draft-ietf-oauth-status-list §5.1): signed when somebody asks for one, or at the latest after a
 * while, and kept for those who ask how it was (§8.4).
 */
import { deflateSync } from 'node:zlib'
import { TYP } from '../oauth/words.ts'
import type { StatusDecoys } from './status-decoys.ts'
import { LIST_SIZE, type OpenedStatusIndexes } from './status-indexes.ts'

/** How long a copy may be used before a fresh one is asked for. */
export const TTL_SECONDS = 5
/** And at all. */
const LIFE_SECONDS = 30
/** One is signed so often also where nobody asks: of every moment there is one. */
const SIGNED_EVERY_SECONDS = 15
const HISTORY_SECONDS = 3600
const MOST_HISTORY_BYTES = 16 * 2 ** 20

export interface SignedList {
  readonly list: string
  /** Compact JWS. */
  readonly token: string
  /** Unix seconds, as `exp`. */
  readonly iat: number
  readonly exp: number
}
interface Current extends SignedList {
  readonly version: number
  readonly kid: string
}

export interface StatusLists {
  /** With everything that is revoked when it is asked for; undefined where there is no such list. */
  current(list: string): Promise<SignedList | undefined>
  /** One that was good at that time, Unix seconds; undefined where none is kept. */
  at(list: string, time: number): Promise<SignedList | undefined>
  uris(): Promise<readonly string[]>
  /** To be called each second or so. */
  tick(): Promise<void>
}

export interface StatusListsDeps {
  readonly now: () => number
  readonly issuer: string
  /** Where the lists are listed. */
  readonly aggregation: string
  readonly uriOf: (list: string) => string
  readonly indexes: Pick<OpenedStatusIndexes, 'refresh' | 'lists' | 'list' | 'sweep'>
  readonly decoys: Pick<StatusDecoys, 'marked'>
  readonly activeKid: () => string
  readonly sign: (typ: string, payload: object) => string | Promise<string>
}

export function createStatusLists(deps: StatusListsDeps): StatusLists {
  const { now, indexes } = deps
  const newest = new Map<string, Current>()
  /** As they were signed. */
  let history: SignedList[] = []
  let bytes = 0

  async function signed(list: string, oldest: number): Promise<SignedList | undefined> {
    const marked = indexes.list(list)
    if (!marked) {
      newest.delete(list)
      return undefined
    }
    const iat = now()
    const kid = deps.activeKid()
    const known = newest.get(list)
    // Signed in the future: the clock went back.
    const isFresh = known && known.iat <= iat && iat - known.iat < oldest
    if (isFresh && known.version === marked.version && known.kid === kid) return known
    const bits = new Uint8Array(LIST_SIZE / 8)
    for (const idx of [...marked.marked, ...deps.decoys.marked(list, iat)]) bits[idx >> 3]! |= 1 << (idx & 7)
    const exp = iat + LIFE_SECONDS
    const token = await deps.sign(TYP.statusList, {
      iss: deps.issuer,
      sub: deps.uriOf(list),
      iat,
      exp,
      ttl: TTL_SECONDS,
      status_list: {
        bits: 1,
        lst: deflateSync(bits, { level: 9 }).toString('base64url'),
        aggregation_uri: deps.aggregation,
      },
    })
    const current = { list, token, iat, exp, version: marked.version, kid }
    newest.set(list, current)
    remember(current)
    return current
  }

  function remember(one: SignedList): void {
    history.push(one)
    bytes += one.token.length
    let over = 0
    for (; history[over]!.exp <= now() - HISTORY_SECONDS || bytes > MOST_HISTORY_BYTES; over++)
      bytes -= history[over]!.token.length
    if (over > 0) history = history.slice(over)
  }

  const current: StatusLists['current'] = async (list) => {
    await indexes.refresh()
    return signed(list, TTL_SECONDS)
  }

  return {
    current,
    async at(list, time) {
      await current(list)
      return history.findLast((one) => one.list === list && one.iat <= time && time < one.exp)
    },
    async uris() {
      await indexes.refresh()
      return indexes.lists().map(deps.uriOf)
    },
    async tick() {
      await indexes.sweep()
      if (indexes.lists().length === 0) return
      await indexes.refresh()
      for (const list of indexes.lists()) await signed(list, SIGNED_EVERY_SECONDS)
    },
  }
}
