/** One picture of `errand top`: what happened between two readings of the counters, and how things stand. */
import type { Cli } from './cli.ts'
import type { Json } from './client.ts'
import { safe, table } from './print.ts'
import { object, objects } from './rows.ts'

type Counts = Readonly<Record<string, unknown>>
const numberIn = (counts: Counts, name: string): number => {
  const value = counts[name]
  return typeof value === 'number' ? value : 0
}
const sum = (counts: Counts): number => Object.keys(counts).reduce((all, name) => all + numberIn(counts, name), 0)

/** By how much each grew; a counter that went back belongs to a service that began anew. */
function grown(before: Counts, now: Counts): Record<string, number> {
  return Object.fromEntries(
    Object.keys(now).map((name) => {
      const more = numberIn(now, name) - numberIn(before, name)
      return [name, more < 0 ? numberIn(now, name) : more]
    }),
  )
}

interface Line {
  readonly name: string
  readonly count: number
  readonly refused: number
  readonly failed: number
  readonly within: Record<string, number>
}

function linesOf(before: Json, now: Json): readonly Line[] {
  const earlier = new Map(objects(before['requests']).map((each) => [`${each['method']} ${each['route']}`, each]))
  return objects(now['requests'])
    .map((each) => {
      const name = `${each['method']} ${each['route']}`
      const old = earlier.get(name) ?? {}
      const statuses = grown(object(old['statuses']), object(each['statuses']))
      const of = (first: string) =>
        sum(Object.fromEntries(Object.entries(statuses).filter(([status]) => status.startsWith(first))))
      return {
        name,
        count: sum(statuses),
        refused: of('4'),
        failed: of('5'),
        within: grown(object(old['within']), object(each['within'])),
      }
    })
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
}

/** Upper bound of the bucket in which that part of the answers lies; the histogram knows no more. */
function quantile(within: Readonly<Record<string, number>>, part: number): string {
  const bounds = Object.keys(within)
    .filter((bound) => bound !== '+Inf')
    .sort((a, b) => Number(a) - Number(b))
  const all = within['+Inf'] ?? Math.max(0, ...bounds.map((bound) => within[bound] ?? 0))
  if (all === 0) return ''
  const found = bounds.find((bound) => (within[bound] ?? 0) >= all * part)
  return found === undefined ? `>${bounds.at(-1)} s` : `≤${Number((Number(found) * 1000).toFixed(1))} ms`
}

const rate = (count: number, seconds: number): string => {
  const each = count / seconds
  return each >= 100 || Number.isInteger(each) ? String(Math.round(each)) : each.toFixed(1)
}

const MOST_ROUTES = 10
const MOST_REASONS = 8

export function frame(cli: Pick<Cli, 'colors'>, before: Json, now: Json): readonly string[] {
  const { colors } = cli
  const seconds = Math.max(0.001, Number(now['at']) - Number(before['at']))
  const issued = sum(grown(object(before['issued']), object(now['issued'])))
  const lines = linesOf(before, now)
  const refused = Object.entries(grown(object(before['refused']), object(now['refused'])))
    .map(([reason, more]) => ({ reason, more, total: numberIn(object(now['refused']), reason) }))
    .sort((a, b) => b.more - a.more || b.total - a.total)
  const cpu = grown({ cpu: before['cpu_seconds'] }, { cpu: now['cpu_seconds'] })['cpu']! / seconds
  const token = lines.find(({ name }) => name === 'POST /token')
  const checks = Object.entries(object(now['checks'])).map(([name, state]) => {
    const text = `${safe(name)} ${safe(state)}`
    return state === 'ok' ? colors.green(text) : state === 'degraded' ? colors.yellow(text) : colors.red(text)
  })
  const out = [
    `${colors.bold('errand top')}  ${safe(now['issuer'])}  up ${span(Number(now['uptime_seconds']))}  ${new Date(Number(now['at']) * 1000).toISOString().slice(11, 19)}Z`,
    checks.join('  '),
    `tokens ${colors.bold(`${rate(issued, seconds)}/s`)}   refused ${rate(
      refused.reduce((all, { more }) => all + more, 0),
      seconds,
    )}/s   ` +
      (token === undefined
        ? ''
        : `exchange p50 ${quantile(token.within, 0.5)}, p99 ${quantile(token.within, 0.99)}   `) +
      `in flight ${safe(now['in_flight'])}   cpu ${Math.round(cpu * 100)} %   resident ${safe(now['resident_mib'])} MiB`,
    `epoch ${safe(now['epoch'])}   audit records ${safe(now['audit_records'])}   revocations ${sum(object(now['revoked']))}`,
    '',
    ...table(cli, lines.slice(0, MOST_ROUTES), [
      { title: 'ROUTE', cell: ({ name }) => name },
      { title: '/S', cell: ({ count }) => rate(count, seconds) },
      { title: 'P50', cell: ({ within }) => quantile(within, 0.5) },
      { title: 'P99', cell: ({ within }) => quantile(within, 0.99) },
      { title: '4XX/S', cell: (line) => (line.refused === 0 ? '' : rate(line.refused, seconds)) },
      {
        title: '5XX/S',
        cell: ({ failed }) => (failed === 0 ? '' : rate(failed, seconds)),
        paint: (text, { failed }) => (failed === 0 ? text : colors.red(text)),
      },
    ]),
  ]
  if (refused.length > 0) {
    out.push(
      '',
      ...table(cli, refused.slice(0, MOST_REASONS), [
        { title: 'REFUSED FOR', cell: ({ reason }) => reason },
        { title: '/S', cell: ({ more }) => (more === 0 ? '' : rate(more, seconds)) },
        { title: 'SINCE START', cell: ({ total }) => total },
      ]),
    )
  }
  const verifiers = objects(now['verifiers'])
  if (verifiers.length > 0) {
    out.push(
      '',
      ...table(cli, verifiers, [
        { title: 'VERIFIER', cell: (each) => each['verifier'] },
        { title: 'EPOCH', cell: (each) => each['epoch'] },
        {
          title: 'BEHIND',
          cell: (each) => each['behind'],
          paint: (text, each) => (each['behind'] === 0 ? text : colors.yellow(text)),
        },
        ...(verifiers.some((each) => each['regression'] !== undefined)
          ? [
              {
                title: 'AUDIT LOG',
                cell: (each: (typeof verifiers)[number]) => (each['regression'] === undefined ? '' : 'went back'),
                paint: (text: string) => colors.red(text),
              },
            ]
          : []),
        { title: 'SAID', cell: (each) => `${span(Number(now['at']) - Number(each['at']))} ago` },
      ]),
    )
  }
  const tenants = objects(now['tenants'])
  if (tenants.length > 0)
    out.push(
      '',
      ...table(cli, tenants, [
        { title: 'TENANT', cell: (each) => each['name'] },
        { title: 'STATE', cell: (each) => each['state'] },
      ]),
    )
  return out
}

const span = (seconds: number): string => {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 120) return `${whole} s`
  if (whole < 7200) return `${Math.round(whole / 60)} min`
  return whole < 172_800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86_400)} d`
}
