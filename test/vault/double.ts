/** As much of Vault as Errand asks: transit, tokens, AppRole. Checked against what a real OpenBao answers (facts.ts). */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createTransitEngine, type Said, type TransitEngine } from './transit-engine.ts'

export interface VaultDouble {
  readonly address: string
  /** Of the root policy, without an end. */
  readonly token: string
  /** May sign by, read and rotate the keys of `LIMITED`, and no others. */
  readonly limited: string
  readonly roleId: string
  readonly secretId: string
  readonly transit: TransitEngine
  /** Requests in order: `POST /v1/…`, with their headers and body. */
  readonly asked: { readonly line: string; readonly headers: IncomingHttpHeaders; readonly body: string }[]
  /** What the next requests are answered instead. */
  world: World
  /** What logins give, and what renewals do. */
  tokens: { lifetimeSeconds: number; renewable: boolean; renewedSeconds: number }
  /** Of logins, that have not been given back. */
  liveTokens(): number
  /** Ends every token that a login gave. */
  revokeAll(): void
  /** The most requests that were under way at one time. */
  mostAtOnce(): number
  close(): Promise<void>
}

export interface World {
  status?: number
  location?: string
  hang?: boolean
  denied?: boolean
  /** Held until it settles. */
  wait?: Promise<void>
  /** What a good answer is changed to. */
  instead?: (data: Record<string, unknown>) => object
}

interface Token {
  readonly policy: 'root' | 'limited'
  readonly type: 'service' | 'batch'
  readonly ttl: number
  readonly renewable: boolean
}

export const LIMITED = ['errand-token', 'errand-checkpoint', 'errand-events', 'errand-jag']
const TYPES = ['ecdsa-p256', 'ed25519', 'rsa-2048', 'ecdsa-p256'] as const
const allowed = (policy: Token['policy'], path: string, method: string): boolean => {
  if (policy === 'root' || path.startsWith('auth/token/') || path === 'sys/capabilities-self') return true
  return capabilities(policy, path).includes(method === 'GET' ? 'read' : 'update')
}
function capabilities(policy: Token['policy'], path: string): readonly string[] {
  if (policy === 'root') return ['root']
  const [, verb, name = '', after] = path.split('/')
  if (!path.startsWith('transit/') || !LIMITED.includes(name)) return ['deny']
  if (verb === 'keys' && after === undefined) return ['read']
  return verb === 'sign' || (verb === 'keys' && after === 'rotate') ? ['update'] : ['deny']
}

const denied: Said = { status: 403, errors: ['permission denied'] }
const deniedByPolicy: Said = { status: 403, errors: ['1 error occurred:\n\t* permission denied\n\n'] }

export async function openVaultDouble(): Promise<VaultDouble> {
  const fresh = () => `s.${randomBytes(12).toString('hex')}`
  const secretId = randomBytes(12).toString('hex')
  const [token, limited] = [fresh(), fresh()]
  const live = new Map<string, Token>([
    [token, { policy: 'root', type: 'service', ttl: 0, renewable: false }],
    [limited, { policy: 'limited', type: 'service', ttl: 60, renewable: true }],
  ])
  const given = new Set<string>()
  const transit = createTransitEngine()
  for (const name of ['errand-root', 'other']) transit.add(name, 'aes256-gcm96')
  for (const [at, name] of LIMITED.entries()) transit.add(name, TYPES[at]!)
  const asked: VaultDouble['asked'] = []
  const double: Pick<VaultDouble, 'world' | 'tokens'> = {
    world: {},
    tokens: { lifetimeSeconds: 60, renewable: true, renewedSeconds: 60 },
  }
  const auth = (bearer: string, { type, policy, renewable }: Token, lease_duration: number) => ({
    client_token: bearer,
    accessor: type === 'batch' ? '' : randomBytes(12).toString('base64url'),
    policies: [policy],
    lease_duration,
    renewable,
    token_type: type,
    orphan: true,
  })

  function ofToken(verb: string, bearer: string, held: Token, body: Record<string, unknown>) {
    switch (verb) {
      case 'lookup-self': {
        const { ttl, renewable, policy, type } = held
        const expire_time = ttl === 0 ? null : new Date(Date.now() + ttl * 1000).toISOString()
        return { status: 200, data: { id: bearer, ttl, renewable, policies: [policy], type, expire_time } }
      }
      case 'renew-self':
        if (held.type === 'batch') return { status: 400, errors: ['batch tokens cannot be renewed'] }
        if (!held.renewable) return { status: 400, errors: ['lease is not renewable'] }
        return { status: 200, auth: auth(bearer, held, double.tokens.renewedSeconds) }
      case 'revoke-self':
        live.delete(bearer)
        given.delete(bearer)
        return { status: 204 }
      default: {
        const type = body['type'] === 'batch' ? ('batch' as const) : ('service' as const)
        const ttl = Number.parseInt(String(body['ttl']), 10)
        const made: Token = {
          policy: 'limited',
          type,
          ttl,
          renewable: type === 'service' && body['renewable'] !== false,
        }
        const text = fresh()
        live.set(text, made)
        return { status: 200, auth: auth(text, made, ttl) }
      }
    }
  }

  function logIn(body: Record<string, unknown>) {
    if (body['secret_id'] !== secretId || body['role_id'] !== 'errand')
      return { status: 400, errors: ['invalid role or secret ID'] }
    const { lifetimeSeconds: ttl, renewable } = double.tokens
    const made: Token = { policy: 'root', type: 'service', ttl, renewable }
    const text = fresh()
    given.add(text)
    live.set(text, made)
    return { status: 200, auth: auth(text, made, ttl) }
  }

  function answer(method: string, path: string, bearer: string, text: string): Said & { readonly auth?: object } {
    let body: Record<string, unknown>
    try {
      body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    } catch {
      return { status: 400, errors: ['failed to decode JSON input: unexpected EOF'] }
    }
    if (path === 'auth/approle/login') return logIn(body)
    const held = live.get(bearer)
    if (!held || double.world.denied) return denied
    if (!allowed(held.policy, path, method)) return deniedByPolicy
    if (path === 'sys/capabilities-self') {
      const paths = body['paths'] as readonly string[]
      return { status: 200, data: Object.fromEntries(paths.map((each) => [each, capabilities(held.policy, each)])) }
    }
    const [mount = '', verb = '', name = '', after] = path.split('/')
    if (path.startsWith('auth/token/')) return ofToken(name, bearer, held, body)
    if (mount === 'transit') return transit.answer(method, verb, name, after, body)
    return { status: 404, errors: [`no handler for route "${path}". route entry not found.`] }
  }

  let [underWay, most] = [0, 0]
  async function respond(request: IncomingMessage, response: ServerResponse, text: string): Promise<void> {
    const { world } = double
    asked.push({ line: `${request.method} ${request.url}`, headers: request.headers, body: text })
    if (world.hang) return
    await world.wait
    const send = (status: number, json: object, headers = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json))
    if (world.status !== undefined)
      return void send(
        world.status,
        { errors: [world.status === 503 ? 'Vault is sealed' : `${text} failed`] },
        world.location ? { location: world.location } : {},
      )
    const bearer = String(request.headers['x-vault-token'] ?? '')
    const said = answer(request.method!, request.url!.replace('/v1/', ''), bearer, text)
    if (said.status === 204) return void response.writeHead(204).end()
    if (said.status >= 400) return void send(said.status, { errors: said.errors ?? [] })
    const data = said.data && world.instead ? world.instead({ ...said.data }) : said.data
    send(said.status, { request_id: '', data: data ?? null, auth: said.auth ?? null, warnings: null })
  }

  const server = createServer((request, response) => {
    most = Math.max(most, ++underWay)
    response.on('close', () => (underWay -= 1))
    let body = ''
    request.on('data', (part) => (body += String(part)))
    request.on('end', () => void respond(request, response, body))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(double, {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    limited,
    roleId: 'errand',
    secretId,
    transit,
    asked,
    liveTokens: () => given.size,
    revokeAll: () => {
      for (const each of given) live.delete(each)
      given.clear()
    },
    mostAtOnce: () => most,
    close: () => {
      server.closeAllConnections()
      return new Promise<void>((resolve) => server.close(() => resolve()))
    },
  })
}
