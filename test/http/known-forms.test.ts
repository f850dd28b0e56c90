/** The same form again and again, on a real port: it is read once, and judged each time. */
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TokenRequest } from '../../src/exchange/token-request.ts'
import { createKnownForms } from '../../src/http/known-forms.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { createTestTrustDomain } from '../attest/pki.ts'
import { decode, newKeyPair, signJws } from '../house.ts'
import { openRunning, type Running } from '../running.ts'

describe('a form that comes again', () => {
  let running: Running
  let body: string
  beforeAll(async () => {
    const domain = await createTestTrustDomain('company.example')
    running = await openRunning(undefined, {
      'agents/research.yaml': (text) => text.replace('[private_key_jwt]', '[private_key_jwt, jwt_svid]'),
      'issuers/company.yaml': 'kind: workload\ntrust_domain: company.example\nbundle_file: trust/company.json\n',
      '../keys/trust/company.json': JSON.stringify(await domain.bundle()),
    })
    const now = Math.floor(Date.now() / 1000)
    body = new URLSearchParams({
      grant_type: GRANT.exchange,
      client_assertion_type: ASSERTION_TYPE.jwtSpiffe,
      client_assertion: await domain.jwtSvid('/agents/research', running.issuer, { iat: now, exp: now + 600 }),
      subject_token: await running.userToken('alice', ['support']),
      subject_token_type: TOKEN_TYPE.idToken,
      request_details: running.requestDetails(),
      audience: 'tickets',
    }).toString()
  })
  afterAll(() => running.close())

  const mine = newKeyPair()
  let nonce: string | undefined
  const once = async (key: typeof mine, headers: Record<string, string>) => {
    const url = `${running.issuer}/token`
    const proof = signJws(
      { typ: 'dpop+jwt', jwk: key.publicJwk },
      {
        jti: randomBytes(12).toString('base64url'),
        htm: 'POST',
        htu: url,
        iat: Math.floor(Date.now() / 1000),
        ...(nonce === undefined ? {} : { nonce }),
      },
      key.privateKey,
    )
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', dpop: proof, ...headers },
      body,
    })
    nonce = answer.headers.get('dpop-nonce') ?? nonce
    const names = [...answer.headers.keys()].sort()
    return { status: answer.status, names, body: (await answer.json()) as Record<string, unknown> }
  }
  const ask = async (key = mine, headers: Record<string, string> = {}) => {
    const answer = await once(key, headers)
    return answer.body['error'] === 'use_dpop_nonce' ? once(key, headers) : answer
  }
  const claimsIn = ({ body }: Awaited<ReturnType<typeof ask>>) => decode(String(body['access_token'])).payload

  it('is answered with another token and another task each time, the same as the long way answers it', async () => {
    const unusual = await ask(mine, { 'x-unusual': '1' })
    const long = claimsIn(unusual)
    const { jti, task, iat, exp, ...same } = long
    const ids = new Set([jti])
    const tasks = new Set([(task as { id: string }).id])
    for (let times = 1; times <= 6; times++) {
      const answer = await ask()
      expect(answer.names).toEqual(unusual.names)
      const { jti, task, iat, exp, ...claims } = claimsIn(answer)
      expect(claims).toEqual(same)
      ids.add(jti)
      tasks.add((task as { id: string }).id)
      expect([ids.size, tasks.size, Number(exp) - Number(iat)]).toEqual([
        times + 1,
        times + 1,
        Number(long['exp']) - Number(long['iat']),
      ])
    }
  })

  it('F1 is judged each time: by another proof key, and by what the agent may have now, it is refused', async () => {
    const refused = await ask(newKeyPair())
    expect([refused.status, refused.body['error']]).toEqual([400, 'invalid_dpop_proof'])
    expect(claimsIn(await ask())['scope']).toContain('tickets:search_tickets')
    const file = join(running.folder, 'config/agents/research.yaml')
    const text = await readFile(file, 'utf8')
    const before = text.slice(0, text.indexOf('ceiling:'))
    const change = async (to: string) => {
      await writeFile(file, to)
      expect(await running.service.reload()).toBe(true)
    }
    await change(`${before}ceiling: [tickets:read_ticket]\n`)
    expect(claimsIn(await ask())['scope']).toBe('tickets:read_ticket')
    await change(`${before}ceiling: [crm:read_customer]\n`)
    const beyond = await ask()
    expect([beyond.status, beyond.body['error'], beyond.body['reason']]).toEqual([
      400,
      'invalid_target',
      'audience_denied',
    ])
    await change(`${text}disabled: true\n`)
    const disabled = await ask()
    expect([disabled.status, disabled.body['error']]).toEqual([401, 'invalid_client'])
    await change(text)
    expect(claimsIn(await ask())['scope']).toContain('tickets:search_tickets')
  })
})

describe('forms that are known', () => {
  it('are so by all of their text, up to a length', () => {
    const forms = createKnownForms()
    const request = {} as TokenRequest
    forms.keep('a=1', request)
    forms.keep('a=1', {} as TokenRequest)
    expect(forms.of('a=1')).toBe(request)
    for (const other of ['a=1&', 'a=2', '', 'A=1']) expect(forms.of(other)).toBeUndefined()
    const long = `a=${'x'.repeat(5000)}`
    forms.keep(long, request)
    expect(forms.of(long)).toBeUndefined()
  })
})
