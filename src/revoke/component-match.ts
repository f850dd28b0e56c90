/** How a match by component stands in the log, which knows what tokens carry. */
import type { HopFacts } from '@errand/verifier/shapes.ts'

/** In the log it stands as a release of this name, which no release has: an id has no colon in it. */
const COMPONENT = 'component:'

export type Match = HopFacts & { readonly component?: string }

export const matchInLog = ({ component, ...match }: Match): HopFacts =>
  component === undefined ? match : { ...match, release: `${COMPONENT}${component}` }

export function componentOf({ release }: HopFacts): string | undefined {
  return release?.startsWith(COMPONENT) ? release.slice(COMPONENT.length) : undefined
}

/** As it was asked for. */
export function shownMatch(match: HopFacts): Match {
  const component = componentOf(match)
  if (component === undefined) return match
  const { release: _, ...rest } = match
  return { component, ...rest }
}
