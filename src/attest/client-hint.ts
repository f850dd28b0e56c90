/** Who a request says it comes from, before anybody believes it: enough to tell one client's nonces from another's. */
import { parseJws } from '@errand/verifier/jws.ts'

/** The subject of the assertion, or else the client id that the request names. */
export function clientHint({ assertion, clientId }: { assertion?: string; clientId?: string }): string | undefined {
  if (assertion === undefined) return clientId
  const jws = parseJws(assertion)
  const sub = jws.ok ? jws.value.payload['sub'] : undefined
  return typeof sub === 'string' ? sub : clientId
}
