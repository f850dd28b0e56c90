import { readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { details, openTenancy, type Tenancy, writeTenant } from '../tenancy.ts'

describe('two tenants of one service', () => {
  let town: Tenancy
  beforeAll(async () => {
    town = await openTenancy(['acme', 'labs'])
  })
  afterAll(() => town.close())

  it('each has an issuer, keys, a log and tokens of its own', async () => {
    const tokens = await Promise.all(
      ['', 'acme', 'labs'].map(async (name) => {
        const agent = await town.agent(name)
        const task = await agent.task({ subjectToken: await town.userToken(name), ...details })
        const { accessToken } = await task.token({ tool: 'tickets' })
        const claims = JSON.parse(Buffer.from(accessToken.split('.')[1]!, 'base64url').toString())
        const { kid } = JSON.parse(Buffer.from(accessToken.split('.')[0]!, 'base64url').toString())
        const jwks = (await (await fetch(`${town.issuerOf(name)}/.well-known/jwks.json`)).json()) as {
          keys: { kid: string }[]
        }
        expect(jwks.keys.map((key) => key.kid)).toContain(kid)
        expect(claims.iss).toBe(town.issuerOf(name))
        return { kid, jti: claims.jti as string, keys: jwks.keys.map((key) => key.kid) }
      }),
    )
    const kids = tokens.flatMap(({ keys }) => keys)
    expect(new Set(kids).size).toBe(kids.length)
    // The first characters of a jti are the log it is recorded in.
    expect(new Set(tokens.map(({ jti }) => jti.slice(0, 5))).size).toBe(3)
  })

  it('metadata is found in both places that clients look for it, and names the issuer asked for', async () => {
    for (const name of ['', 'acme', 'labs']) {
      const issuer = town.issuerOf(name)
      const path = new URL(issuer).pathname.replace(/^\/$/, '')
      for (const url of [
        `${town.host}/.well-known/oauth-authorization-server${path}`,
        `${issuer}/.well-known/openid-configuration`,
      ]) {
        const metadata = (await (await fetch(url)).json()) as Record<string, unknown>
        expect([url, metadata['issuer'], metadata['token_endpoint']]).toEqual([url, issuer, `${issuer}/token`])
      }
    }
  })

  it("the service's administrator sees that they are there; a tenant's administrator sees none", async () => {
    const { tenants } = (await town.admin('', '/tenants')) as { tenants: { name: string; state: string }[] }
    expect(tenants.map(({ name, state }) => [name, state])).toEqual([
      ['acme', 'serving'],
      ['labs', 'serving'],
    ])
    await expect(town.admin('acme', '/tenants')).rejects.toMatchObject({ code: 'not_found' })
    expect((await (await fetch(`${town.host}/ready`)).json()) as object).toMatchObject({
      checks: { tenants: 'ok' },
    })
    expect((await (await fetch(`${town.issuerOf('acme')}/ready`)).json()) as object).not.toHaveProperty(
      'checks.tenants',
    )
  })
})

describe('a tenant that is broken, comes or goes', () => {
  it('one that cannot be opened is told of; the others serve, and it follows once it is mended', async () => {
    const town = await openTenancy(['acme'], { broken: ['labs'] })
    try {
      const { tenants } = (await town.admin('', '/tenants')) as { tenants: Record<string, string>[] }
      expect(tenants.map(({ name, state }) => [name, state])).toEqual([
        ['acme', 'serving'],
        ['labs', 'refused'],
      ])
      expect(tenants[1]!['problems']).toContain('research.yaml')
      expect(await (await fetch(`${town.host}/ready`)).json()).toMatchObject({
        status: 'degraded',
        checks: { tenants: 'degraded' },
      })
      const agent = await town.agent('acme')
      const task = await agent.task({ subjectToken: await town.userToken('acme'), ...details })
      expect((await task.token({ tool: 'tickets' })).accessToken).toContain('.')
      // Nobody else answers in its name.
      expect((await fetch(`${town.issuerOf('labs')}/.well-known/jwks.json`)).status).toBe(404)

      const good = await readFile('config/agents/research.yaml', 'utf8')
      await writeFile(join(town.configDir, 'tenants/labs/agents/research.yaml'), good)
      await until(async () => (await fetch(`${town.issuerOf('labs')}/.well-known/jwks.json`)).status === 200)
    } finally {
      await town.close()
    }
  })

  it('one whose folder comes is opened, and one whose folder goes is closed, while the service runs', async () => {
    const town = await openTenancy(['acme'])
    try {
      await writeTenant(town.configDir, 'labs', town.issuerOf('labs'))
      await until(async () => (await fetch(`${town.issuerOf('labs')}/.well-known/jwks.json`)).status === 200)
      await rm(join(town.configDir, 'tenants/acme'), { recursive: true })
      await until(async () => (await fetch(`${town.issuerOf('acme')}/.well-known/jwks.json`)).status === 404)
      expect((await fetch(`${town.issuerOf('labs')}/ready`)).status).toBe(200)
    } finally {
      await town.close()
    }
  })

  it("an issuer that is taken, is the service's own, or lies on its paths is refused by name", async () => {
    const town = await openTenancy(['acme'])
    try {
      for (const [name, issuer, problem] of [
        ['again', town.issuerOf('acme'), 'already taken by the tenant acme'],
        ['itself', town.host, "the service's own"],
        ['thief', `${town.host}/token/x`, "takes the place of the service's own paths below /token"],
      ] as const) {
        await writeTenant(town.configDir, name, issuer)
        await until(async () => {
          const { tenants } = (await town.admin('', '/tenants')) as { tenants: Record<string, string>[] }
          return tenants.some((each) => each['name'] === name && each['problems']?.includes(problem))
        })
      }
      expect((await fetch(`${town.host}/ready`)).status).toBe(200)
    } finally {
      await town.close()
    }
  })

  it('what belongs to the whole service is refused in the errand.yaml of a tenant', async () => {
    const town = await openTenancy([], {})
    try {
      const dir = await writeTenant(town.configDir, 'acme', town.issuerOf('acme'))
      const path = join(dir, 'errand.yaml')
      const text = await readFile(path, 'utf8')
      const signing = '{ vault_transit: { address: "https://a.example", token_file: /etc/secret, keys: { token: k } } }'
      await writeFile(
        path,
        `${text}\nlisten: { port: 1 }\nbounds: { max_header_bytes: 8192 }\nlog: { level: debug }\nkeys: { signing: ${signing} }\naudit: { mirrors: [{ name: a, to: stdout }] }\n`,
      )
      await until(async () => {
        const { tenants } = (await town.admin('', '/tenants')) as { tenants: Record<string, string>[] }
        const problems = tenants[0]?.['problems'] ?? ''
        return [
          ...['listen', 'bounds.max_header_bytes', 'log', 'keys.signing'].map((each) => `${each} belongs`),
          'the mirrors of a tenant go by syslog or http',
        ].every((each) => problems.includes(each))
      })
    } finally {
      await town.close()
    }
  })
})

describe('what one tenant may take', () => {
  it('a flood of one is turned away with 503 and counted in its own log, and the other gets its answers', async () => {
    const town = await openTenancy(['acme', 'labs'], {
      extra: '\ntenants:\n  quotas:\n    acme: { requests_per_second: 5 }\n',
    })
    try {
      const answers = await Promise.all(
        Array.from({ length: 60 }, () =>
          fetch(`${town.issuerOf('acme')}/agents`).then(({ status, headers }) => [status, headers.get('retry-after')]),
        ),
      )
      const shed = answers.filter(([status]) => status === 503)
      expect(shed.length).toBeGreaterThan(40)
      expect(shed.every(([, wait]) => Number(wait) >= 1)).toBe(true)
      // Beside the flood: what its verifiers and its kill switch live by, and everything of the others.
      expect((await fetch(`${town.issuerOf('acme')}/revocations/now?nonce=${'n'.repeat(22)}`)).status).toBe(200)
      const agent = await town.agent('labs')
      const task = await agent.task({ subjectToken: await town.userToken('labs'), ...details })
      expect((await task.token({ tool: 'tickets' })).accessToken).toContain('.')
      await until(async () => {
        const { records } = (await town.admin('acme', '/audit/records?type=strangers.refused')) as {
          records: { reason?: string; count?: number }[]
        }
        return JSON.stringify(records).includes('overloaded')
      }, 1000)
    } finally {
      await town.close()
    }
  })

  it('whoever sends slowly holds a connection, and none of the places of those that work', async () => {
    const town = await openTenancy(['acme'], {
      extra: '\ntenants:\n  quotas:\n    acme: { max_concurrent_requests: 4 }\n',
    })
    const head = 'POST /t/acme/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n'
    const slow = Array.from({ length: 8 }, () => {
      const socket = connect(town.port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(`${head}Content-Length: 1000\r\n\r\ngrant`)
      return socket
    })
    try {
      await new Promise((resolve) => setTimeout(resolve, 200))
      const agent = await town.agent('acme')
      const task = await agent.task({ subjectToken: await town.userToken('acme'), ...details })
      expect((await task.token({ tool: 'tickets' })).accessToken).toContain('.')
    } finally {
      for (const socket of slow) socket.destroy()
      await town.close()
    }
  })

  it('G10 a target with a fragment, or a whole URL, goes past no quota', async () => {
    const town = await openTenancy(['acme'], { extra: '\ntenants:\n  quotas:\n    acme: { max_data_mib: 1 }\n' })
    const answerTo = (target: string) =>
      new Promise<(string | undefined)[]>((resolve, reject) => {
        let text = ''
        const socket = connect(town.port, '127.0.0.1', () =>
          socket.write(
            `POST ${target} HTTP/1.1\r\nHost: 127.0.0.1:${town.port}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n`,
          ),
        )
        socket.once('error', reject)
        socket.on('data', (chunk) => {
          text += String(chunk)
        })
        socket.once('close', () => resolve([text.slice(9, 12), /^Retry-After: (.*)\r$/m.exec(text)?.[1]]))
      })
    try {
      // Its data are full: nothing else is told to wait for so long.
      expect(await answerTo('/t/acme/token')).toEqual(['503', '60'])
      expect(await answerTo(`${town.issuerOf('acme')}/token`)).toEqual(['503', '60'])
      expect(await answerTo('/t/acme/token#')).toEqual(['404', undefined])
      expect(await answerTo('/token#')).toEqual(['404', undefined])
    } finally {
      await town.close()
    }
  })

  it('one whose data fill its quota gets no new token, and can still revoke', async () => {
    const town = await openTenancy(['acme', 'labs'], {
      extra: '\ntenants:\n  quotas:\n    acme: { max_data_mib: 1 }\n',
    })
    try {
      // The embedded store begins with more than this.
      const answer = await fetch(`${town.issuerOf('acme')}/token`, {
        method: 'POST',
        body: new URLSearchParams({ a: 'b' }),
      })
      expect([answer.status, (await answer.json()) as object]).toMatchObject([
        503,
        { error: 'temporarily_unavailable' },
      ])
      expect(answer.headers.get('retry-after')).toBe('60')
      const revoked = await town.admin('acme', '/revocations', {
        match: { agent: 'spiffe://company.example/agents/research' },
        reason: 'a test',
      })
      expect(revoked['id']).toMatch(/^rev_/)
      const agent = await town.agent('labs')
      const task = await agent.task({ subjectToken: await town.userToken('labs'), ...details })
      expect((await task.token({ tool: 'tickets' })).accessToken).toContain('.')
    } finally {
      await town.close()
    }
  })
})

/** The service looks at its folders once a second. Asks every `pauseMs`, which must be within the quota of who asks. */
async function until(holds: () => Promise<boolean>, pauseMs = 100): Promise<void> {
  const end = performance.now() + 15_000
  while (!(await holds().catch(() => false))) {
    if (performance.now() > end) throw new Error('it did not come about')
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}
