/** The pages about refusals: what `error_uri` leads to. The same text is docs/refusals/ for readers of the repository. */
import { createHash } from 'node:crypto'
import { VerificationError } from '@errand/verifier/errors.ts'
import { answerTo, refuse, type Slot } from '../oauth/refusal.ts'
import { ALSO_AT_TOOLS, AT_TOOLS } from '../oauth/refusals/at-tools.ts'
import { isAtTools, isSubject, type Subject, SUBJECTS, wordsOf } from '../oauth/refusals/all.ts'
import { NEXT_ACTIONS, type Step } from '../oauth/refusals/words.ts'
import { REFUSAL_PAGES } from './refusal-response.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const PLACES: Readonly<Record<Slot, string>> = {
  request: 'in the request',
  client: 'as client authentication',
  subject_token: 'as subject token',
  actor_token: 'as actor token',
  client_attestation: 'as client attestation',
  enrolment: 'at enrolment',
  assertion: 'as authorization grant',
  dpop: 'as DPoP proof',
  api: 'at the JSON endpoints',
  authorization_details: 'in `authorization_details`',
}
const SLOTS = Object.keys(PLACES) as readonly Slot[]

interface Answered {
  readonly answer: string
  readonly slots: readonly Slot[]
}

/** The answers a subject has, the most common one first. */
function answersOf(subject: Subject): readonly Answered[] {
  if (isAtTools(subject)) return [{ answer: AT_TOOLS[subject].answer, slots: [] }]
  const answers = new Map<string, Slot[]>()
  for (const slot of SLOTS) {
    const { status, error } = answerTo({ reason: subject, slot })
    const text = `${status} \`${error}\``
    answers.set(text, [...(answers.get(text) ?? []), slot])
  }
  return [...answers].map(([answer, slots]) => ({ answer, slots })).sort((a, b) => b.slots.length - a.slots.length)
}

function answerLine(subject: Subject): string {
  const [usual, ...others] = answersOf(subject)
  const rest = others.map(({ answer, slots }) => `${slots.map((slot) => PLACES[slot]).join(' or ')}: ${answer}`)
  if (isAtTools(subject)) return `${usual!.answer}, from a tool`
  const fromTool = isAlsoAtTools(subject) ? [`from a tool: ${ALSO_AT_TOOLS[subject]}`] : []
  return [usual!.answer, ...rest, ...fromTool].join('; ')
}

const isAlsoAtTools = (subject: Subject): subject is keyof typeof ALSO_AT_TOOLS => Object.hasOwn(ALSO_AT_TOOLS, subject)

/** What the verifier tells a program, where it is another step than the service's. */
function fromTool(subject: Subject, { action }: Step): readonly string[] {
  if (!isAlsoAtTools(subject)) return []
  const [, status, error] = /^(\d+) `(.+)`$/.exec(ALSO_AT_TOOLS[subject])!
  const answer = { status: Number(status), error: error!, code: subject, description: '' }
  const { nextAction } = new VerificationError(answer)
  return nextAction === action ? [] : [`**From a tool** (\`${nextAction}\`): ${NEXT_ACTIONS[nextAction]}.`]
}

/** By OAuth error; what is answered by where it was presented is a group of its own. */
function groups(): ReadonlyMap<string, readonly Subject[]> {
  const found = new Map<string, Subject[]>()
  for (const subject of SUBJECTS) {
    const errors = new Set(answersOf(subject).map(({ answer }) => /`(.+)`/.exec(answer)![1]!))
    const group = isAtTools(subject)
      ? 'Answered by tools only'
      : errors.size > 2
        ? 'Answered by where it was presented'
        : `\`${[...errors][0]}\``
    found.set(group, [...(found.get(group) ?? []), subject])
  }
  return found
}

interface Part {
  readonly heading?: string
  readonly paragraphs?: readonly string[]
  readonly list?: readonly string[]
}

interface Page {
  readonly title: string
  readonly parts: readonly Part[]
}

/** A name in pointed brackets is code on a page; in an answer it stands as it is. */
const marked = (text: string): string => text.replace(/[^\s`]*<[^>`]+>[^\s`,;]*(?!`)/g, '`$&`')
const sentence = (text: string): string => `${text[0]!.toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? '' : '.'}`

function pageAbout(subject: Subject): Page {
  const words = wordsOf(subject)
  const at = isAtTools(subject) ? 'the tool' : 'the service'
  const elsewhere = new Map<Step, Slot[]>()
  for (const [slot, step] of Object.entries(words.inSlot ?? {}) as [Slot, Step][]) {
    elsewhere.set(step, [...(elsewhere.get(step) ?? []), slot])
  }
  return {
    title: subject,
    parts: [
      { paragraphs: [sentence(marked(words.says)), `**Answer:** ${answerLine(subject)}.`] },
      { heading: 'What it means', paragraphs: [words.means, words.why] },
      {
        heading: 'What helps',
        list: [
          `**Next step** (\`${words.action}\`): ${marked(words.next)}.`,
          ...[...elsewhere].map(
            ([{ action, next }, slots]) =>
              `**Presented ${slots.map((slot) => PLACES[slot]).join(' or ')}** (\`${action}\`): ${marked(next)}.`,
          ),
          ...fromTool(subject, words),
          `**Whoever writes the client:** ${words.agent}`,
          ...(words.operator === undefined ? [] : [`**Whoever runs ${at}:** ${words.operator}`]),
        ],
      },
      { heading: 'For example', paragraphs: [sentence(words.example)] },
    ],
  }
}

const indexPage = (link: (subject: Subject) => string): Page => ({
  title: 'Refusals',
  parts: [
    {
      paragraphs: [
        'Every way in which Errand and its tools say no, by the OAuth error of the answer. `reason` (at a tool: `code`) is stable: programs may depend on it. Whoever has proven who it is gets the reason and a link to its page (`error_uri`); a stranger gets the bare error.',
      ],
    },
    {
      heading: 'Next steps',
      paragraphs: ['`next_action` says to a program what `next` says to a person:'],
      list: Object.entries(NEXT_ACTIONS).map(([action, meaning]) => `\`${action}\`: ${meaning}`),
    },
    ...[...groups()].map(([group, subjects]) => ({
      heading: group,
      list: subjects.map((subject) => `[${subject}](${link(subject)}): ${marked(wordsOf(subject).says)}`),
    })),
  ],
})

function markdown({ title, parts }: Page): string {
  const blocks = [`# ${title}`]
  for (const { heading, paragraphs = [], list = [] } of parts) {
    if (heading !== undefined) blocks.push(`## ${heading}`)
    blocks.push(...paragraphs)
    if (list.length > 0) blocks.push(list.map((item) => `- ${item}`).join('\n'))
  }
  return `${blocks.join('\n\n')}\n`
}

const STYLE =
  'body{max-width:44rem;margin:3rem auto;padding:0 1rem;font:16px/1.55 system-ui,sans-serif;color-scheme:light dark}h1,code{font-family:ui-monospace,monospace}h2{margin-top:2rem;font-size:1.1rem}li{margin:.35rem 0}'
/** No script, no image, no frame, nothing from elsewhere; this one style by its digest. */
const POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`

const escaped = (text: string): string => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)

const inline = (text: string): string =>
  escaped(text)
    .replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>')
    .replace(/\[([a-z0-9_]+)\]\(([a-z0-9_./]+)\)/g, '<a href="$2">$1</a>')

function html({ title, parts }: Page, up?: string): string {
  const body = parts.map(({ heading, paragraphs = [], list = [] }) =>
    [
      heading === undefined ? '' : `<h2>${inline(heading)}</h2>`,
      ...paragraphs.map((text) => `<p>${inline(text)}</p>`),
      list.length === 0 ? '' : `<ul>${list.map((item) => `<li>${inline(item)}</li>`).join('')}</ul>`,
    ].join('\n'),
  )
  const back = up === undefined ? '' : `<p><a href="${up}">All refusals</a></p>`
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><style>${STYLE}</style><h1>${title}</h1>${body.join('\n')}${back}</html>\n`
}

/** Path in the repository → the page: docs/refusals/, made by `npm run generate`. */
export function renderRefusalPages(): ReadonlyMap<string, string> {
  return new Map([
    ['docs/refusals/README.md', markdown(indexPage((subject) => `${subject}.md`))],
    ...SUBJECTS.map((subject): [string, string] => [
      `docs/refusals/${subject}.md`,
      `${markdown(pageAbout(subject))}\n[All refusals](README.md)\n`,
    ]),
  ])
}

/** HTML for a browser, Markdown for everything else. */
function served({ c }: Call, page: Page, up?: string): Response {
  const wantsHtml = c.req.header('accept')?.includes('text/html') === true
  return new Response(wantsHtml ? html(page, up) : markdown(page), {
    headers: {
      'Content-Type': `${wantsHtml ? 'text/html' : 'text/markdown'}; charset=utf-8`,
      'Cache-Control': 'public, max-age=3600',
      'Content-Security-Policy': POLICY,
      'X-Content-Type-Options': 'nosniff',
      Vary: 'Accept',
    },
  })
}

const page = (summary: string): Pick<Route, 'method' | 'access' | 'tag' | 'answers' | 'summary'> => ({
  method: 'GET',
  access: 'public',
  tag: 'Decisions',
  summary,
  answers: { 200: { description: 'The page', contentType: 'text/markdown' }, ...errorAnswers(404, 429, 503) },
})

export const refusalPageRoutes: readonly Route[] = [
  {
    ...page('Every reason for a refusal, as a page'),
    path: REFUSAL_PAGES,
    handle: (call) =>
      served(
        call,
        indexPage((subject) => `refusals/${subject}`),
      ),
  },
  {
    ...page('What one reason means, and what helps'),
    path: `${REFUSAL_PAGES}/:reason`,
    handle(call) {
      const subject = call.c.req.param('reason') ?? ''
      if (!isSubject(subject)) return refused(call, refuse('not_found', 'request').refusal)
      return served(call, pageAbout(subject), '../refusals')
    },
  },
]
