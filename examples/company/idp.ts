/** The company's identity provider: a real OpenID provider with a login and a consent page, and three people. */
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import Provider from 'oidc-provider'
import { readSettings, urlsOf } from './settings.ts'

const settings = readSettings()
const { idp: issuer, errand } = urlsOf(settings)

function person(name: string, password: string, groups: readonly string[], department: string) {
  return { name, password, groups, department }
}
/** A demo's passwords are no secrets. */
const people = new Map([
  ['alice', person('Alice Liddell', 'wonderland', ['support', 'finance'], 'customer-care')],
  ['bob', person('Bob Baumeister', 'builder', ['engineering'], 'platform')],
  ['carol', person('Carol Chang', 'christmas', ['support'], 'customer-care')],
])

// Read in again: straight out of generateKeyPairSync, Node 20 may wait for ever for a JWK of it.
const { privateKey } = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
})

const signingKey = {
  ...createPrivateKey(privateKey).export({ format: 'jwk' }),
  kid: 'company-idp-1',
  alg: 'ES256',
  use: 'sig',
}

const provider = new Provider(issuer, {
  jwks: { keys: [signingKey] },
  cookies: { keys: [randomBytes(32).toString('base64url')] },
  clients: [
    {
      client_id: 'assistant-app',
      client_name: 'Company assistant',
      application_type: 'native', // RFC 8252 §7.3: a loopback redirect, at whatever port
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      response_types: ['code'],
      grant_types: ['authorization_code'],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  async findAccount(_: unknown, accountId: string) {
    const person = people.get(accountId)
    return person && { accountId, claims: async () => ({ sub: accountId, name: person.name, groups: person.groups }) }
  },
  claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
  // An access token for Errand itself (RFC 8707), as a JWT (RFC 9068) that says which groups its user is in.
  extraTokenClaims(_: unknown, token: { accountId?: string }) {
    const who = people.get(token.accountId ?? '')
    return who && { groups: who.groups, department: who.department }
  },
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  interactions: { url: (_: unknown, interaction: { uid: string }) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => errand,
      useGrantedResource: () => true,
      getResourceServerInfo: (_: unknown, resource: string) => {
        if (resource !== errand) throw new Error('no such resource')
        return { scope: 'tasks', audience: errand, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
      },
    },
  },
})

const page = (title: string, form: string): string =>
  `<!doctype html><meta charset="utf-8"><title>${title}</title><h1>${title}</h1><form method="post">${form}</form>`

async function formOf(request: IncomingMessage): Promise<URLSearchParams> {
  let text = ''
  for await (const chunk of request) {
    text += chunk
    if (text.length > 4096) throw new Error('a form of this size')
  }
  return new URLSearchParams(text)
}

/** The two pages a person sees: who are you, and may this program act for you. */
async function interact(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const details = await provider.interactionDetails(request, response)
  const login = details.prompt.name === 'login'
  const show = (status: number, title: string): void => {
    const form = login
      ? '<input name="login" autofocus><input name="password" type="password"><button>Sign in</button>'
      : '<p>The company assistant wants to work on tasks for you.</p><button name="consent" value="yes">Allow</button>'
    response.writeHead(status, { 'content-type': 'text/html' }).end(page(title, form))
  }
  if (request.method !== 'POST') return show(200, login ? 'Sign in' : 'Allow')
  const form = await formOf(request)
  if (login) {
    const person = people.get(form.get('login') ?? '')
    if (!person || person.password !== form.get('password')) return show(403, 'Sign in: that was not right')
    const result = { login: { accountId: form.get('login') } }
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
  }
  if (form.get('consent') !== 'yes') {
    return provider.interactionFinished(request, response, { error: 'access_denied' })
  }
  const grant = new provider.Grant({ accountId: details.session!.accountId, clientId: details.params.client_id })
  grant.addOIDCScope('openid profile groups')
  grant.addResourceScope(errand, 'tasks')
  const result = { consent: { grantId: await grant.save() } }
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true })
}

const handle = provider.callback()
createServer((request, response) => {
  if (request.url === '/health') return void response.writeHead(200).end('ok')
  if (!request.url?.startsWith('/interaction/')) return handle(request, response)
  interact(request, response).catch((error: unknown) => {
    console.error(error)
    if (!response.headersSent) response.writeHead(400)
    response.end()
  })
}).listen(settings.ports.idp, '127.0.0.1')
