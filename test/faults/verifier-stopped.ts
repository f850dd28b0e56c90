/** FI-9, L8: a tool stopped for a while with a request queued, whose token is revoked meanwhile. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { claimsOf } from '../flow/real-process.ts'
import { newKeyPair } from '../house.ts'
import { openSite, presented } from './site.ts'

const SCRIPT = fileURLToPath(new URL('./verifier-process.ts', import.meta.url))

/** What the verifier takes of a proof's age, without the leeway. */
const PROOF_LIVES_MS = 60_000

interface Served {
  readonly status: number
  readonly code: unknown
}

export async function stoppedVerifier(options: { readonly stoppedMs: number; readonly rounds: number }): Promise<void> {
  const site = await openSite()
  const service = await site.start()
  const keyFile = join(site.folder, 'keys/tools/tickets.jwk')
  const tool = spawn(process.execPath, ['--import', 'tsx', SCRIPT, site.issuer, keyFile, '2'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [line] = (await once(tool.stdout, 'data')) as [Buffer]
    const url = `http://127.0.0.1:${Number(String(line))}/tickets/7`
    const research = await site.agent(service.base, 'research')
    const admin = await site.admin(service.base)
    const asAlice = await site.alice()

    const token = async () => {
      const proofKey = newKeyPair()
      const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey })
      expect(reply.status).toBe(200)
      return { text: String(reply.body['access_token']), proofKey }
    }
    /** The bytes are out, and wait in the tool's socket, when `sent` resolves. */
    const ask = ({ text, proofKey }: Awaited<ReturnType<typeof token>>) => {
      const asked = request(url, { headers: presented(text, proofKey, url), agent: false })
      const served = new Promise<Served>((resolve, reject) => {
        asked.on('error', reject)
        asked.on('response', async (response) => {
          const chunks: Buffer[] = []
          for await (const chunk of response) chunks.push(chunk as Buffer)
          const body = Buffer.concat(chunks).toString()
          const { code } = response.statusCode === 200 ? { code: body } : (JSON.parse(body) as { code?: unknown })
          resolve({ status: response.statusCode!, code })
        })
      })
      const sent = new Promise((resolve) => asked.on('finish', resolve))
      asked.end()
      return { sent, served }
    }
    for (let round = 0; round < options.rounds; round += 1) {
      const doomed = await token()
      const honest = await token()
      expect(await ask(doomed).served).toEqual({ status: 200, code: 'served' })
      tool.kill('SIGSTOP')
      // One before it is revoked and one after; and a good one, which must not suffer for long.
      const early = ask(doomed)
      await early.sent
      const { jti } = claimsOf(doomed.text)
      const revoked = await admin.call('POST', '/revocations', { match: { jti }, reason: 'while it was stopped' })
      expect(revoked.status).toBe(201)
      const late = ask(doomed)
      await late.sent
      await pause(options.stoppedMs)
      tool.kill('SIGCONT')
      for (const { status, code } of await Promise.all([early.served, late.served]))
        expect([
          [401, 'revoked'],
          [503, 'revocation_state_stale'],
          // Its proof has lived out meanwhile.
          ...(options.stoppedMs >= PROOF_LIVES_MS ? [[401, 'expired']] : []),
        ]).toContainEqual([status, code])
      // Inv12
      await expect.poll(async () => (await ask(honest).served).status, { timeout: 10_000 }).toBe(200)
      expect(await ask(doomed).served).toEqual({ status: 401, code: 'revoked' })
    }
  } finally {
    tool.kill('SIGCONT')
    tool.kill('SIGKILL')
    await site.close()
  }
}
