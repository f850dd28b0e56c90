import { expect, it } from 'vitest'
import { issuerConflict } from '../../src/config/tenants.ts'

const acme = [{ name: 'acme', issuer: 'https://errand.example.com/t/acme' }]

it.each([
  ['https://errand.example.com', 'https://errand.example.com/t/labs', undefined],
  ['https://errand.example.com', 'https://labs.example.com', undefined],
  ['https://errand.example.com', 'https://errand.example.com/t/token', undefined],
  ['https://errand.example.com/errand', 'https://errand.example.com/errand/t/labs', undefined],
  ['https://errand.example.com', 'https://errand.example.com/t/acme', 'already taken by the tenant acme'],
  ['https://errand.example.com', 'https://errand.example.com', "the service's own"],
  ['https://errand.example.com', 'https://errand.example.com/token', 'below /token'],
  // Where a proxy sets its own Host, the path alone is looked at: it would have everybody's /token.
  ['https://errand.example.com', 'https://labs.example.com/token', 'below /token'],
  ['https://errand.example.com', 'https://labs.example.com/.well-known/x', 'below /.well-known'],
  ['https://errand.example.com/errand', 'https://errand.example.com/errand/tasks', 'below /tasks'],
  // The proxy may have stripped the path of the service.
  ['https://errand.example.com/errand', 'https://errand.example.com/tasks', 'below /tasks'],
])('a tenant of %s under %s: %s', (host, issuer, problem) => {
  const found = issuerConflict(issuer, host, acme)
  if (problem === undefined) expect(found).toBeUndefined()
  else expect(found).toContain(problem)
})
