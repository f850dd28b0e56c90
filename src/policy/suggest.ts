/** Finds what a misspelt word was probably meant to be. */

/** Words longer than this are not compared: the distance costs length squared, and nobody misspells a page. */
const MAX_LENGTH = 128

/** Shorter beginnings than this are no abbreviation. */
const MIN_PREFIX = 3

/** The candidate nearest to `word`, where it is near enough to be a slip of the fingers, or the one it abbreviates. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length > MAX_LENGTH) return undefined
  const all = [...candidates]
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of all) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best ?? abbreviated(word, all)
}

/** `dev` is `development`, where nothing else begins so. */
function abbreviated(word: string, candidates: readonly string[]): string | undefined {
  if (word.length < MIN_PREFIX) return undefined
  const begun = new Set(candidates.filter((one) => one.toLowerCase().startsWith(word.toLowerCase())))
  return begun.size === 1 ? [...begun][0] : undefined
}

export const didYouMean = (word: string, candidates: Iterable<string>): { suggestion?: string } => {
  const match = nearest(word, candidates)
  return match === undefined ? {} : { suggestion: `did you mean ${JSON.stringify(match)}?` }
}

/** Levenshtein distance where a swap of neighbours counts as one. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, beforeLast[j - 2]! + 1)
      row.push(cost)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}
