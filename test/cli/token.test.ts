import { chmod, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { readPrivateJwkFile } from '../../src/keys/private-jwk.ts'
import { type Double, NOW, serviceDouble, URL_OF_SERVICE, VERDICTS } from './double.ts'

let service: Double
beforeEach(async () => {
  service = await serviceDouble()
})
afterEach(() => service.close())

const TASK = 'task_AAECAwQFBgcICQoLDA0ODw'
const DECISION = 'dec_AAECAwQFBgcICQoLDA0ODxAREhM'
const JTI = 'AAECAwQFBgcICQoLDA0ODxAREhM'

describe('getting a token', () => {
  const granted = {
    access_token: 'a.b.c',
    token_type: 'DPoP',
    expires_in: 300,
    scope: 'tickets:read_ticket',
    task_id: TASK,
    decision_id: DECISION,
    log: { id: '0a1b2c3d', index: 4 },
  }

  it('prints the token alone on stdout, and everything about it on stderr', async () => {
    service.answers.set('POST /token', granted)
    const { exit, out, err } = await service.cli(
      'token',
      'get',
      '--agent',
      'research',
      '--user',
      'alice',
      '--tool',
      'tickets',
      '--scope',
      'tickets:read_ticket',
    )
    expect({ exit, out }).toEqual({ exit: 0, out: 'a.b.c\n' })
    expect(err).toBe(`scope     tickets:read_ticket
type      DPoP
expires   in 5 min
task      ${TASK}
decision  ${DECISION}
record    4 of log 0a1b2c3d
The token is bound to a key that ends with this command; --key-file keeps it, to call a tool with.
Why: errand explain ${DECISION}
`)
    const [{ body, clientId }] = service.received as unknown as [{ body: { [name: string]: string }; clientId: string }]
    expect(clientId).toBe('research')
    expect(body).toMatchObject({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      audience: 'tickets',
      scope: 'tickets:read_ticket',
    })
    expect(JSON.parse(body['request_details']!)).toEqual({
      purpose: 'tried out with errand token get',
      environment: 'development',
      data_classification: 'internal',
      deadline_seconds: 900,
    })
    const idToken = JSON.parse(Buffer.from(body['subject_token']!.split('.')[1]!, 'base64url').toString())
    expect(idToken).toMatchObject({
      iss: `${URL_OF_SERVICE}/dev-issuer`,
      sub: 'alice',
      aud: URL_OF_SERVICE,
      groups: ['support', 'finance'],
      iat: NOW,
      exp: NOW + 300,
    })
  })

  it('works for itself without a user, and in an existing task', async () => {
    service.answers.set('POST /token', granted)
    await service.cli('token', 'get', '--agent', 'triage', '--tool', 'tickets', '--task', TASK)
    expect(service.received[0]?.body).toMatchObject({ grant_type: 'client_credentials', task_id: TASK })
    expect(service.received[0]?.body).not.toHaveProperty('subject_token')
    expect(service.received[0]?.body).not.toHaveProperty('request_details')
  })

  it('shows a dry run as a table, and exits 1 where it would be refused', async () => {
    service.answers.set('POST /token', { dry_run: true, allowed: false, decision_id: DECISION, verdicts: VERDICTS })
    const { exit, out } = await service.cli(
      'token',
      'get',
      '--agent',
      'research',
      '--user',
      'alice',
      '--tool',
      'payments',
      '--dry-run',
    )
    expect(exit).toBe(1)
    expect(out).toContain('payments:refund        irreversible_write  yes   yes      yes      NO')
    expect(service.received[0]?.body).toMatchObject({ dry_run: 'true' })
  })

  it('keeps the proof key in a 0600 file only when it is asked to, and uses it again', async () => {
    service.answers.set('POST /token', granted)
    const path = join(service.keysDir, 'proof.jwk')
    const argv = ['token', 'get', '--agent', 'research', '--user', 'alice', '--tool', 'tickets', '--key-file', path]
    expect((await service.cli(...argv)).exit).toBe(0)
    expect(((await stat(path)).mode & 0o777).toString(8)).toBe('600')
    await service.cli(...argv)
    const thumbprint = jwkThumbprint((await readPrivateJwkFile(path)).publicJwk as never)
    expect(service.received.map(({ jkt }) => jkt)).toEqual([thumbprint, thumbprint])
    const agent = await readPrivateJwkFile(join(service.keysDir, 'agents/research.jwk'))
    expect(thumbprint).not.toBe(jwkThumbprint(agent.publicJwk as never))
    await chmod(path, 0o640)
    expect(await service.cli(...argv)).toMatchObject({ exit: 2, out: '' })
  })

  it('names the users there are, and the nearest', async () => {
    const { exit, err } = await service.cli(
      'token',
      'get',
      '--agent',
      'research',
      '--user',
      'alcie',
      '--tool',
      'tickets',
    )
    expect(exit).toBe(2)
    expect(err).toContain('did you mean alice?')
    for (const user of ['__proto__', 'constructor'])
      expect((await service.cli('token', 'get', '--agent', 'research', '--user', user, '--tool', 'tickets')).exit).toBe(
        2,
      )
    expect(
      (await service.cli('token', 'get', '--agent', '../admin', '--user', 'alice', '--tool', 'tickets')).err,
    ).toContain('must be a client_id')
  })

  it('takes a real user’s token from stdin or from a file that only its owner can read', async () => {
    service.answers.set('POST /token', granted)
    service.world.stdin = 'e30.e30.AA\n'
    const argv = ['token', 'get', '--agent', 'research', '--tool', 'tickets', '--subject-token-file']
    expect((await service.cli(...argv, '-')).exit).toBe(0)
    expect(service.received[0]?.body).toMatchObject({ subject_token: 'e30.e30.AA' })
    const path = join(service.keysDir, 'user-token')
    await writeFile(path, 'e30.e30.AA', { mode: 0o644 })
    expect(await service.cli(...argv, path)).toMatchObject({ exit: 2 })
  })
})

describe('looking into a token', () => {
  const claims = {
    iss: URL_OF_SERVICE,
    aud: 'https://tickets.example.com/',
    exp: NOW + 200,
    iat: NOW - 100,
    jti: JTI,
    client_id: 'research',
    sub: 'dev|alice',
    act: { sub: 'spiffe://company.example/agents/research' },
    scope: 'tickets:read_ticket',
    authorization_details: [{ type: 'tool', tool: 'tickets', effect: 'read', operations: ['read_ticket'] }],
    cnf: { jkt: 'A'.repeat(43) },
    task: { id: TASK, root: TASK, depth: 1 },
    att: { kind: 'private_key_jwt', tier: 'key' },
    rev: '0.7',
    pol: 'p0l1cy',
    dev: true,
  }
  beforeEach(async () => {
    service.answers.set('GET /tools', {
      tools: [
        { name: 'tickets', audience: claims.aud },
        { name: 'crm', audience: 'https://crm.example.com/' },
      ],
    })
    service.answers.set('POST /introspect', { active: true })
    service.world.stdin = await service.ring.sign('token', { typ: 'at+jwt' }, claims)
  })

  it('decodes it, and says that nothing was verified', async () => {
    const { exit, out, err } = await service.cli('token', 'inspect', '-')
    expect(exit).toBe(0)
    expect(out).toContain('for          dev|alice\n')
    expect(out).toContain('may          tickets:read_ticket\n')
    expect(out).toContain('expires      2027-01-15 08:03:20Z (in 3 min)\n')
    expect(err).toContain('Not verified')
    expect(JSON.parse((await service.cli('token', 'inspect', '-', '--json')).out)).toMatchObject({
      verified: false,
      payload: claims,
    })
  })

  it('verifies it by the published keys, and asks whether it was revoked', async () => {
    const { exit, out } = await service.cli('token', 'verify', '-', '--tool', 'tickets')
    expect(exit).toBe(0)
    expect(out).toMatch(/^good at https:\/\/tickets\.example\.com\/\n/)
    expect(service.received.at(-1)).toMatchObject({ path: '/introspect', clientId: 'admin' })
    service.answers.set('POST /introspect', { active: false })
    const dead = await service.cli('token', 'verify', '-', '--tool', 'tickets')
    expect(dead).toMatchObject({ exit: 1, out: '' })
    expect(dead.err).toContain('a tool would refuse it: revoked')
  })

  it('verifies offline without any credential where the tool is given by its audience', async () => {
    await rm(join(service.keysDir, 'admin.jwk'))
    const { exit, err } = await service.cli('token', 'verify', '-', '--tool', claims.aud, '--offline')
    expect(exit).toBe(0)
    expect(err).toContain('Whether it was revoked was not asked.')
    expect(service.received).toEqual([])
  })

  it('says why a tool would refuse it', async () => {
    const cases: readonly (readonly [string, string])[] = [
      [await service.ring.sign('token', { typ: 'at+jwt' }, { ...claims, exp: NOW - 1, iat: NOW - 200 }), 'expired'],
      [
        await service.ring.sign('token', { typ: 'at+jwt' }, { ...claims, iss: 'https://other.example.com' }),
        'untrusted_issuer',
      ],
      [await service.ring.sign('token', { typ: 'errand-handover+jwt' }, claims), 'wrong_typ'],
      [await service.ring.sign('feed', { typ: 'at+jwt' }, claims), 'key_scope'],
      [`${service.world.stdin.slice(0, -8)}AAAAAAAA`, 'bad_signature'],
      ['nonsense', 'not_a_token'],
    ]
    for (const [token, fault] of cases) {
      service.world.stdin = token
      const { exit, out, err } = await service.cli('token', 'verify', '-', '--tool', 'tickets')
      expect({ exit, out }, fault).toEqual({ exit: 1, out: '' })
      expect(err).toContain(`a tool would refuse it: ${fault}`)
    }
    service.world.stdin = await service.ring.sign('token', { typ: 'at+jwt' }, claims)
    expect((await service.cli('token', 'verify', '-', '--tool', 'crm')).err).toContain('wrong_audience')
  })

  it('T1 refuses a token on the command line without repeating it, and has no flag for a secret', async () => {
    for (const argv of [
      ['token', 'inspect', service.world.stdin],
      ['token', 'verify', service.world.stdin, '--tool', 'tickets'],
      ['explain', service.world.stdin],
      [service.world.stdin],
      ['task', service.world.stdin],
      ['bans', service.world.stdin],
      ['bans', `--${service.world.stdin}`],
    ]) {
      const { exit, out, err } = await service.cli(...argv)
      expect({ exit, out }, argv[0]).toEqual({ exit: 2, out: '' })
      expect(err).not.toContain(service.world.stdin.slice(40, 60))
      expect(err).not.toContain(service.world.stdin.slice(-20))
    }
  })
})
