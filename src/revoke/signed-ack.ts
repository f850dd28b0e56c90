/**
 * An acknowledgement that a verifier signed, so that whoever carries it can neither change it nor be it: of a kind of its
 * own, which authenticates nothing else. Sent again it says what was true a moment ago, and nobody is believed less for it.
 */
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import type { MachineClient } from '../attest/registration.ts'
import { ok, type Reason, type Result, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { typFits } from '../tokens/kinds.ts'
import { signedBy } from './signals/signed-by.ts'

const LIFE_SECONDS = 60
const OWN: readonly string[] = ['iss', 'aud', 'iat']

/** Who says it, and what, still to be read. */
export interface SignedAck {
  readonly tool: MachineClient
  readonly said: { readonly [name: string]: unknown }
}

export async function readSignedAck(
  token: string,
  deps: {
    readonly now: number
    readonly issuer: string
    readonly machineOf: (clientId: string) => MachineClient | undefined
  },
): Promise<Result<SignedAck>> {
  const no = (reason: Reason) => refuse(reason, 'request')
  const jws = parseJws(token)
  if (!jws.ok) return no(jws.fault)
  if (!typFits(jws.value.header['typ'], 'acknowledgement')) return no('wrong_typ')
  const { payload } = jws.value
  const { iss, aud, iat } = payload
  const tool = typeof iss === 'string' ? deps.machineOf(iss) : undefined
  if (tool?.kind !== 'tool') return no('unknown_client')
  const signed = await signedBy(jws.value, TYP.acknowledgement, {
    keys: async (kid) => tool.keys.find((key) => key.kid === kid),
    algorithms: ['ES256'],
  })
  if (!signed.ok) return no(signed.refusal.reason)
  if (aud !== deps.issuer) return no('wrong_audience')
  const issued = readNumericDate(iat)
  if (!issued.ok) return no('bad_numeric_date')
  if (issued.value > deps.now + CLOCK_LEEWAY_SECONDS) return no('not_yet_valid')
  if (issued.value < deps.now - LIFE_SECONDS - CLOCK_LEEWAY_SECONDS) return no('expired')
  return ok({ tool, said: Object.fromEntries(Object.entries(payload).filter(([name]) => !OWN.includes(name))) })
}
