/** Whether the identity providers that the configuration trusts are there, and are who it says; and whether a token fits. */
import { readBundle } from '../attest/bundle.ts'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey } from '@errand/verifier/signature.ts'
import { discoverIssuer } from '../config/discover-issuer.ts'
import type { FetchJwks } from '../config/fetch-jwks.ts'
import { readPublicKeys } from '../config/jwks.ts'
import type { IssuerFile } from '../config/issuer-file.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { clockFinding, type Finding, good, weak, wrong } from './doctor-finding.ts'
import { text, texts } from './rows.ts'

export async function issuerFindings(
  files: readonly IssuerFile[],
  { fetch, development, now }: { readonly fetch: FetchJwks; readonly development: boolean; readonly now: () => number },
): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const file of files) {
    if (file.kind === 'workload') {
      findings.push(...(await bundleFindings(file, fetch)))
      continue
    }
    const { name, issuer, jwks_uri: uri } = file
    if (uri === undefined) {
      findings.push(good('issuer_by_file', `${name}: its keys come from a file`))
      continue
    }
    // Vouched for by authorities of its own, which the service alone has at hand.
    if ('jwks_ca_file' in file && file.jwks_ca_file !== undefined) continue
    const before = now()
    let fetched: Awaited<ReturnType<FetchJwks>>
    try {
      fetched = await fetch(uri)
      const keys = readPublicKeys(JSON.parse(fetched.text), file.algorithms)
      if (!keys.ok) throw new Error(keys.why)
      findings.push(
        good('issuer_keys', `${name}: ${keys.keys.length} key${keys.keys.length === 1 ? '' : 's'} at ${uri}`),
      )
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      findings.push(
        wrong(
          'issuer_unreachable',
          `${name}: no usable keys at ${uri} (${code ?? message})`,
          'is the address right, public and open from here? Elsewhere a copy of its keys: jwks_file',
        ),
      )
      continue
    }
    if (fetched.time !== undefined)
      findings.push(clockFinding(fetched.time + 0.5 - (before + now()) / 2, name, CLOCK_LEEWAY_SECONDS))
    // Only who signs users in has metadata that says so.
    if (file.kind !== 'user' || issuer === undefined) continue
    const found = await discoverIssuer(issuer, { fetch, development })
    if (!found.ok && found.callsItself !== undefined)
      findings.push(
        wrong(
          'issuer_is_another',
          `${name}: ${issuer} calls itself ${found.callsItself}: none of its tokens is taken`,
          `issuer: ${found.callsItself} in its file`,
        ),
      )
    else if (found.ok && found.value.jwksUri !== uri)
      findings.push(
        weak(
          'issuer_keys_moved',
          `${name}: its metadata names other keys, ${found.value.jwksUri}`,
          `jwks_uri: ${found.value.jwksUri} in its file`,
        ),
      )
  }
  return findings
}

/** Whether the bundle of a trust domain can be fetched and read, where any client of the web can see. */
async function bundleFindings(
  { trust_domain: name, bundle_endpoint: endpoint }: Extract<IssuerFile, { kind: 'workload' }>,
  fetch: FetchJwks,
): Promise<readonly Finding[]> {
  if (!endpoint) return [good('bundle_by_file', `${name}: its bundle comes from a file`)]
  if (endpoint.profile !== 'https_web' || endpoint.ca_file !== undefined) return []
  try {
    const bundle = readBundle((await fetch(endpoint.url)).text, { name, file: endpoint.url })
    if (!bundle.ok) throw new Error(bundle.problem)
    return [good('bundle_fetched', `${name}: its bundle at ${endpoint.url} reads`)]
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const mend = 'is the address right, public and open from here? The bundle before it serves meanwhile'
    return [wrong('bundle_unreachable', `${name}: no usable bundle at ${endpoint.url} (${code ?? message})`, mend)]
  }
}

/** A user's token held against the issuers, member by member: which of them is what keeps it from being taken. */
export async function userTokenFindings(token: string, snapshot: Snapshot, now: number): Promise<readonly Finding[]> {
  const parsed = parseJws(token)
  if (!parsed.ok)
    return [
      wrong('token_unreadable', `it is no signed JWT (${parsed.fault})`, 'an id token, or an access token of RFC 9068'),
    ]
  const { header, payload } = parsed.value
  const iss = text(payload['iss']) ?? ''
  const issuer = snapshot.issuers.byIss(iss)
  if (!issuer) {
    const known = snapshot.issuers.all.map((each) => each.issuer).join(' ')
    return [
      wrong(
        'token_issuer',
        `its issuer is ${iss || 'missing'}, and these are trusted: ${known}`,
        'compare them letter by letter: a slash at the end counts',
      ),
    ]
  }
  const findings: Finding[] = []
  const file = `the file of the issuer ${issuer.name}`
  const audiences = typeof payload['aud'] === 'string' ? [payload['aud']] : texts(payload['aud'])
  if (audiences.some((each) => issuer.audiences.includes(each)))
    findings.push(good('token_audience', `its audience is ${audiences.join(' ')}`))
  else
    findings.push(
      wrong(
        'token_audience',
        `its audience is ${audiences.join(' ') || 'missing'}, and ${issuer.audiences.join(' ')} is expected`,
        `ask your identity provider for tokens for Errand, or name the audience in ${file}`,
      ),
    )
  const kind = (text(header['typ']) ?? 'JWT').toLowerCase().replace(/^application\//, '')
  const type = kind === 'at+jwt' ? 'access_token' : 'id_token'
  if (!issuer.tokenTypes.includes(type))
    findings.push(
      wrong(
        'token_type',
        `it is an ${type.replace('_', ' ')} (typ ${kind})`,
        `token_types: [${[...issuer.tokenTypes, type].join(', ')}] in ${file}`,
      ),
    )
  const [iat, exp] = [Number(payload['iat']), Number(payload['exp'])]
  if (!(exp > now)) findings.push(wrong('token_expired', 'it has expired', 'take a fresh one'))
  if (iat > now + CLOCK_LEEWAY_SECONDS)
    findings.push(wrong('token_early', 'it was made in the future', 'a clock is wrong: NTP'))
  if (exp - iat > issuer.maxTokenLifetimeSeconds)
    findings.push(
      wrong(
        'token_long',
        `it lives ${Math.round(exp - iat)} s, and ${issuer.maxTokenLifetimeSeconds} are the most`,
        `shorter tokens, or max_token_lifetime_seconds in ${file}`,
      ),
    )
  const groups = payload[issuer.groupsClaim]
  if (!Array.isArray(groups))
    findings.push(
      weak(
        'token_groups',
        `it names no groups: there is no list in its claim ${issuer.groupsClaim}`,
        `have them put there, or set groups_claim in ${file}; it has: ${Object.keys(payload).join(' ')}`,
      ),
    )
  else {
    const rights = issuer.rights({ sub: text(payload['sub']) ?? '', groups: texts(groups) })
    findings.push(
      rights.length === 0
        ? weak('token_rights', `its groups, ${texts(groups).join(' ') || 'none'}, give no right`, `rights in ${file}`)
        : good(
            'token_rights',
            `its groups give ${rights.length} right${rights.length === 1 ? '' : 's'}: ${rights
              .slice(0, 5)
              .map(({ tool, operation }) => `${tool}:${operation}`)
              .join(' ')}${rights.length > 5 ? ' …' : ''}`,
          ),
    )
  }
  const kid = text(header['kid'])
  const jwk = kid === undefined ? undefined : await issuer.keys(kid).catch(() => undefined)
  const key = jwk && importVerifyKey(jwk, { algs: issuer.algorithms })
  if (!key?.ok)
    findings.push(
      wrong(
        'token_key',
        `its key, kid ${kid ?? 'missing'}, is not among those of ${issuer.name}`,
        'are jwks_uri or jwks_file, and algorithms, those of this issuer?',
      ),
    )
  else
    findings.push(
      checkSignature(parsed.value, key.value).ok
        ? good('token_signature', 'its signature verifies')
        : wrong('token_signature', 'its signature does not verify', 'was it copied whole?'),
    )
  return findings
}
