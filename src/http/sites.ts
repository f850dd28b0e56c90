/** Which issuer a request is for: each tenant has one, by host or by path, and the service's own takes the rest. */
import type { App } from './app.ts'
import type { Gate } from './gate.ts'

export interface Site {
  /** Empty for the service's own. */
  readonly name: string
  readonly issuer: string
  readonly app: App
  /** URL under which clients know it: what a DPoP proof's `htu` begins with. */
  readonly base: string
  readonly mtlsBase?: string
  readonly gate?: Gate
  /** A request that never reached its app. */
  onTurnedAway?(peer: string, reason: 'overloaded' | 'quota_exceeded'): void
}

export interface Placed {
  readonly site: Site
  /** The request target as that issuer sees it: without the path of its name. */
  readonly target: string
}

export type Place = (host: string | undefined, target: string) => Placed

interface Known {
  readonly site: Site
  readonly host: string
  /** `/t/acme`, or empty. */
  readonly path: string
}

const known = (site: Site): Known => {
  const { host, pathname } = new URL(site.issuer)
  return { site, host, path: pathname === '/' ? '' : pathname }
}

/** RFC 8414 §3.1: between host and path of the issuer; the OpenID form, behind the path, is a path like any other. */
const INSERTED = /^(\/\.well-known\/[a-z-]+)(\/.*)?$/

export function createPlace(own: Site, tenants: () => readonly Site[]): Place {
  let read: readonly Site[] | undefined
  let byPath: readonly Known[] = []
  let byHost = new Map<string, Site>()
  const home = known(own)

  return (host, target) => {
    const now = tenants()
    if (now !== read) {
      read = now
      const all = now.map(known)
      // The longer name first: /t/acme/labs is not /t/acme.
      byPath = all.filter(({ path }) => path !== '').sort((a, b) => b.path.length - a.path.length)
      byHost = new Map(all.filter(({ path }) => path === '').map((each) => [each.host, each.site]))
    }
    const authority = host?.toLowerCase()
    const matches = (each: Known): Placed | undefined => {
      const rest = behind(each.path, target)
      return rest === undefined ? undefined : { site: each.site, target: rest }
    }
    // A proxy in front may have put its own host there: then the path decides.
    for (const sameHost of [true, false]) {
      for (const each of byPath) {
        if ((each.host === authority) !== sameHost) continue
        const placed = matches(each)
        if (placed) return placed
      }
    }
    const named = authority === undefined ? undefined : byHost.get(authority)
    if (named) return { site: named, target }
    return (home.path === '' ? undefined : matches(home)) ?? { site: own, target }
  }
}

/** The target below `path`; undefined where it is not below it. */
function behind(path: string, target: string): string | undefined {
  if (target === path) return '/'
  if (target.startsWith(path) && (target[path.length] === '/' || target[path.length] === '?')) {
    return target[path.length] === '?' ? `/${target.slice(path.length)}` : target.slice(path.length)
  }
  const end = target.search(/[?#]/)
  const inserted = INSERTED.exec(end < 0 ? target : target.slice(0, end))
  return inserted?.[2] === path ? `${inserted[1]}${end < 0 ? '' : target.slice(end)}` : undefined
}
