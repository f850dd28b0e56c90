/**
 * Revocation by a component of releases. No token says what its release is made of: so the revocation itself kills
 * nothing, and stands for one by release for each that has the component: those that are known when it is made, and,
 * while its ban stands, each that is registered later, before anything is issued to it.
 */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { createHash } from 'node:crypto'
import { namesComponent } from '../attest/release-manifest.ts'
import type { AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import { componentOf } from './component-match.ts'
import type { KnownRelease, KnownReleases } from './known-releases.ts'
import type { Preview, PreviewOf } from './preview.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'
import type { Revoke } from './revoke.ts'

export interface ComponentsDeps {
  readonly now: () => number
  readonly log: Pick<RevocationLog, 'get' | 'bans' | 'onAdded'>
  readonly releases: KnownReleases
  readonly revoke: Revoke
  readonly audit: Pick<AuditLog, 'append'>
  readonly onUnrecorded?: (type: string) => void
  /** For what is done because another replica revoked. */
  readonly onError: (error: unknown) => void
}

export interface Components {
  /** The same, also by component. */
  readonly revoke: Revoke
  /** To be awaited before any of them is used. */
  registered(releases: readonly KnownRelease[]): Promise<void>
  /** Does what is left to do of what failed midway. */
  settle(): Promise<void>
  /** A preview that also looks at what a component stands for. */
  previewing(preview: PreviewOf): PreviewOf
  close(): void
}

export function createComponents(deps: ComponentsDeps): Components {
  const { now, log, releases, revoke } = deps
  /** Registered here, and held against what stood then. A store that lost something need not know them. */
  const settled = new Map<string, KnownRelease>()
  /** Made by this process: nobody else has to be asked what they stand for. */
  const own = new Set<string>()
  /** What failed midway is done again until it is done. */
  const unfinished = new Map<string, Revocation>()

  async function releasesOf(match: HopFacts): Promise<readonly KnownRelease[]> {
    const found = new Map<string, KnownRelease>()
    for await (const release of releases.all()) if (stands(match, release)) found.set(release.id, release)
    for (const release of settled.values()) if (stands(match, release)) found.set(release.id, release)
    return [...found.values()]
  }

  const standing = async (): Promise<readonly Revocation[]> =>
    (await log.bans(now())).filter((entry) => componentOf(entry.match) !== undefined && entry.before === undefined)

  const partsOf = async (id: string): Promise<readonly Revocation[]> =>
    (await log.bans(now())).filter(({ partOf }) => partOf === id)

  const expand: typeof expandOnce = async (whole, ...rest) => {
    try {
      return await expandOnce(whole, ...rest)
    } catch (error) {
      unfinished.set(whole.id, whole)
      throw error
    }
  }

  /** One by release for each; `late`: what is there already was done when it was made. */
  async function expandOnce(
    whole: Revocation,
    of: readonly KnownRelease[],
    { late, correlation }: { readonly late: boolean; readonly correlation?: string | undefined },
  ): Promise<readonly string[]> {
    const tasks: string[] = []
    const made: { readonly release: string; readonly entry: string }[] = []
    const before = whole.before ?? (whole.mode === 'cut' ? whole.epoch : undefined)
    const one = async ({ id: release }: KnownRelease): Promise<void> => {
      const id = partIdOf(whole.id, release)
      if (late && (await log.get(id))) return
      const done = await revoke.byMatch({
        id,
        partOf: whole.id,
        match: { ...whole.match, release },
        mode: whole.mode,
        reason: whole.reason,
        by: whole.by,
        ...(whole.confirmedBy === undefined ? {} : { confirmedBy: whole.confirmedBy }),
        ...(whole.taken ? { taken: whole.taken } : {}),
        ...(before === undefined ? {} : { before }),
        ...(correlation === undefined ? {} : { correlation }),
      })
      if (done.added || !late) made.push({ release, entry: id })
      tasks.push(...done.tasks)
    }
    // Beside one another: one sync serves many.
    for (let at = 0; at < of.length; at += AT_ONCE) {
      const steps = await Promise.allSettled(of.slice(at, at + AT_ONCE).map(one))
      for (const step of steps) if (step.status === 'rejected') throw step.reason
    }
    if (made.length > 0) await told(whole, made, correlation)
    // Lifted meanwhile: what was kept out after that would be kept out for ever.
    const lifted = (await log.get(whole.id))?.readmitted
    if (lifted) await lift(whole.id, lifted.by, lifted.reason, correlation)
    return [...new Set(tasks)]
  }

  /** What each stands for is in its own record; this one is how a receipt finds them. */
  async function told(
    { id, by, match }: Revocation,
    made: readonly { readonly release: string; readonly entry: string }[],
    correlation: string | undefined,
  ): Promise<void> {
    try {
      for (let at = 0; at < made.length; at += RELEASES_A_RECORD) {
        const some = made.slice(at, at + RELEASES_A_RECORD)
        await deps.audit.append({
          type: 'revocation.expanded',
          cause: id,
          by,
          ...(correlation === undefined ? {} : { correlation }),
          details: {
            component: componentOf(match) ?? '',
            releases: some.map(({ release }) => release),
            entries: some.map(({ entry }) => entry),
          },
        })
      }
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error
      deps.onUnrecorded?.('revocation.expanded')
    }
  }

  async function lift(id: string, by: string, reason: string, correlation?: string): Promise<readonly string[]> {
    const awake: string[] = []
    for (const part of await partsOf(id)) {
      if (part.mode === 'suspend') awake.push(...((await revoke.resume(part.id, by, reason, correlation)) ?? []))
      else await revoke.readmit(part.id, by, reason, correlation)
    }
    return awake
  }

  /** While the whole stands it is kept by it: what is registered again would be kept out again. */
  async function isHeld(id: string): Promise<boolean> {
    const whole = (await log.get(id))?.partOf
    return whole !== undefined && (await log.bans(now())).some((ban) => ban.id === whole)
  }

  const stopHearing = log.onAdded((entry) => {
    if (componentOf(entry.match) === undefined || own.has(entry.id)) return
    // Of another replica, which may not have read what is registered here: see `registered`.
    releasesOf(entry.match)
      .then((of) => expand(entry, of, { late: true }))
      .catch(deps.onError)
  })

  return {
    revoke: {
      ...revoke,
      async byMatch(request) {
        if (componentOf(request.match) === undefined) return revoke.byMatch(request)
        const id = request.id ?? newId('rev')
        own.add(id)
        try {
          const done = await revoke.byMatch({ ...request, id })
          const { entry } = done
          if (done.another || entry.readmitted) return done
          const of = await releasesOf(entry.match)
          const tasks = await expand(entry, of, { late: false, correlation: request.correlation })
          return { ...done, tasks, releases: of.map((release) => release.id) }
        } finally {
          own.delete(id)
        }
      },
      async readmit(id, by, reason, correlation) {
        if (await isHeld(id)) return false
        const done = await revoke.readmit(id, by, reason, correlation)
        // Also where it was lifted before, and a stop came in between.
        if ((await log.get(id))?.readmitted) await lift(id, by, reason, correlation)
        return done
      },
      async resume(id, by, reason, correlation) {
        if (await isHeld(id)) return undefined
        const done = await revoke.resume(id, by, reason, correlation)
        if (!done) return undefined
        return [...new Set([...done, ...(await lift(id, by, reason, correlation))])]
      },
      async finish() {
        await revoke.finish()
        for (const whole of await standing()) await expand(whole, await releasesOf(whole.match), { late: true })
      },
    },
    async registered(all) {
      const fresh = all.filter(({ id }) => !settled.has(id))
      if (fresh.length === 0) return
      // Noted first: whoever revokes after this finds them, and what was revoked before is found here.
      await releases.note(fresh)
      for (const whole of await standing())
        await expand(
          whole,
          fresh.filter((release) => stands(whole.match, release)),
          { late: true },
        )
      for (const release of fresh) settled.set(release.id, release)
    },
    async settle() {
      for (const whole of [...unfinished.values()]) {
        await expand(whole, await releasesOf(whole.match), { late: false })
        unfinished.delete(whole.id)
      }
    },
    previewing: (preview) => async (match, mode) => {
      if (componentOf(match) === undefined) return preview(match, mode)
      const of = await releasesOf(match)
      const previews = await Promise.all(of.map(({ id }) => preview({ ...match, release: id }, mode)))
      return together(await preview(match, mode), previews, of)
    },
    close: stopHearing,
  }
}

const AT_ONCE = 50
/** A record has room for so many names many times over. */
const RELEASES_A_RECORD = 500

/** The same release for the same revocation is the same entry, whoever makes it. */
const partIdOf = (whole: string, release: string): string =>
  `rev_${createHash('sha256').update(`${whole} ${release}`).digest('base64url').slice(0, 22)}`

/** Whether a match by component stands for this release. */
function stands(match: HopFacts, { agent, components }: KnownRelease): boolean {
  const component = componentOf(match)
  if (component === undefined || (match.client_id !== undefined && match.client_id !== agent)) return false
  return components.some((each) => namesComponent(each, component))
}

function together(none: Preview, of: readonly Preview[], releases: readonly KnownRelease[]): Preview {
  const union = (read: (one: Preview) => Iterable<string>) => new Set(of.flatMap((one) => [...read(one)]))
  const latest = Math.max(0, ...of.map(({ live }) => live.latestExpiry ?? 0))
  return {
    effect: of[0]?.effect ?? none.effect,
    tasks: [...union(({ tasks }) => tasks)],
    complete: of.every(({ complete }) => complete),
    subjects: union(({ subjects }) => subjects),
    agents: union(({ agents }) => agents),
    audiences: union(({ audiences }) => audiences),
    live: {
      ...none.live,
      count: of.reduce((sum, { live }) => sum + live.count, 0),
      // What descends from two of them is counted for each.
      exact: of.length <= 1 && of.every(({ live }) => live.exact),
      ...(latest === 0 ? {} : { latestExpiry: latest }),
    },
    releases: releases.map(({ id }) => id),
  }
}
