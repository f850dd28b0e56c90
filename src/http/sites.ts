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
  /** Of its issuer, and of the mTLS listener: that one has a port of its own. */
  readonly hosts: readonly string[]
  /** `/t/acme`, or empty. */
  readonly path: string
}

const known = (site: Site): Known => {
  const { host, pathname } = new URL(site.issuer)
  const hosts = site.mtlsBase === undefined ? [host] : [host, new URL(site.mtlsBase).host]
  return { site, hosts, path: pathname === '/' ? '' : pathname }
}

/** RFC 9112 §3.2.2: a target may be a whole URL, and then its host counts and the Host field does not. */
const WHOLE_URL = /^https?:\/\/([^/?#]*)(.*)$/is

/** RFC 8414 §3.1: between host and path of the issuer; the OpenID form, behind the path, is a path like any other. */
const INSERTED = /^(\/\.well-known\/[a-z-]+)(\/.*)?$/

export function createPlace(own: Site, tenants: () => readonly Site[]): Place {
  let read: readonly Site[] | undefined
  let byPath: readonly Known[] = []
  let byHost = new Map<string, Site>()
  const home = known(own)

  return (field, asked) => {
    const now = tenants()
    if (now !== read) {
      read = now
      const all = now.map(known)
      // The longer name first: /t/acme/labs is not /t/acme. Of one name, the service's own.
      byPath = [home, ...all].filter(({ path }) => path !== '').sort((a, b) => b.path.length - a.path.length)
      byHost = sitesByHost(
        all.filter(({ path }) => path === ''),
        home,
      )
    }
    const whole = asked.startsWith('/') ? null : WHOLE_URL.exec(asked)
    const authority = (whole ? whole[1] : field)?.toLowerCase()
    const target = whole ? whole[2]!.replace(/^(?!\/)/, '/') : asked
    const found = (sameHost: boolean): Placed | undefined => {
      for (const { site, hosts, path } of byPath) {
        if ((authority !== undefined && hosts.includes(authority)) !== sameHost) continue
        const rest = behind(path, target)
        if (rest !== undefined) return { site, target: rest }
      }
      return undefined
    }
    const here = found(true)
    if (here) return here
    const named = authority === undefined ? undefined : byHost.get(authority)
    if (named) return { site: named, target }
    // A proxy in front may have put its own host there: then the path decides.
    return found(false) ?? { site: own, target }
  }
}

/** A host that two have, as ports apart they may on the mTLS listener, says of neither that it is meant. */
function sitesByHost(all: readonly Known[], home: Known): Map<string, Site> {
  const owners = all.flatMap(({ site, hosts }) => [...new Set(hosts)].map((host) => ({ site, host })))
  const taken = (host: string) => home.hosts.includes(host) && home.path === ''
  return new Map(
    owners
      .filter(({ host }) => !taken(host) && owners.filter((other) => other.host === host).length === 1)
      .map(({ site, host }) => [host, site]),
  )
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
