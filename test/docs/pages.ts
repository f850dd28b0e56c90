/** The pages a user reads, cut into what can be checked: fenced blocks with their marks, links, words. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { filesUnder, ROOT } from '../../tools/files.ts'

export interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  /** What follows the language on the fence: `run`, `exit=1`, `cwd=mine`, `file=config/tools/notes.yaml`, … */
  readonly marks: readonly string[]
  readonly text: string
  /** TypeScript that stands before the block in an HTML comment: what it takes for granted. */
  readonly prelude: string
}

export const markOf = ({ marks }: Block, name: string): string | undefined =>
  marks.find((mark) => mark.startsWith(`${name}=`))?.slice(name.length + 1)

export const PAGES: readonly string[] = ['README.md', ...filesUnder('docs', '.md')]
export const textOf = (page: string): string => readFileSync(join(ROOT, page), 'utf8')

export function blocksOf(page: string): readonly Block[] {
  const blocks: Block[] = []
  let prelude = ''
  let comment: string[] | undefined
  let open: { line: number; fence: string; info: string; lines: string[] } | undefined
  for (const [index, line] of textOf(page).split('\n').entries()) {
    if (open) {
      if (line !== open.fence) {
        open.lines.push(line)
        continue
      }
      const [language = '', ...marks] = open.info.split(' ').filter((word) => word !== '')
      blocks.push({ page, line: open.line, language, marks, text: `${open.lines.join('\n')}\n`, prelude })
      open = undefined
      prelude = ''
    } else if (comment) {
      if (line !== '-->') comment.push(line)
      else {
        prelude = comment.join('\n')
        comment = undefined
      }
    } else if (line === '<!-- ts') comment = []
    else {
      const fence = /^(`{3,})(.*)$/.exec(line)
      if (fence) open = { line: index + 1, fence: fence[1]!, info: fence[2]!, lines: [] }
    }
  }
  if (open || comment) throw new Error(`${page}: a fence or a comment does not end`)
  return blocks
}

/** Targets of links, with the line they stand in; what stands in code is none. */
export function linksOf(page: string): readonly { readonly target: string; readonly line: number }[] {
  let fenced = false
  return textOf(page)
    .split('\n')
    .flatMap((line, index) => {
      if (line.startsWith('```')) fenced = !fenced
      if (fenced) return []
      const prose = line.replace(/`[^`]*`/g, '')
      const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g), ...prose.matchAll(/^\[[^\]]+\]: (\S+)/g)]
      return targets.map(([, target]) => ({ target: target!, line: index + 1 }))
    })
}

/** GitHub's anchors of a page's headings. */
export const anchorsOf = (text: string): ReadonlySet<string> =>
  new Set(
    [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replace(/\s/g, '-'),
    ),
  )
