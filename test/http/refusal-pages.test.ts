/** Every way of saying no has its words and its page, in the repository and at the service. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { renderRefusalPages } from '../../src/http/refusal-pages.ts'
import { pageOf, refusalBody } from '../../src/http/refusal-response.ts'
import { REASONS } from '../../src/oauth/refusal.ts'
import { AT_TOOLS } from '../../src/oauth/refusals/at-tools.ts'
import { SUBJECTS, WORDS, wordsOf } from '../../src/oauth/refusals/all.ts'
import { NEXT_ACTIONS } from '../../src/oauth/refusals/words.ts'
import { filesUnder, ROOT } from '../../tools/files.ts'
import { type House, ISSUER, openHouse } from '../house.ts'

const PAGES = renderRefusalPages()

describe('the page of a refusal', () => {
  it.each(REASONS)('%s: is there, and a proven caller is led to it', (reason) => {
    const body = refusalBody({ reason, slot: 'request', proven: true }, ISSUER)
    expect(body.error_uri).toBe(`${ISSUER}/docs/refusals/${reason}`)
    expect(Object.keys(NEXT_ACTIONS)).toContain(body.next_action)
    const page = readFileSync(join(ROOT, 'docs/refusals', `${reason}.md`), 'utf8')
    expect(page.startsWith(`# ${reason}\n`)).toBe(true)
    const { says, means, agent, example } = WORDS[reason]
    for (const words of [means, agent]) expect(page).toContain(words)
    const plain = page.replaceAll('`', '').toLowerCase()
    for (const words of [says, example]) expect(plain).toContain(words.replaceAll('`', '').toLowerCase())
  })

  it('is what the code makes (npm run generate), for what only tools answer too, and none is left over', () => {
    for (const [path, text] of PAGES)
      expect(existsSync(join(ROOT, path)) && readFileSync(join(ROOT, path), 'utf8') === text, path).toBe(true)
    expect(filesUnder('docs/refusals', '.md')).toEqual([...PAGES.keys()].sort())
    for (const code of Object.keys(AT_TOOLS)) expect(PAGES.has(`docs/refusals/${code}.md`), code).toBe(true)
  })

  it('has words of its own: no two reasons share what they say, mean or show', () => {
    for (const part of ['says', 'means', 'example'] as const) {
      const said = SUBJECTS.map((subject) => wordsOf(subject)[part])
      expect(
        said.filter((text, at) => said.indexOf(text) !== at),
        part,
      ).toEqual([])
    }
  })

  it('is written in plain sentences, and no heading or markup can come out of a word', () => {
    for (const subject of SUBJECTS) {
      const { says, means, why, agent, operator, example, next } = wordsOf(subject)
      expect(says, subject).toMatch(/^[^A-Z][^.]*$/)
      expect(says, subject).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,300}$/) // RFC 6749 §5.2
      expect(next, subject).not.toMatch(/\.$/)
      for (const text of [means, why, agent, ...(operator === undefined ? [] : [operator])])
        expect(text, subject).toMatch(/^[A-Z`].*[.?]$/)
      for (const text of [means, why, agent, operator ?? '', example]) {
        expect(text.split('`').length % 2, `${subject}: ${text}`).toBe(1)
        expect(text.replace(/`[^`]*`/g, ''), subject).not.toMatch(/[<>*#[\]]|\n/)
      }
    }
  })

  it('is in the index, under the error that it is answered with', () => {
    const index = PAGES.get('docs/refusals/README.md')!
    for (const subject of SUBJECTS) expect(index.split(`(${subject}.md)`)).toHaveLength(2)
    for (const action of Object.keys(NEXT_ACTIONS)) {
      expect(index).toContain(`- \`${action}\`: `)
      const used = SUBJECTS.some((subject) => {
        const words = wordsOf(subject)
        return [words, ...Object.values(words.inSlot ?? {})].some((step) => step.action === action)
      })
      expect(used, `${action} is said by no reason`).toBe(true)
    }
    const target = index.slice(index.indexOf('## `invalid_target`'))
    expect(target.slice(0, target.indexOf('\n## '))).toContain('audience_denied')
  })
})

describe('at the service', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  it('is Markdown for programs and HTML for browsers, public, cached, and runs nothing', async () => {
    const path = new URL(pageOf(ISSUER, 'scope_not_granted')).pathname
    const text = await house.fetch('GET', path)
    expect(text.headers.get('content-type')).toBe('text/markdown; charset=utf-8')
    expect(`${text.text}\n[All refusals](README.md)\n`).toBe(PAGES.get('docs/refusals/scope_not_granted.md'))
    const html = await house.fetch('GET', path, { headers: { accept: 'text/html,*/*;q=0.8' } })
    expect(html.headers.get('content-type')).toBe('text/html; charset=utf-8')
    for (const { status, headers } of [text, html]) {
      expect(status).toBe(200)
      expect(headers.get('cache-control')).toBe('public, max-age=3600')
      expect(headers.get('content-security-policy')).toMatch(
        /^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]+=*'; /,
      )
      expect(headers.get('x-content-type-options')).toBe('nosniff')
      expect(headers.get('vary')).toBe('Accept')
    }
    expect(html.text).toContain('<h1>scope_not_granted</h1>')
    expect(html.text).toContain('<code>errand explain &#60;decision_id&#62;</code>')
    expect(html.text).not.toMatch(/<script|<img|javascript:| on[a-z]+=/i)
  })

  it('is found from the index, by links that work below any issuer', async () => {
    const index = await house.fetch('GET', '/docs/refusals', { headers: { accept: 'text/html' } })
    const links = [...index.text.matchAll(/href="([^"]+)"/g)].map(
      ([, href]) => new URL(href!, `${ISSUER}/docs/refusals`),
    )
    expect(links).toHaveLength(SUBJECTS.length)
    for (const { pathname } of [links[0]!, links.at(-1)!]) expect((await house.fetch('GET', pathname)).status).toBe(200)
    const page = await house.fetch('GET', links[0]!.pathname, { headers: { accept: 'text/html' } })
    const [, up] = /href="([^"]+)">All refusals/.exec(page.text)!
    expect(new URL(up!, links[0]).pathname).toBe('/docs/refusals')
  })

  it('of what is no reason is not there', async () => {
    for (const name of ['nothing', '__proto__', 'constructor', 'README.md', 'toString']) {
      expect((await house.fetch('GET', `/docs/refusals/${name}`)).status, name).toBe(404)
    }
  })
})
