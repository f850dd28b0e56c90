/** As much of Vault as the root key needs: a transit engine, AppRole, and what it answers where something is wrong. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface VaultDouble {
  readonly address: string
  readonly token: string
  readonly roleId: string
  readonly secretId: string
  /** Requests in order: `POST /v1/…`, with their headers and body. */
  readonly asked: { readonly line: string; readonly headers: IncomingHttpHeaders; readonly body: string }[]
  /** What the next requests are answered instead. */
  world: { status?: number; location?: string; hang?: boolean; denied?: boolean }
  liveTokens(): number
  close(): Promise<void>
}

export async function openVaultDouble(): Promise<VaultDouble> {
  const token = `s.${randomBytes(12).toString('hex')}`
  const secretId = randomBytes(12).toString('hex')
  const keys = new Map([
    ['errand-root', randomBytes(32)],
    ['other', randomBytes(32)],
  ])
  const given = new Set<string>()
  const asked: VaultDouble['asked'] = []
  const double: Pick<VaultDouble, 'world'> = { world: {} }
  const transit = (verb: string, key: Buffer, body: Record<string, string>) => {
    if (verb === 'encrypt') {
      const iv = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', key, iv)
      const sealed = Buffer.concat([
        iv,
        cipher.update(body['plaintext']!, 'base64'),
        cipher.final(),
        cipher.getAuthTag(),
      ])
      return { ciphertext: `vault:v1:${sealed.toString('base64')}` }
    }
    const sealed = Buffer.from(body['ciphertext']!.split(':')[2]!, 'base64')
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12))
    decipher.setAuthTag(sealed.subarray(-16))
    return {
      plaintext: Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString('base64'),
    }
  }
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (part) => (body += String(part)))
    request.on('end', () => {
      const { world } = double
      asked.push({ line: `${request.method} ${request.url}`, headers: request.headers, body })
      const answer = (status: number, json: object, headers = {}) =>
        response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json))
      if (world.hang) return
      if (world.status !== undefined)
        return answer(world.status, { errors: [`${body} failed`] }, world.location ? { location: world.location } : {})
      const json = body === '' ? {} : (JSON.parse(body) as Record<string, string>)
      const bearer = String(request.headers['x-vault-token'] ?? '')
      if (request.url === '/v1/auth/approle/login') {
        if (json['secret_id'] !== secretId) return answer(400, { errors: ['invalid role or secret ID'] })
        const fresh = `s.${randomBytes(12).toString('hex')}`
        given.add(fresh)
        return answer(200, { auth: { client_token: fresh } })
      }
      if ((bearer !== token && !given.has(bearer)) || world.denied)
        return answer(403, { errors: ['permission denied'] })
      if (request.url === '/v1/auth/token/revoke-self') {
        given.delete(bearer)
        return response.writeHead(204).end()
      }
      const [, verb, name] = /^\/v1\/transit\/(encrypt|decrypt)\/([^/]+)$/.exec(request.url ?? '') ?? []
      const key = keys.get(name ?? '')
      if (!verb || !key) return answer(404, { errors: [] })
      try {
        return answer(200, { data: transit(verb, key, json) })
      } catch {
        return answer(400, { errors: ['cipher: message authentication failed'] })
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(double, {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token,
    roleId: 'errand',
    secretId,
    asked,
    liveTokens: () => given.size,
    close: () => {
      server.closeAllConnections()
      return new Promise<void>((resolve) => server.close(() => resolve()))
    },
  })
}
