import { describe, expect, it } from 'vitest'
import { refusalResponse, type RefusalCode, VerificationError } from '@errand/verifier/errors.ts'
import { AT_TOOLS, type ToolCode } from '../../src/oauth/refusals/at-tools.ts'
import { NEXT_ACTIONS } from '../../src/oauth/refusals/words.ts'

const refusalOf = (code: RefusalCode, status: number, error: string, issuer?: string) =>
  new VerificationError({ status, error, code, description: 'no', ...(issuer === undefined ? {} : { issuer }) })

describe('a refusal of a tool', () => {
  it('leads to the page about its code at the token service, and says what a program may do', () => {
    const { body } = refusalResponse(
      refusalOf('insufficient_scope', 403, 'insufficient_scope', 'https://errand.example'),
    )
    expect(JSON.parse(body)).toEqual({
      error: 'insufficient_scope',
      error_description: 'no',
      error_uri: 'https://errand.example/docs/refusals/insufficient_scope',
      code: 'insufficient_scope',
      next_action: 'renew',
    })
  })

  it.each(Object.keys(AT_TOOLS) as ToolCode[])('%s: names the step that its page names', (code) => {
    const [, status, error] = /^(\d+) `(.+)`$/.exec(AT_TOOLS[code].answer)!
    expect(refusalOf(code, Number(status), error!).nextAction).toBe(AT_TOOLS[code].action)
  })

  it('knows steps that the service knows', () => {
    for (const [code, error] of [
      ['expired', 'invalid_token'],
      ['cnf_mismatch', 'invalid_token'],
      ['proof_replayed', 'invalid_dpop_proof'],
      ['task_not_active', 'invalid_token'],
      ['budget_exhausted', 'insufficient_scope'],
      ['body_too_large', 'invalid_request'],
    ] as const)
      expect(Object.keys(NEXT_ACTIONS)).toContain(refusalOf(code, 400, error).nextAction)
  })
})
