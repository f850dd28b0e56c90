/** Where the examples find things: the service that `npm start` runs, its keys/ folder, and a user who is signed in. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importJWK, SignJWT } from 'jose'

export const ISSUER = process.env['ERRAND_URL'] ?? 'http://127.0.0.1:4460'

/** A file of keys/: development mode makes the sample's keys on its first start. */
export const key = (path: string): string => readFileSync(join(process.env['ERRAND_KEYS'] ?? 'keys', path), 'utf8')

/** Stands for your identity provider. In reality the user's token comes with the user's request. */
export async function userToken(user: string, groups: readonly string[]): Promise<string> {
  const jwk = JSON.parse(key('users/dev-issuer.jwk'))
  return new SignJWT({ groups })
    .setProtectedHeader({ alg: 'ES256', typ: 'JWT', kid: jwk.kid })
    .setIssuer(`${ISSUER}/dev-issuer`)
    .setSubject(user)
    .setAudience(ISSUER)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(await importJWK(jwk, 'ES256'))
}
