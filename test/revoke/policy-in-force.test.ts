import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '../../src/audit/log.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { createPolicyInForce, type LoadedConfig, type RecordedConfig } from '../../src/revoke/policy-in-force.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'

const config = (name: string, onChange: 'cut' | 'keep' = 'cut'): LoadedConfig => ({
  digest: `digest-${name}`,
  policyDigest: name,
  settings: { policy: { onChange } },
})
const [A, B, C] = [config('a'), config('b'), config('c')]

function opened(recorded: readonly RecordedConfig[] = []) {
  const away = { store: false, log: false }
  const done: string[] = []
  const bans: Revocation[] = []
  const inForce = createPolicyInForce({
    keep: async () => undefined,
    now: () => 1000,
    bans: async () => bans,
    revoke: {
      byMatch: async ({ match }) => {
        if (away.store) throw new Unavailable('store_unavailable', 'away')
        done.push(`ban ${match.policy}`)
        bans.push({ id: `ban-${match.policy}`, match, by: 'system' } as Revocation)
        return { entry: bans.at(-1)!, added: true, tasks: [] }
      },
      readmit: async (id) => {
        if (away.log) throw new Unavailable('audit_unavailable', 'away')
        done.push(`readmit ${id}`)
        bans.splice(
          bans.findIndex((ban) => ban.id === id),
          1,
        )
        return true
      },
    },
    audit: {
      append: async ({ details }: AuditEvent) => {
        if (away.log) throw new Unavailable('audit_unavailable', 'away')
        done.push(`record ${details?.['policy']}`)
      },
    },
    recorded: async () => recorded,
    maxTokenLifetimeSeconds: 300,
  })
  return { inForce, done, away }
}

describe('a policy set comes into force', () => {
  it('D23 is written down first, then the tokens of the one before die', async () => {
    const { inForce, done } = opened()
    inForce.loaded(A)
    await inForce.settle()
    inForce.loaded(B, A)
    await inForce.settle()
    expect(done).toEqual(['record a', 'record b', 'ban a'])
  })

  it('D23 a set that decided while a store was away is not forgotten when the old one comes back', async () => {
    const { inForce, done, away } = opened([{ digest: A.digest, policy: 'a' }])
    inForce.loaded(A)
    await inForce.settle()
    away.store = true
    inForce.loaded(B, A)
    await expect(inForce.settle()).rejects.toMatchObject({ reason: 'store_unavailable' })
    inForce.loaded(A, B)
    await expect(inForce.settle()).rejects.toMatchObject({ reason: 'store_unavailable' })
    away.store = false
    await inForce.settle()
    expect(done).toEqual(['record b', 'record a', 'ban b'])
  })

  it('D23 sets that followed one another faster than they could be settled die all', async () => {
    const { inForce, done } = opened()
    inForce.loaded(A)
    await inForce.settle()
    inForce.loaded(B, A)
    inForce.loaded(C, B)
    await inForce.settle()
    expect(done).toEqual(['record a', 'record c', 'ban a', 'ban b'])
  })

  it('D23 a crash between the record and the ban leaves the ban to the next start', async () => {
    const { inForce, done } = opened([
      { digest: B.digest, policy: 'b' },
      { digest: A.digest, policy: 'a' },
    ])
    inForce.loaded(B)
    await inForce.settle()
    expect(done).toEqual(['ban a'])
  })

  it('D23 old tokens die also while the log cannot be written, and nobody is admitted again unrecorded', async () => {
    const { inForce, done, away } = opened()
    inForce.loaded(A)
    await inForce.settle()
    inForce.loaded(B, A)
    await inForce.settle()
    away.log = true
    inForce.loaded(A, B)
    await expect(inForce.settle()).rejects.toMatchObject({ reason: 'audit_unavailable' })
    expect(done.slice(3)).toEqual(['ban b'])
    away.log = false
    await inForce.settle()
    expect(done.slice(3)).toEqual(['ban b', 'record a', 'readmit ban-a'])
  })

  it('D23 keeps tokens where the configuration says so', async () => {
    const { inForce, done } = opened()
    inForce.loaded(A)
    await inForce.settle()
    inForce.loaded(config('b', 'keep'), A)
    await inForce.settle()
    expect(done).toEqual(['record a', 'record b'])
  })
})
