// Adds up vitest's JSON reports: node .ci/sum.js <steps passed> <steps failed> <report>=<exit code>…; the last line is the verdict.
import { existsSync, readFileSync } from 'node:fs'

/** What cannot run everywhere says so in its title; whatever else is skipped here was skipped by mistake. */
const MAY_BE_SKIPPED = [
  // A real Vault is given from outside.
  { marker: /VAULT_ADDR/, absent: !process.env.VAULT_ADDR },
  { marker: /\.\.\/shared\/vectors/, absent: !existsSync('../shared/vectors') },
  { marker: /\bas root\b/, absent: process.getuid?.() !== 0 },
]
const maySkip = (title) => MAY_BE_SKIPPED.some(({ marker, absent }) => absent && marker.test(title))

const [stepsPassed, stepsFailed, ...reports] = process.argv.slice(2)
let passed = Number(stepsPassed)
let failed = Number(stepsFailed)
const fail = (what) => {
  console.log(what)
  failed++
}

for (const [path, code] of reports.map((each) => each.split('='))) {
  const before = failed
  const { testResults } = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : { testResults: [] }
  if (testResults.length === 0) fail(`failed: ${path} holds no tests`)
  for (const { name, status, message, assertionResults } of testResults) {
    // A file that does not load has no tests, and says so by its own status.
    if (status === 'failed' && !assertionResults.some((each) => each.status === 'failed'))
      fail(`failed: ${name}: ${message.split('\n')[0]}`)
    for (const test of assertionResults) {
      if (test.status === 'passed') passed++
      else if (test.status === 'failed') fail(`failed: ${name}: ${test.fullName}`)
      else if (!maySkip(test.fullName)) fail(`skipped, which counts as failed here: ${name}: ${test.fullName}`)
    }
  }
  // Errors outside of any test.
  if (code !== '0' && failed === before) fail(`failed: ${path}: the run ended with an error`)
}

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
