/** The second act: a release turns out to be bad. Preview, one switch, a receipt, and a log that shows what was touched. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errandEnvironment } from './company-config.ts'
import type { createNarrator } from './narrator.ts'
import { runErrand } from './processes.ts'
import { BAD_COMPONENT } from './release.ts'
import { type DemoSettings, fileIn, urlsOf } from './settings.ts'
import type { Called, Refused, ShownToken } from './story.ts'

export interface SecondAct {
  readonly settings: DemoSettings
  readonly tell: ReturnType<typeof createNarrator>
  readonly deadWithinMs: number
  readonly research: <T>(work: string, body?: object) => Promise<T>
  readonly payments: (id: string) => Promise<Called>
  readonly readTicket: { readonly tool: string; readonly url: string; readonly scope: string }
  readonly untilRefused: (call: () => Promise<Called>) => Promise<{ called: Called; at: number }>
}

const REASON = `${BAD_COMPONENT} sends what it reads to a stranger`

/** Answers the id of the revocation. */
export async function tellSecondAct(world: SecondAct): Promise<string> {
  const { settings, tell, deadWithinMs, research, payments, readTicket, untilRefused } = world
  const { chapter, say, detail, check, quote } = tell
  const urls = urlsOf(settings)
  const errand = (...args: string[]) => runErrand(args, errandEnvironment(settings))

  chapter('Alice’s agents are at work again, when a part of the research agent turns out to be malicious')
  await research('open', { purpose: 'Ticket 4711: is the refund under way?' })
  const { claims } = await research<ShownToken>('token', { tool: 'tickets', scope: readTicket.scope })
  const release = claims.att.release ?? ''
  await research('hand-over', {
    tool: 'payments',
    operation: 'read_payment',
    only: { payment_id: { enum: ['pay_1001', 'pay_1002'] } },
    url: `${urls.payments}/payments/pay_1001`,
  })
  const [ours, theirs] = [await research<Called>('call', readTicket), await payments('pay_1002')]
  check('both agents’ tokens work', ours.status === 200 && theirs.status === 200, { ours, theirs })
  say('Its token says what it is made of: a release, signed by the company’s pipeline.')
  detail('release', release)
  detail('has', BAD_COMPONENT)

  chapter('Security staff look before they leap')
  const match = [`--release=${release}`, '--reason', REASON]
  const preview = await errand('revoke', ...match, '--dry-run')
  check('errand revoke --release … --dry-run', preview.code === 0, preview, 'errand')
  quote(preview.stdout)

  chapter('One switch: nothing of that release lives, at any tool, and it can be proven')
  const receiptFile = fileIn(settings, 'receipt.json')
  const refusals = Promise.all([
    untilRefused(() => research<Called>('call', readTicket)),
    untilRefused(() => payments('pay_1002')),
  ])
  const revoked = await errand('revoke', ...match, '--wait', '--receipt', receiptFile)
  check('errand revoke --release … --wait --receipt receipt.json', revoked.code === 0, revoked, 'errand')
  quote(`${revoked.stderr}${revoked.stdout}`)
  const receipt = (JSON.parse(readFileSync(receiptFile, 'utf8')) as { readonly receipt: string }).receipt
  const { cause: revocation, t: revokedAt } = firstRecord(receipt)
  const [ourEnd, theirEnd] = await refusals
  for (const [who, end, tool] of [
    ['the research agent’s token at the ticket desk', ourEnd, 'tickets-api'],
    ['the payments agent’s, made from it, at the payments API', theirEnd, 'payments-api'],
  ] as const) {
    const ms = Math.max(0, Math.round(performance.timeOrigin + end.at - revokedAt))
    check(
      `${who}: refused, ${ms} ms after`,
      end.called.answers[0]?.status === 401 && ms < deadWithinMs,
      { expected: `401 within ${deadWithinMs} ms`, ms, ...end.called },
      tool,
    )
  }
  const again: Refused | undefined = ourEnd.called.refused
  check('and there is no new one', again?.reason === 'banned', again ?? ourEnd.called, 'errand')

  chapter('The receipt verifies without the service, and the log shows one flipped byte')
  const keysFile = fileIn(settings, 'keys.json')
  writeFileSync(keysFile, await (await fetch(`${urls.errand}/.well-known/jwks.json`)).text())
  const copy = fileIn(settings, 'copy-of-the-log')
  cpSync(fileIn(settings, 'data', 'audit'), copy, { recursive: true })
  flipByte(copy, BAD_COMPONENT)
  const [good, damaged] = await Promise.all([
    errand('receipt', 'verify', receiptFile, '--jwks', keysFile),
    errand('audit', 'verify', copy),
  ])
  check('errand receipt verify receipt.json --jwks keys.json', good.code === 0, good, 'errand')
  quote(good.stdout)
  check(
    'errand audit verify, over a copy of the log in which one bit of that reason is another',
    damaged.code === 2 && damaged.stdout.includes('at index'),
    damaged,
    'errand',
  )
  quote(damaged.stdout)
  return revocation
}

/** That of the revocation, with its time in Unix milliseconds: the receipt carries it whole. */
function firstRecord(receipt: string): { readonly cause: string; readonly t: number } {
  const { log } = JSON.parse(Buffer.from(receipt.split('.')[1]!, 'base64url').toString('utf8')) as {
    readonly log: { readonly records: readonly { readonly record: string }[] }
  }
  return JSON.parse(log.records[0]!.record) as ReturnType<typeof firstRecord>
}

/** In the first file of the copy that has the text. */
function flipByte(folder: string, text: string): void {
  for (const name of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!name.isFile()) continue
    const file = join(name.parentPath, name.name)
    const bytes = readFileSync(file)
    const at = bytes.indexOf(text)
    if (at < 0) continue
    bytes[at] = bytes[at]! ^ 1
    writeFileSync(file, bytes)
    return
  }
}
