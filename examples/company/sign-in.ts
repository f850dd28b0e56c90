/** Signs a person in as their browser would: authorization code with PKCE, login form, consent, cookies and all. */
import * as client from 'openid-client'

/** Cookies by name, for one host: all that this flow needs of a browser. */
function cookieJar() {
  const cookies = new Map<string, string>()
  return {
    header: () => [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
    keep(response: Response) {
      for (const line of response.headers.getSetCookie()) {
        const pair = line.split(';', 1)[0]!
        const at = pair.indexOf('=')
        const value = pair.slice(at + 1)
        if (value === '' || /expires=Thu, 01 Jan 1970/i.test(line)) cookies.delete(pair.slice(0, at))
        else cookies.set(pair.slice(0, at), value)
      }
    },
  }
}

export interface SignedIn {
  /** Access token (RFC 9068) whose audience is Errand. */
  readonly accessToken: string
  readonly idTokenClaims: { readonly [name: string]: unknown }
  /** What the browser saw, for the narration. */
  readonly steps: readonly string[]
}

export async function signIn(options: {
  readonly issuer: string
  readonly resource: string
  readonly login: string
  readonly password: string
}): Promise<SignedIn> {
  // An http issuer on this machine: the library wants that said in as many words.
  const config = await client.discovery(new URL(options.issuer), 'assistant-app', undefined, client.None(), {
    execute: [client.allowInsecureRequests],
  })
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  const nonce = client.randomNonce()
  const redirectUri = 'http://127.0.0.1:53682/callback'
  const jar = cookieJar()
  const steps: string[] = []
  const visit = async (url: URL, form?: Record<string, string>): Promise<Response> => {
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { cookie: jar.header() },
      signal: AbortSignal.timeout(15_000),
      ...(form ? { method: 'POST', body: new URLSearchParams(form) } : {}),
    })
    jar.keep(response)
    return response
  }

  let at = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: 'openid profile groups tasks',
    resource: options.resource,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  })
  // Authorization, login, resume, consent, resume, callback; a few to spare.
  for (let hops = 0; hops < 12; hops++) {
    if (at.href.startsWith(redirectUri)) {
      const tokens = await client.authorizationCodeGrant(
        config,
        at,
        { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce },
        { resource: options.resource },
      )
      steps.push('code exchanged with the PKCE verifier')
      return { accessToken: tokens.access_token, idTokenClaims: { ...tokens.claims() }, steps }
    }
    let response = await visit(at)
    if (response.status === 200) {
      const html = await response.text()
      const login = html.includes('name="password"')
      steps.push(login ? 'login form filled in' : 'consent given')
      const { login: user, password } = options
      response = await visit(at, login ? { login: user, password } : { consent: 'yes' })
    }
    const location = response.headers.get('location')
    if (location === null) throw new Error(`the identity provider answered ${response.status} at ${at.pathname}`)
    at = new URL(location, at)
  }
  throw new Error('the identity provider redirects in circles')
}
