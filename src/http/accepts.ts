/** What media types a request takes (RFC 9110 §12.5.1). */

export interface Acceptance {
  /** 0: not taken. */
  readonly quality: number
  /** By its own name, and not by a wildcard. */
  readonly named: boolean
}

const QUALITY = /^q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/i

/** How much this type is wanted; the range that names it most exactly decides. Without the field everything is taken. */
export function acceptanceOf(accept: string | undefined, type: string): Acceptance {
  if (accept === undefined || accept.trim() === '') return { quality: 1, named: false }
  const [main] = type.split('/')
  const ranges = ['*/*', `${main}/*`, type]
  let best = { rank: -1, quality: 0 }
  for (const range of accept.split(',')) {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim())
    const rank = ranges.indexOf(name.toLowerCase())
    if (rank < 0 || rank < best.rank) continue
    const weight = parameters.map((each) => QUALITY.exec(each)?.[1]).find((each) => each !== undefined)
    best = { rank, quality: weight === undefined ? 1 : Number(weight) }
  }
  return { quality: best.quality, named: best.rank === 2 }
}
