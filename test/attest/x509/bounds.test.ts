import { expect, it, vi } from 'vitest'
import type * as Keys from '../../../src/attest/x509/keys.ts'
import { PURPOSE, validatePath } from '../../../src/attest/x509/path.ts'
import { type Issued, issue, NOW, newKey } from '../pki.ts'

let tried = 0
vi.mock('../../../src/attest/x509/keys.ts', async (original) => {
  const keys = await original<typeof Keys>()
  const signedBy: typeof keys.signedBy = (...args) => {
    tried++
    return keys.signedBy(...args)
  }
  return { ...keys, signedBy }
})

it('F14 CAs that share one name, so that each might have issued each, cost a bounded number of signatures', async () => {
  let issuer: Issued = await issue({ name: 'CN=same', ca: true, noKeyIds: true })
  const anchors = [await issue({ name: 'CN=same', ca: true, noKeyIds: true })]
  const between: Issued[] = []
  for (let i = 0; i < 9; i++) {
    issuer = await issue({ name: 'CN=same', ca: true, issuer, noKeyIds: true, keys: await newKey() })
    between.unshift(issuer)
  }
  const leaf = await issue({ name: 'CN=leaf', issuer, noKeyIds: true })
  const verdict = validatePath({
    leaf: leaf.der,
    intermediates: between.map((ca) => ca.der).toReversed(),
    anchors: anchors.map((ca) => ca.der),
    now: NOW,
    purpose: PURPOSE.clientAuth,
  })
  expect(verdict).toMatchObject({ ok: false })
  expect(tried).toBeGreaterThan(1)
  expect(tried).toBeLessThanOrEqual(32)
})
