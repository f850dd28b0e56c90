/** The service on a real loopback port, for clients that nobody here wrote. */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { exportJWK, importJWK, type JWK, SignJWT } from 'jose'
import pino from 'pino'
import { createClient, type Json } from '../src/cli/client.ts'
import { readPrivateJwkFile } from '../src/keys/private-jwk.ts'
import { serve } from '../src/main.ts'

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  // Tests write it over the ports of the sample and of the docs, which must not stand in it.
  return /44[67]0/.test(String(port)) ? freePort() : port
}

export type Running = Awaited<ReturnType<typeof openRunning>>

export async function openRunning(
  change: (file: string, text: string) => string = (_, text) => text,
  /** Further files of config/, or what becomes of those of the sample. */
  more: Readonly<Record<string, string | ((text: string) => string)>> = {},
) {
  const folder = await mkdtemp(join(tmpdir(), 'errand-running-'))
  const port = await freePort()
  const issuer = `http://127.0.0.1:${port}`
  const configDir = join(folder, 'config')
  await cp('config', configDir, { recursive: true })
  for (const file of ['errand.yaml', 'issuers/dev.yaml', 'tools/tickets.yaml']) {
    const path = join(configDir, file)
    const text = (await readFile(path, 'utf8'))
      .replaceAll('http://127.0.0.1:4460', issuer)
      .replace('port: 4460', `port: ${port}`)
    await writeFile(path, change(file, text))
  }
  for (const [file, text] of Object.entries(more)) {
    const path = join(configDir, file)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, typeof text === 'string' ? text : text(await readFile(path, 'utf8')))
  }
  const lines: string[] = []
  const service = await serve({
    configDir,
    dataDir: join(folder, 'data'),
    keysDir: join(folder, 'keys'),
    print: () => {},
    logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })
  const jwk = async (file: string) => JSON.parse(await readFile(join(folder, 'keys', file), 'utf8')) as JWK
  return {
    issuer,
    folder,
    service,
    lines,
    jwk,
    /** A user's ID token from the development issuer, by jose. */
    async userToken(user: string, groups: readonly string[]): Promise<string> {
      const key = await jwk('users/dev-issuer.jwk')
      return new SignJWT({ groups: [...groups], department: 'customer-care' })
        .setProtectedHeader({ alg: 'ES256', typ: 'JWT', kid: key.kid! })
        .setIssuer(`${issuer}/dev-issuer`)
        .setSubject(user)
        .setAudience(issuer)
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(await importJWK(key, 'ES256'))
    },
    requestDetails: (more: object = {}) =>
      JSON.stringify({
        purpose: 'answer a question about an order',
        environment: 'staging',
        data_classification: 'internal',
        deadline_seconds: 900,
        ...more,
      }),
    exportJWK,
    /** As the administrator of the first start. Throws for what is refused. */
    async admin(path: string, body?: object): Promise<Json> {
      const key = await readPrivateJwkFile(join(folder, 'keys/admin.jwk'))
      const cli = { fetch: globalThis.fetch, now: () => Date.now() / 1000, signal: new AbortController().signal }
      const client = createClient(cli, { url: issuer, issuer }, { clientId: 'admin', key })
      return body === undefined ? client.get(path) : client.post(path, { ...body })
    },
    /** Closes the service and leaves the folder. */
    stop: () => service.close(),
    close: async () => {
      await service.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
