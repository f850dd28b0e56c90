/**
 * Claims straight out of the text of a payload, by what good tokens said before: most of it many tokens say, in one
 * order. What is read here the strict reader and claims-check.ts would read the same and refuse nothing of. Undefined
 * says nothing: then they read it, and name what is wrong.
 */
import { decodeBase64urlText } from './base64url.ts'
import type { AccessTokenClaims, Actor, ToolAuthorization } from './claims.ts'
import { isGoodMember, TEXT_FORMS } from './claims-check.ts'
import { parseEpoch } from './epoch.ts'
import { scopeOfDetails } from './grants.ts'
import { createRecent, type Recent } from './recent.ts'
import { parseStrictJson } from './strict-json.ts'

export interface ReadClaims {
  /** Frozen, all of it. */
  readonly claims: AccessTokenClaims
  /** The agents, the caller first. */
  readonly chain: readonly string[]
  readonly scope: readonly string[]
  /** What no token said before. */
  readonly fresh: readonly Known[]
}

export interface ClaimsMemory {
  /** `payload` is base64url, as it stands in a token. */
  read(payload: string): ReadClaims | undefined
  // Both of a token whose signature and claims held: nobody else's words are kept.
  keep(read: ReadClaims): void
  learn(payload: string, claims: AccessTokenClaims): void
}

/** A value with its whole text: the same text is the same value. */
interface Known {
  readonly text: string
  readonly memory: Memory
  readonly value: unknown
  /** Of the actor its chain, of the details the scope they are, as a list and as text. */
  readonly list: readonly string[]
  readonly said: string
}
interface Memory {
  readonly name: 'act' | 'att' | 'authorization_details'
  /** Most tokens say what the last one said. */
  last: Known | undefined
  readonly recent: Recent<Known>
}

/** One value, and what stands between it and the one before it. */
interface Slot {
  readonly before: string
  readonly name: string
}
/** The order in which tokens of this issuer for this audience say their members. */
interface Frame {
  readonly names: string
  readonly slots: readonly Slot[]
  readonly after: string
  readonly iss: string
  readonly aud: string
}

const MAX_FRAMES = 4
const MAX_KNOWN = 1024
/** With the few other members of a frame it stays below the bounds of the strict reader, whatever it holds. */
const MAX_TEXT = 2000
/** One level less than a whole text: the value is a member. */
const LIMITS = { frozen: true, maxDepth: 15 } as const
const ASCII = /^[\x20-\x7e]*$/

export function createClaimsMemory(): ClaimsMemory {
  const frames: Frame[] = []
  const memoryOf = (name: Memory['name']): Memory => ({ name, last: undefined, recent: createRecent(MAX_KNOWN) })
  const actors = memoryOf('act')
  const attestations = memoryOf('att')
  const authorizations = memoryOf('authorization_details')
  let lastRev: string | undefined

  function knownAt(memory: Memory, text: string, at: number): Known | undefined {
    const { last } = memory
    // Equal to a whole value, so the value ends there: what follows is compared next.
    if (last !== undefined && text.slice(at, at + last.text.length) === last.text) return last
    const end = endOf(text, at)
    if (end < 0 || end - at > MAX_TEXT) return undefined
    const own = text.slice(at, end)
    const known = memory.recent.get(own)
    if (known === undefined) return readValue(memory, own)
    memory.last = known
    return known
  }

  function readBy({ slots, after, iss, aud }: Frame, text: string): ReadClaims | undefined {
    let exp = 0
    let iat = 0
    let depth = 0
    let at = 0
    let clientId = ''
    let jti = ''
    let pol = ''
    let sub = ''
    let jkt = ''
    let task = ''
    let root = ''
    let scope = ''
    let rev = ''
    let act: Known | undefined
    let att: Known | undefined
    let details: Known | undefined
    for (let index = 0; index < slots.length; index++) {
      const { before, name } = slots[index]!
      const from = at + before.length
      if (text.slice(at, from) !== before) return undefined
      switch (name) {
        case 'act':
        case 'att':
        case 'authorization_details': {
          const known = knownAt(name === 'act' ? actors : name === 'att' ? attestations : authorizations, text, from)
          if (known === undefined) return undefined
          if (name === 'act') act = known
          else if (name === 'att') att = known
          else details = known
          at = from + known.text.length
          continue
        }
        case 'exp':
        case 'iat':
        case 'task.depth': {
          let value = 0
          for (at = from; ; at++) {
            const digit = text.charCodeAt(at) - 0x30
            if (!(digit >= 0 && digit <= 9)) break
            value = value * 10 + digit
          }
          // No zero in front, and no more digits than a double holds.
          if (text.charCodeAt(from) === 0x30 || at === from || at - from > 15) return undefined
          if (name === 'exp') exp = value
          else if (name === 'iat') iat = value
          else depth = value
          continue
        }
      }
      at = text.indexOf('"', from)
      if (at < 0) return undefined
      const value = text.slice(from, at)
      switch (name) {
        case 'scope':
          scope = value
          continue
        case 'rev':
          if (value !== lastRev && parseEpoch(value) === undefined) return undefined
          rev = lastRev = value
          continue
        case 'client_id':
          clientId = value
          break
        case 'jti':
          jti = value
          break
        case 'pol':
          pol = value
          break
        case 'sub':
          sub = value
          break
        case 'cnf.jkt':
          jkt = value
          break
        case 'task.id':
          task = value
          break
        case 'task.root':
          root = value
          break
      }
      if (!TEXT_FORMS[name as keyof typeof TEXT_FORMS].test(value)) return undefined
    }
    if (text.slice(at) !== after || scope !== details!.said) return undefined
    const claims: { -readonly [member in keyof AccessTokenClaims]: AccessTokenClaims[member] } = {
      iss,
      aud,
      exp,
      iat,
      jti,
      client_id: clientId,
      sub,
      scope: details!.said,
      authorization_details: details!.value as readonly ToolAuthorization[],
      task: Object.freeze({ id: task, root, depth }),
      att: att!.value as AccessTokenClaims['att'],
      rev,
      pol,
    }
    if (act) claims.act = act.value as Actor
    if (jkt !== '') claims.cnf = Object.freeze({ jkt })
    const known = isKnown(act) && isKnown(att) && isKnown(details)
    return {
      claims: Object.freeze(claims),
      // An autonomous token has no act: its subject is its agent.
      chain: act ? act.list : Object.freeze([sub]),
      scope: details!.list,
      fresh: known ? NOTHING : [act, att, details].filter((value) => value !== undefined),
    }
  }

  return {
    read(payload) {
      const text = frames.length === 0 ? undefined : decodeBase64urlText(payload)
      // Without escapes a quote is the end of a string, wherever it stands in one.
      if (text === undefined || text.includes('\\')) return undefined
      for (let index = 0; index < frames.length; index++) {
        const read = readBy(frames[index]!, text)
        if (read) return read
      }
      return undefined
    },
    keep({ fresh }) {
      for (const known of fresh) {
        known.memory.recent.put(known.text, known)
        known.memory.last = known
      }
    },
    learn(payload, claims) {
      const frame = frameOf(claims)
      if (!frame || frames.some(({ names }) => names === frame.names)) return
      // Written without a space, an escape or anything else of which the frame would know nothing.
      if (JSON.stringify(claims) !== decodeBase64urlText(payload)) return
      frames.unshift(frame)
      if (frames.length > MAX_FRAMES) frames.pop()
    },
  }

  function readValue(memory: Memory, text: string): Known | undefined {
    if (!ASCII.test(text)) return undefined
    const read = parseStrictJson(text, LIMITS)
    if (!read.ok || !isGoodMember(memory.name, read.value)) return undefined
    const { value } = read
    const said = memory.name === 'authorization_details' ? scopeOfDetails(value as never) : ''
    const list: string[] = memory.name === 'authorization_details' ? said.split(' ') : []
    if (memory.name === 'act')
      for (let actor = value as unknown as Actor | undefined; actor; actor = actor.act) list.push(actor.sub)
    return { text, memory, value, list: Object.freeze(list), said }
  }
}

const NOTHING: readonly Known[] = []
const isKnown = (value: Known | undefined): boolean => value === undefined || value.memory.last === value

/** Where the object or list that begins here ends; negative where it does not. */
function endOf(text: string, at: number): number {
  let depth = 0
  for (; at < text.length; at++)
    switch (text.charCodeAt(at)) {
      case 0x22:
        at = text.indexOf('"', at + 1)
        if (at < 0) return -1
        break
      case 0x5b:
      case 0x7b:
        depth++
        break
      case 0x5d:
      case 0x7d:
        if (--depth === 0) return at + 1
        break
    }
  return -1
}

const NUMBERS: ReadonlySet<string> = new Set(['exp', 'iat', 'task.depth'])
const COMPOSITES: ReadonlySet<string> = new Set(['act', 'att', 'authorization_details'])

/** Undefined for tokens that say what is seldom said. */
function frameOf(claims: AccessTokenClaims): Frame | undefined {
  const slots: Slot[] = []
  const names: string[] = []
  let before = ''
  const add = (path: string, members: object): boolean => {
    let next = '{'
    for (const [name, value] of Object.entries(members)) {
      before += `${next}"${name}":`
      next = ','
      const whole = path + name
      names.push(whole)
      if (whole === 'iss' || whole === 'aud') before += JSON.stringify(value)
      else if (whole === 'task' || whole === 'cnf') {
        if (!add(`${whole}.`, value as object)) return false
      } else if (NUMBERS.has(whole) || COMPOSITES.has(whole)) {
        slots.push({ before, name: whole })
        before = ''
      } else if (whole === 'scope' || whole === 'rev' || Object.hasOwn(TEXT_FORMS, whole)) {
        slots.push({ before: `${before}"`, name: whole })
        before = '"'
      } else return false
    }
    before += '}'
    return true
  }
  if (!add('', claims)) return undefined
  return { names: names.join(), slots, after: before, iss: claims.iss, aud: claims.aud }
}
