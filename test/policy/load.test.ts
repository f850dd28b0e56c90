import { describe, expect, it } from 'vitest'
import { POLICY_BOUNDS } from '../../src/policy/policy-text.ts'
import { PERMIT_ALL, problemsOf, setOf } from './policies.ts'

const when = (condition: string) => `@id("p")\npermit (principal, action, resource)\nwhen { ${condition} };`

describe('a policy set', () => {
  it('loads what a policy author would write', () => {
    const set = setOf(`
      // Comments, strings with ; and annotations.
      @id("support_reads") @reason("support; reads") @ttl_seconds("60") @sender_constraint("mtls")
      permit (principal == Agent::"research", action in [Action::"effect:read", Action::"tickets:comment"], resource == Tool::"tickets")
      when { context.environment == "production" && context.subject.groups.contains("support; and more") }
      unless { context.subject.claims has department && context.subject.claims.department == "legal" };
      @id("hours") forbid (principal, action, resource) unless { context.hour_utc >= 7 && context.now.toTime() < duration("18h") };
    `)
    expect([...set.policies.keys()]).toEqual(['support_reads', 'hours'])
    expect(set.policies.get('support_reads')!.annotations).toEqual({
      id: 'support_reads',
      reason: 'support; reads',
      ttlSeconds: 60,
      senderConstraint: 'mtls',
    })
  })

  it('has one digest whatever its layout, and another for another meaning', () => {
    const one = setOf('@id("a") permit (principal, action, resource);\n@id("b") forbid (principal, action, resource);')
    const same = setOf(
      '// moved\n@id("b")forbid(principal,action,resource);@id("a")\npermit ( principal, action, resource ) ;',
    )
    const other = setOf('@id("a") permit (principal, action, resource);')
    expect(same.digest).toBe(one.digest)
    expect(other.digest).not.toBe(one.digest)
    expect(one.digest).toMatch(/^[A-Za-z0-9_-]{12}$/)
  })

  it('may be empty, and denies all', () => {
    const answer = setOf('// nothing yet\n').evaluate({
      agent: 'research',
      tool: 'tickets',
      operation: 'read',
      effect: 'read',
      context: {},
      now: 0,
    })
    expect(answer).toEqual({ allowed: false, determining: [], errors: [] })
  })
})

describe('a policy set is refused as a whole', () => {
  const table: readonly [name: string, text: string, code: string, line: number, says: RegExp, suggests?: RegExp][] = [
    ['text that is no policy', `${PERMIT_ALL}\nallow everything;`, 'policy_rejected', 2, /unexpected token|invalid/],
    ['a policy that is cut off', '@id("p")\npermit (principal, action,', 'policy_rejected', 2, /unexpected end/],
    ['a template', '@id("p") permit (principal == ?principal, action, resource);', 'policy_rejected', 1, /template/],
    ['no @id', '\npermit (principal, action, resource);', 'policy_rejected', 2, /no @id/],
    [
      'one @id twice',
      `${PERMIT_ALL}\n${PERMIT_ALL}`,
      'duplicate',
      2,
      /already taken at config\/policies\/test.cedar:1/,
    ],
    [
      '@approval, which nothing enforces yet',
      '@id("p")\n@approval("finance")\npermit (principal, action, resource);',
      'policy_rejected',
      2,
      /@approval is not enforceable yet/,
    ],
    [
      'a misspelt annotation',
      '@id("p") @ttl_second("60") permit (principal, action, resource);',
      'policy_rejected',
      1,
      /@ttl_second/,
      /ttl_seconds/,
    ],
    [
      'a life above the maximum',
      '@id("p") @ttl_seconds("301") permit (principal, action, resource);',
      'bad_limit',
      1,
      /1 to 300/,
    ],
    [
      'a life of no seconds',
      '@id("p") @ttl_seconds("0") permit (principal, action, resource);',
      'bad_limit',
      1,
      /1 to 300/,
    ],
    [
      'a life in another notation',
      '@id("p") @ttl_seconds("6e1") permit (principal, action, resource);',
      'bad_limit',
      1,
      /1 to 300/,
    ],
    [
      'an unknown sender constraint',
      '@id("p") @sender_constraint("dpopp") permit (principal, action, resource);',
      'policy_rejected',
      1,
      /dpopp/,
      /dpop/,
    ],
    [
      'an obligation on a forbid',
      '@id("p") @ttl_seconds("60") forbid (principal, action, resource);',
      'policy_rejected',
      1,
      /no effect/,
    ],
    [
      'an agent that does not exist',
      '@id("p") permit (principal == Agent::"reserch", action, resource);',
      'policy_rejected',
      1,
      /no agent "reserch"/,
      /research/,
    ],
    [
      'a tool that does not exist',
      '@id("p") permit (principal, action, resource == Tool::"ticket");',
      'policy_rejected',
      1,
      /no tool "ticket"/,
      /tickets/,
    ],
    [
      'an agent that does not exist, in a condition',
      when('principal == Agent::"nobody"'),
      'policy_rejected',
      3,
      /no agent "nobody"/,
    ],
    [
      'an operation that does not exist',
      '@id("p") permit (principal, action == Action::"tickets:reed", resource);',
      'policy_rejected',
      1,
      /tickets:reed/,
      /tickets:read/,
    ],
    [
      'an effect that does not exist',
      '@id("p") permit (principal, action in Action::"effect:reading", resource);',
      'policy_rejected',
      1,
      /effect:reading/,
      /effect:read/,
    ],
    [
      'an operation of another tool',
      '@id("p") permit (principal, action == Action::"payments:refund", resource == Tool::"tickets");',
      'policy_rejected',
      1,
      /can never apply.*"tickets" has no such operation/,
    ],
    [
      'an effect that the tool has not',
      '@id("p") permit (principal, action in Action::"effect:privileged", resource == Tool::"payments");',
      'policy_rejected',
      1,
      /can never apply/,
    ],
    [
      'an attribute that does not exist',
      when('context.environmnt == "production"'),
      'policy_rejected',
      3,
      /environmnt/,
      /environment/,
    ],
    [
      'a word that the attribute never holds',
      when('context.environment == "prodution"'),
      'policy_rejected',
      3,
      /never "prodution"/,
      /production/,
    ],
    [
      'such a word on the left, or in a set',
      when('["staging", "prod"].contains(context.environment)'),
      'policy_rejected',
      3,
      /never "prod"/,
    ],
    ['such a word behind !=', when('"reed" != context.effect'), 'policy_rejected', 3, /never "reed"/, /read/],
    [
      'an issuer that is not configured',
      when('context.subject.issuer == "compny"'),
      'policy_rejected',
      3,
      /never "compny"/,
      /company/,
    ],
    ['a claim that no issuer gives', when('context.subject.claims has departmnt'), 'policy_rejected', 1, /never apply/],
    [
      'a claim that may be absent',
      when('context.subject.claims.department == "legal"'),
      'policy_rejected',
      3,
      /optional attribute/,
      /has department/,
    ],
    ['a comparison of two types', when('context.depth == "2"'), 'policy_rejected', 3, /type/],
    [
      'a condition that contradicts itself',
      when('context.autonomous && !context.autonomous && false'),
      'policy_rejected',
      1,
      /never apply/,
    ],
  ]
  it.each(table)('%s', (_, text, code, line, says, suggests) => {
    const problems = problemsOf(text)
    expect(problems.length).toBeGreaterThan(0)
    const [first] = problems
    expect(first).toMatchObject({ file: 'config/policies/test.cedar', code })
    expect(first!.message).toMatch(says)
    expect(first!.column).toBeGreaterThan(0)
    if (suggests) expect(first!.suggestion).toMatch(suggests)
    if (line !== 1) expect(first!.line).toBe(line)
  })

  it.each([
    ['context.stage == "read" && context.stage == "draft"', /what it says of context.stage contradicts itself/],
    ['context.stage == "read" && context.depth == 1 && "read" != context.stage', /context.stage contradicts/],
    ['["read", "draft"].contains(context.stage) && context.stage == "suggest"', /context.stage contradicts/],
    [
      'context.tier != "key" && context.tier != "platform" && !(context.tier == "measured")',
      /context.tier contradicts/,
    ],
    ['context.autonomous && (context.autonomous == false)', /context.autonomous contradicts/],
    ['context.subject.id == "company|a" && context.subject.id == "company|b"', /context.subject.id contradicts/],
    [
      'context.subject.claims has level && context.subject.claims.level > 5 && 5 >= context.subject.claims.level',
      /level/,
    ],
    ['context.hour_utc >= 18 && context.hour_utc < 7', /context.hour_utc contradicts/],
    ['context.hour_utc > 3 && context.hour_utc < 4', /context.hour_utc contradicts/],
    ['context.depth > 9', /context.depth is 1 to 4/],
    ['1 > context.depth', /context.depth is 1 to 4/],
    ['context.autonomous && context.weekday_utc == 0', /context.weekday_utc is 1 to 7/],
    ['!(context.hour_utc < 24 || context.autonomous)', /context.hour_utc is 0 to 23/],
  ])('where no request can satisfy it: %s', (condition, says) => {
    const policies = [
      when(condition),
      `@id("p")\nforbid (principal, action, resource)\nwhen { ${condition} };`,
      `@id("p")\npermit (principal, action, resource)\nunless { !(${condition}) };`,
    ]
    for (const text of policies) {
      const problems = problemsOf(text)
      expect(problems).toMatchObject([{ code: 'policy_rejected', line: 3 }])
      expect(problems[0]!.message).toMatch(/^the policy can never apply: /)
      expect(problems[0]!.message).toMatch(says)
    }
  })

  it('where its when and its unless leave nothing', () => {
    expect(
      problemsOf(`${when('context.stage == "read"').slice(0, -1)} unless { context.stage == "read" };`),
    ).toMatchObject([
      {
        code: 'policy_rejected',
        message: 'the policy can never apply: what it says of context.stage contradicts itself',
      },
    ])
  })

  it.each([
    'context.stage == "read" || context.stage == "draft"',
    'context.stage != "read" && context.stage != "draft"',
    '!(context.stage == "read" && context.stage == "draft")',
    'context.stage == "read" && context.environment == "staging"',
    'context.depth >= 4 && context.depth < 9',
    'context.hour_utc >= 7 && context.hour_utc < 18 && context.hour_utc != 12',
    'context.subject.id != "a" && context.subject.id != "b" && context.subject.id != "ab?"',
    'context.subject.claims has level && context.subject.claims.level > 5 && context.subject.claims.level < 7',
    'context.subject.claims has on_call && context.subject.claims.on_call && !context.autonomous',
    'if context.depth > 9 then context.autonomous else true',
    '{ "==": context.depth } == { "==": 9 }',
    'context.subject.id like "a*" && context.subject.id != "a"',
  ])('but not for what can be satisfied: %s', (condition) => {
    expect(problemsOf(when(condition))).toEqual([])
  })

  it('G1 G2 ids that are not lower-case ASCII are refused, never mended: bad_identifier', () => {
    for (const id of [
      ' root',
      'root ',
      'Root',
      'ＡＤＭＩＮ',
      'admin\u200b',
      '\u212abase',
      '',
      'a'.repeat(65),
      '1st',
      '__proto__',
    ]) {
      const problems = problemsOf(`@id(${JSON.stringify(id)}) permit (principal, action, resource);`)
      expect(
        problems.map(({ code }) => code),
        JSON.stringify(id),
      ).toEqual(['bad_identifier'])
    }
  })

  it('G1 look-alike letters in a condition are refused, since they equal nothing that is an identifier', () => {
    for (const word of ['ａdmin', 'admin\u200b', 'b\u00fcro']) {
      expect(problemsOf(when(`context.subject.groups.contains("${word}")`))).toMatchObject([
        { code: 'bad_identifier', line: 3 },
      ])
    }
  })

  it('reports every problem of every policy together, in places that an editor can jump to', () => {
    const problems = problemsOf(
      '@id("a") permit (principal == Agent::"reserch", action, resource);\n@id("b") @approval("x") permit (principal, action, resource);\n\n  @id("c") permit (principal, action == Action::"tickets:reed", resource);',
    )
    expect(problems.map(({ line, column }) => [line, column])).toEqual([
      [2, 10],
      [1, 31],
      [4, 41],
    ])
  })

  it('G5 a rule too large or too deep is refused before the parser sees it: policy_too_large', () => {
    const many = Array(10_000).fill('context.depth == 1').join(' && ')
    const cases = {
      'ten thousand conditions': when(many),
      'conditions just above the bound': when(
        Array(POLICY_BOUNDS.conditions + 2)
          .fill('true')
          .join('&&'),
      ),
      'a thousand brackets': when(`${'('.repeat(1000)}true${')'.repeat(1000)}`),
      'a thousand ifs': when(`${'if true then '.repeat(1000)}true${' else true'.repeat(1000)}`),
      'a thousand sums': when(`${Array(1000).fill('1').join('+')} == 1`),
      'a thousand members': when(`context${'.a'.repeat(1000)}`),
      'a policy of 20 KB': when(`context.subject.groups.contains("${'x'.repeat(20_000)}")`),
      'a file of 5 MB': `${PERMIT_ALL}\n// ${'x'.repeat(5_000_000)}`,
    }
    for (const [name, text] of Object.entries(cases)) {
      expect(
        problemsOf(text).map(({ code }) => code),
        name,
      ).toEqual(['policy_too_large'])
    }
    // The engine is still whole: what is within bounds loads.
    expect(
      problemsOf(
        when(
          Array(POLICY_BOUNDS.conditions - 2)
            .fill('context.depth == 1')
            .join('&&'),
        ),
      ),
    ).toEqual([])
  })

  it('G5 all bounds reached at once are still within what the engine can take', () => {
    const deep = `${'!('.repeat(15)}${'if true then '.repeat(POLICY_BOUNDS.ifs)}${Array(30).fill('context.depth').join('+')} > 3${' else true'.repeat(POLICY_BOUNDS.ifs)}${')'.repeat(15)}`
    const text = when(
      `${Array(POLICY_BOUNDS.conditions - 3)
        .fill('true')
        .join('&&')} && ${deep}`,
    )
    expect(problemsOf(text)).toEqual([])
  })
})
