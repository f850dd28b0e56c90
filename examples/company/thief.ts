/** What a thief can do who reads a tool's access log: a token, a proof that was used, and no key. */
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

export interface Loot {
  readonly method: string
  readonly url: string
  readonly authorization: string
  readonly dpop: string
}

/** The newest request in the log that carried a token. */
export function readAccessLog(file: string): Loot {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  const { method, url, headers } = JSON.parse(lines.at(-1)!) as {
    method: string
    url: string
    headers: { authorization: string; dpop: string }
  }
  return { method, url, ...headers }
}

export interface Answer {
  readonly status: number
  readonly body: { readonly [name: string]: unknown }
}

async function send(loot: Loot, dpop: string): Promise<Answer> {
  const response = await fetch(loot.url, { method: loot.method, headers: { authorization: loot.authorization, dpop } })
  return { status: response.status, body: (await response.json()) as { [name: string]: unknown } }
}

/** The very request again, with the proof that was made for it. */
export const replay = (loot: Loot): Promise<Answer> => send(loot, loot.dpop)

/** The token with a flawless proof, made with the thief's own key. */
export async function useOwnKey(loot: Loot): Promise<Answer> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const token = loot.authorization.replace(/^DPoP /, '')
  const dpop = await new SignJWT({
    jti: randomUUID(),
    htm: loot.method,
    htu: loot.url,
    ath: createHash('sha256').update(token).digest('base64url'),
  })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: await exportJWK(publicKey) })
    .setIssuedAt()
    .sign(privateKey)
  return send(loot, dpop)
}
