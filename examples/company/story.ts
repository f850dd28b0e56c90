/** The story, step by step: each is done by the processes, looked at, and only then told. */
import type { createNarrator } from './narrator.ts'
import { runErrand } from './processes.ts'
import { errandEnvironment } from './company-config.ts'
import { tellSecondAct } from './second-act.ts'
import { type DemoSettings, fileIn, urlsOf } from './settings.ts'
import { signIn } from './sign-in.ts'
import { readAccessLog, replay, useOwnKey } from './thief.ts'

export interface Refused {
  readonly code: string
  readonly reason?: string
  readonly description?: string
  readonly rule?: string
  readonly missing?: readonly string[]
  readonly next?: string
  readonly decision_id?: string
}

interface Actor {
  readonly sub: string
  readonly act?: Actor
}

export interface ShownToken {
  readonly decision_id: string
  readonly claims: {
    readonly sub: string
    readonly aud: string
    readonly exp: number
    readonly iat: number
    readonly scope: string
    readonly act: Actor
    readonly task: { readonly id: string; readonly root: string; readonly depth: number }
    readonly att: { readonly kind: string; readonly tier: string; readonly release?: string }
    readonly cnf: { readonly jkt: string }
    readonly authorization_details: readonly { readonly operations: readonly string[]; readonly constraints?: object }[]
    readonly hops?: readonly { readonly client_id: string; readonly task: string }[]
  }
}

export interface Called {
  readonly status?: number
  readonly body?: { readonly [name: string]: unknown }
  /** How the tool itself answered, try by try. */
  readonly answers: readonly { readonly status: number }[]
  readonly refused?: Refused
}

const RESEARCH = 'spiffe://company.example/agents/research'
const PAYMENTS = 'spiffe://company.example/agents/payments'

/** Items of a list that another process answered with, for reading. */
const listed = (value: unknown): string => (Array.isArray(value) ? value.join(', ') : String(value))

export async function tellStory(world: {
  readonly settings: DemoSettings
  readonly tell: ReturnType<typeof createNarrator>
  /** How soon after the end of a task its tokens must be dead. */
  readonly deadWithinMs: number
}): Promise<{ readonly revocation: string }> {
  const { settings, tell, deadWithinMs } = world
  const urls = urlsOf(settings)
  const { chapter, say, detail, check, quote } = tell

  async function ask<T>(url: string, body: object): Promise<T> {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    })
    return (await response.json()) as T
  }
  const research = <T>(work: string, body: object = {}) => ask<T>(`${urls.research}/${work}`, body)

  chapter('Alice signs in at the company’s identity provider')
  const alice = await signIn({ issuer: urls.idp, resource: urls.errand, login: 'alice', password: 'wonderland' })
  say(alice.steps.join(' → '))
  check(
    'the id token is Alice’s, with her groups',
    alice.idTokenClaims['sub'] === 'alice',
    alice.idTokenClaims,
    'identity-provider',
  )
  detail('groups', listed(alice.idTokenClaims['groups']))

  chapter('The research agent opens a task for her')
  say('It proves what it is by its X.509-SVID over mTLS, and shows Alice’s access token.')
  const opened = await research<{ task_id?: string; thumbprint: string }>('open', {
    user_token: alice.accessToken,
    purpose: 'Ticket 4711: find out whether the customer was charged twice',
  })
  check('a task is open', /^task_[\w-]{22}$/.test(opened.task_id ?? ''), opened, 'research-agent')
  detail('task', String(opened.task_id))

  chapter('It gets a token for the ticket desk, and calls it')
  const ticketsUrl = `${urls.tickets}/tickets/4711`
  const granted = await research<ShownToken>('token', { tool: 'tickets', scope: 'tickets:read_ticket' })
  const { claims } = granted
  check(
    'the token is for Alice, by the agent, for one operation of one tool, bound to the agent’s key',
    claims?.sub === 'company|alice' &&
      claims.act.sub === RESEARCH &&
      claims.aud === 'https://tickets.example.com/' &&
      claims.scope === 'tickets:read_ticket' &&
      claims.task.id === opened.task_id &&
      claims.cnf.jkt === opened.thumbprint,
    granted,
    'research-agent',
  )
  detail('for', claims.sub)
  detail('agent', `${claims.act.sub} (${claims.att.kind}, tier ${claims.att.tier})`)
  detail('may', `${claims.scope} at ${claims.aud}`)
  detail('lives', `${claims.exp - claims.iat} s, with the key ${claims.cnf.jkt.slice(0, 12)}… alone`)
  const readTicket = { tool: 'tickets', url: ticketsUrl, scope: 'tickets:read_ticket' }
  const ticket = await research<Called>('call', readTicket)
  check(
    'the ticket desk serves the ticket',
    ticket.status === 200 && ticket.body?.['ticket_id'] === '4711',
    ticket,
    'tickets-api',
  )
  say(`“${String(ticket.body?.['subject'])}”: ${listed(ticket.body?.['payments'])}`)

  chapter('It asks for more than it may, and is told why')
  const tooMuch = (await research<{ refused?: Refused }>('token', { tool: 'payments', scope: 'payments:refund' }))
    .refused
  check(
    'payments:refund is refused, and the refused part is named',
    tooMuch?.code === 'invalid_scope' && tooMuch.missing?.[0] === 'payments:refund' && !!tooMuch.rule && !!tooMuch.next,
    tooMuch ?? 'no refusal',
    'research-agent',
  )
  detail('refused', `${tooMuch!.code}, ${tooMuch!.reason}`)
  detail('rule', String(tooMuch!.rule))
  detail('missing', String(tooMuch!.missing))
  detail('next', String(tooMuch!.next))

  chapter('It hands a narrower part to the payments agent')
  say('Only reading, and only the two payments of this ticket. The other agent has its own identity, a JWT-SVID.')
  const paymentUrl = (id: string): string => `${urls.payments}/payments/${id}`
  const handed = await research<{ task_id: string; token: ShownToken; call: Called; refused?: Refused }>('hand-over', {
    tool: 'payments',
    operation: 'read_payment',
    only: { payment_id: { enum: ticket.body?.['payments'] } },
    url: paymentUrl('pay_1001'),
  })
  const child = handed.token?.claims
  check(
    'the token’s chain is Alice → research → payments, in a child task of the first',
    child?.sub === 'company|alice' &&
      child.act.sub === PAYMENTS &&
      child.act.act?.sub === RESEARCH &&
      child.task.depth === 2 &&
      child.task.root === opened.task_id &&
      child.hops?.[0]?.client_id === 'research' &&
      child.scope === 'payments:read_payment',
    handed,
    'payments-agent',
  )
  detail('chain', `${child.sub}\n└ ${child.act.act!.sub}\n  └ ${child.act.sub} (${child.att.kind})`)
  detail('tasks', `${child.task.root}\n└ ${child.task.id}, depth ${child.task.depth}`)
  detail('may', `${child.scope} where ${JSON.stringify(child.authorization_details[0]?.constraints)}`)
  check('the payments API answers its call', handed.call.status === 200, handed.call, 'payments-api')
  const paymentsAgent = (id: string) =>
    ask<Called>(`${urls.paymentsAgent}/call`, { tool: 'payments', url: paymentUrl(id) })
  const other = await paymentsAgent('pay_2001')
  check('a payment that was not handed over is refused', other.status === 403, other, 'payments-api')
  tellTool(other.body)

  chapter('A thief reads the ticket desk’s access log, which keeps what it should not')
  const loot = readAccessLog(fileIn(settings, 'tickets-access.log'))
  const replayed = await replay(loot)
  check(
    'the same request again: refused',
    replayed.status === 401 && replayed.body['code'] === 'proof_replayed',
    replayed,
    'tickets-api',
  )
  tellTool(replayed.body)
  const stolen = await useOwnKey(loot)
  check(
    'the stolen token with the thief’s own key: refused',
    stolen.status === 401 && stolen.body['code'] === 'cnf_mismatch',
    stolen,
    'tickets-api',
  )
  tellTool(stolen.body)
  const elsewhere = await research<Called>('call', { ...readTicket, url: paymentUrl('pay_1001') })
  check(
    'the ticket desk’s token at the payments API, by its rightful holder: refused',
    elsewhere.status === 401 && elsewhere.body?.['code'] === 'wrong_audience',
    elsewhere,
    'payments-api',
  )
  tellTool(elsewhere.body)

  chapter('errand explain tells why, afterwards, to whoever may ask')
  const decisions = [
    [granted.decision_id, 'permitted'],
    [tooMuch!.decision_id!, 'refused'],
  ] as const
  const explained = decisions.map(([decision]) => runErrand(['explain', decision], errandEnvironment(settings)))
  for (const [at, [decision, verdict]] of decisions.entries()) {
    const told = await explained[at]!
    check(
      `errand explain ${decision}`,
      told.code === 0 && told.stdout.includes(verdict) && told.stdout.includes(decision),
      `exit ${told.code}\n${told.stdout}${told.stderr}`,
      'errand',
    )
    quote(told.stdout)
  }

  chapter('The task is completed, and everything below it ends')
  const ours = await research<Called>('call', readTicket)
  const theirs = await paymentsAgent('pay_1002')
  check('a moment before, both agents’ tokens still work', ours.status === 200 && theirs.status === 200, {
    ours,
    theirs,
  })
  const completed = await research<{ state?: string; refused?: Refused }>('complete')
  const completedAt = performance.now()
  check('the task is completed', completed.state === 'completed', completed, 'errand')
  const [ourEnd, theirEnd] = await Promise.all([
    untilRefused(() => research<Called>('call', readTicket)),
    untilRefused(() => paymentsAgent('pay_1002')),
  ])
  for (const [who, end, tool] of [
    ['the research agent’s token at the ticket desk', ourEnd, 'tickets-api'],
    ['the payments agent’s token at the payments API', theirEnd, 'payments-api'],
  ] as const) {
    const ms = Math.round(end.at - completedAt)
    check(
      `${who}: refused, ${ms} ms after`,
      end.called.answers[0]?.status === 401 && ms < deadWithinMs,
      { expected: `401 within ${deadWithinMs} ms`, ms, ...end.called },
      tool,
    )
  }
  const again = ourEnd.called.refused
  check('and there is no new one', again?.reason === 'task_not_active', again ?? ourEnd.called, 'errand')

  const payments = paymentsAgent
  const revocation = await tellSecondAct({ settings, tell, deadWithinMs, research, payments, readTicket, untilRefused })
  return { revocation }

  function tellTool(body: { readonly [name: string]: unknown } | undefined): void {
    tell.refusal(`${String(body?.['code'])}: ${String(body?.['error_description'])}`)
  }
}

/** Calls until the tool says no; at most five seconds. */
async function untilRefused(call: () => Promise<Called>): Promise<{ called: Called; at: number }> {
  const until = performance.now() + 5000
  for (;;) {
    const called = await call()
    const at = performance.now()
    if (called.answers[0]?.status !== 200 || at > until) return { called, at }
    await new Promise((later) => setTimeout(later, 10))
  }
}
