/** From the text of a token to claims that hold. What was seen before is remembered, and most of what is new is not. */
import { createBase64urlReader } from './base64url.ts'
import { type Checked, fail, type Fault } from './checked.ts'
import { type AccessTokenClaims, type Actor, CLOCK_LEEWAY_SECONDS } from './claims.ts'
import { checkTimes } from './claims-check.ts'
import { createClaimsMemory, type ReadClaims } from './claims-text.ts'
import type { Jwks } from './jwks.ts'
import { checkHeader, headerText, MAX_TOKEN_BYTES, type ParsedJws, parseJws } from './jws.ts'
import { createRecent } from './recent.ts'
import { type CheckedHop, hopsOf } from './shapes.ts'
import { checkSignatureAnywhere, type VerifyKey, verifySignature } from './signature.ts'
import type { JsonObject } from './strict-json.ts'
import { ACCESS_TOKEN_HEADER, type AccessTokenRule, checkAccessToken, judgeClaims } from './token-check.ts'

const MAX_REMEMBERED_TOKENS = 10_000
/** Of ES256: 64 bytes. */
const SIGNATURE_BYTES = 64
const SIGNATURE_CHARACTERS = 86
/** The end of a signature, as many bits of it as nobody finds twice. */
const PLACE_CHARACTERS = 24
const MAX_REMEMBERED_HEADERS = 64
const MAX_HEADER_TEXT = 512

/** A token whose signature and claims held once; what changes is looked at each time. */
export interface HeldToken<Caller> {
  readonly token: string
  readonly claims: AccessTokenClaims
  readonly kid: string
  /** The very key it was verified with. */
  readonly keyX: string | undefined
  readonly hops: readonly CheckedHop[]
  /** The agents, the caller first. */
  readonly chain: readonly string[]
  readonly scope: readonly string[]
  /** What it was handed out as, once somebody asked: the same for every request, of which it says nothing. */
  caller: Caller | undefined
  /** What proofs must say as `ath`, once one was asked. */
  hash: string | undefined
}

export interface TokenReaderDeps {
  readonly rule: Required<Omit<AccessTokenRule, 'now'>>
  readonly jwks: Pick<Jwks, 'known'>
  /** Throws where the key is not to be had. */
  readonly findKey: (kid: string) => Promise<VerifyKey>
  readonly time: () => number
  readonly refuse: (fault: Pick<Fault, 'fault' | 'detail'>) => Error
}

/** Throws what `refuse` makes of a fault. At once where the key is here and there is node:crypto. */
export type TokenReader<Caller> = (token: string) => HeldToken<Caller> | Promise<HeldToken<Caller>>

export function createTokenReader<Caller>(deps: TokenReaderDeps): TokenReader<Caller> {
  const { jwks, time, refuse } = deps
  /** By the end of their text: the whole of it is compared when one is found. */
  const remembered = createRecent<HeldToken<Caller>>(MAX_REMEMBERED_TOKENS)
  /** Headers of good tokens by their text: one for each key. */
  const headers = createRecent<{ readonly header: JsonObject; readonly kid: string }>(MAX_REMEMBERED_HEADERS)
  const memory = createClaimsMemory()
  const readSignature = createBase64urlReader(SIGNATURE_BYTES)
  const { issuer, audience, maxLifetimeSeconds, dev } = deps.rule
  const ruleNow = (): AccessTokenRule => ({ issuer, audience, maxLifetimeSeconds, dev, now: time() })

  /** Seen before, and its key is known at once; otherwise it is read anew. */
  function recall(token: string, place: string): HeldToken<Caller> | undefined {
    const known = remembered.get(place)
    if (known?.token !== token) return undefined
    const current = jwks.known(known.kid, 'token')
    if (!current?.ok || current.value.jwk.x !== known.keyX) return undefined
    const times = checkTimes(known.claims, {
      now: time(),
      leeway: CLOCK_LEEWAY_SECONDS,
      maxLifetime: maxLifetimeSeconds,
    })
    if (!times.ok) throw refuse(times)
    return known
  }

  /** One with a known header whose claims read like those before; undefined says nothing. */
  function readAtOnce(token: string, place: string): HeldToken<Caller> | undefined {
    const first = token.indexOf('.')
    const known = headers.get(token.slice(0, Math.max(first, 0)))
    const second = token.length - SIGNATURE_CHARACTERS - 1
    if (!known || token.length > MAX_TOKEN_BYTES || token.charCodeAt(second) !== DOT) return undefined
    const key = jwks.known(known.kid, 'token')
    if (!key?.ok || key.value.alg !== known.header['alg']) return undefined
    const read = memory.read(token.slice(first + 1, second))
    // A dot in either part would be no base64url.
    const signature = read && readSignature(token.slice(second + 1))
    if (!signature) return undefined
    if (!verifySignature(key.value, token.slice(0, second), signature)) throw refuse(fail('bad_signature'))
    const judged = judgeClaims(read.claims, ruleNow())
    if (!judged.ok) throw refuse(judged)
    memory.keep(read)
    return remember(token, place, known.kid, key.value, read)
  }

  function readWhole(token: string, place: string): HeldToken<Caller> | Promise<HeldToken<Caller>> {
    const text = headerText(token)
    const known = headers.get(text)
    // Callers are handed these very claims.
    const parsed = parseJws(token, known ? { header: known.header, frozen: true } : { frozen: true })
    if (!parsed.ok) throw refuse(parsed)
    const header = checkHeader(parsed.value.header, ACCESS_TOKEN_HEADER)
    if (!header.ok) throw refuse(header)
    const kid = header.value.kid!
    const judge = (verifyKey: VerifyKey) => {
      const signed = checkSignatureAnywhere(parsed.value, verifyKey)
      return 'ok' in signed
        ? judged(parsed.value, place, kid, verifyKey, signed)
        : signed.then((settled) => judged(parsed.value, place, kid, verifyKey, settled))
    }
    const key = jwks.known(kid, 'token')
    return key?.ok ? judge(key.value) : deps.findKey(kid).then(judge)
  }

  function judged(
    jws: ParsedJws,
    place: string,
    kid: string,
    key: VerifyKey,
    signed: Checked<true>,
  ): HeldToken<Caller> {
    if (!signed.ok) throw refuse(signed)
    const checked = checkAccessToken(jws, ruleNow())
    if (!checked.ok) throw refuse(checked)
    const claims = checked.value
    const text = headerText(jws.text)
    if (text.length <= MAX_HEADER_TEXT && headers.get(text) === undefined)
      headers.put(text, { header: jws.header, kid })
    memory.learn(jws.signingInput.slice(text.length + 1), claims)
    return remember(jws.text, place, kid, key, {
      claims,
      chain: Object.freeze(chainOf(claims)),
      scope: Object.freeze(claims.scope.split(' ')),
    })
  }

  function remember(
    token: string,
    place: string,
    kid: string,
    key: VerifyKey,
    { claims, chain, scope }: Pick<ReadClaims, 'claims' | 'chain' | 'scope'>,
  ): HeldToken<Caller> {
    const hops = hopsOf(claims, kid)
    if (!hops) throw refuse(fail('bad_claim', 'hops and act differ'))
    const held: HeldToken<Caller> = {
      token,
      claims,
      kid,
      keyX: key.jwk.x,
      hops,
      chain,
      scope,
      caller: undefined,
      hash: undefined,
    }
    remembered.put(place, held)
    return held
  }

  return (token) => {
    const place = token.slice(-PLACE_CHARACTERS)
    return recall(token, place) ?? readAtOnce(token, place) ?? readWhole(token, place)
  }
}

const DOT = 0x2e

function chainOf(claims: AccessTokenClaims): string[] {
  const chain: string[] = []
  for (let actor: Actor | undefined = claims.act; actor; actor = actor.act) chain.push(actor.sub)
  // An autonomous token has no act: its subject is its agent. So is the first of a chain that began autonomously.
  if (chain.length === 0 || (claims.hops?.length ?? 0) >= chain.length) chain.push(claims.sub)
  return chain
}
