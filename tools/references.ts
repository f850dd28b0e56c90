/** Puts what is made from the code between the markers of a page, and leaves the page's own words alone. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Route } from '../src/http/route.ts'
import { renderCliReference } from './cli-reference.ts'
import { renderConfigurationReference } from './configuration-reference.ts'
import { ROOT } from './files.ts'
import { renderEndpoints, renderErrorMap } from './http-reference.ts'

function withMade(page: string, name: string, made: string): string {
  const begin = `<!-- made from the code: ${name} -->`
  const end = `<!-- end of ${name} -->`
  const from = page.indexOf(begin)
  const to = page.indexOf(end)
  if (from < 0 || to < from) throw new Error(`the page has no place for ${name}: ${begin} … ${end}`)
  return `${page.slice(0, from + begin.length)}\n\n${made}\n\n${page.slice(to)}`
}

/** Path → the page as it should be. */
export async function renderReferences(routes: readonly Route[]): Promise<ReadonlyMap<string, string>> {
  const page = (path: string) => readFileSync(join(ROOT, path), 'utf8')
  return new Map([
    ['docs/cli.md', withMade(page('docs/cli.md'), 'verbs', await renderCliReference())],
    ['docs/configuration.md', withMade(page('docs/configuration.md'), 'keys', renderConfigurationReference())],
    [
      'docs/http.md',
      withMade(withMade(page('docs/http.md'), 'endpoints', renderEndpoints(routes)), 'error map', renderErrorMap()),
    ],
  ])
}
