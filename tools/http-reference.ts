/** The tables of docs/http.md: every endpoint with who may call it, and every reason with its answer. */
import { answerTo, REASONS, type Slot } from '../src/oauth/refusal.ts'
import type { Access, Route } from '../src/http/route.ts'

const SINGLY = { public: 'anybody', form: 'client, by the form', provider: 'identity provider, admin' } as const
const whoMay = (access: Access): string => (typeof access === 'string' ? SINGLY[access] : access.join(', '))

export const routeName = ({ method, path }: Pick<Route, 'method' | 'path'>): string =>
  `${method} ${path.replace(/:([a-z_]+)(?:\{[^}]*\})?/g, '{$1}')}`

export const renderEndpoints = (routes: readonly Route[]): string =>
  [
    '| endpoint | for | |',
    '| --- | --- | --- |',
    ...routes.map((route) => `| \`${routeName(route)}\` | ${whoMay(route.access)} | ${route.summary} |`),
  ].join('\n')

const SLOTS: readonly Slot[] = [
  'client',
  'subject_token',
  'actor_token',
  'dpop',
  'api',
  'request',
  'authorization_details',
]

/** Reasons that have the same answers together, in the order of the table in src/oauth/refusal.ts. */
export function renderErrorMap(): string {
  const rows = new Map<string, string[]>()
  for (const reason of REASONS) {
    const answers = new Map<string, Slot[]>()
    for (const slot of SLOTS) {
      const { status, error } = answerTo({ reason, slot })
      const text = `${status} \`${error}\``
      answers.set(text, [...(answers.get(text) ?? []), slot])
    }
    // The most common answer first; the others with the slots in which they are given.
    const [usual, ...others] = [...answers].sort((a, b) => b[1].length - a[1].length)
    const all =
      answers.size > 2
        ? '*by slot*'
        : [usual![0], ...others.map(([text, slots]) => `in ${slots.join(', ')}: ${text}`)].join('; ')
    rows.set(all, [...(rows.get(all) ?? []), reason])
  }
  return [
    '| answer | reasons |',
    '| --- | --- |',
    ...[...rows].map(([answer, reasons]) => `| ${answer} | ${reasons.map((each) => `\`${each}\``).join(' ')} |`),
  ].join('\n')
}
