/**
 * The tenants of a service: each a set of rooms of its own, opened beside the others. The rooms know nothing of
 * tenants. What keeps one from opening is told of it alone, and no other waits for it.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ServiceSettings } from './config/settings.ts'
import {
  issuerConflict,
  placesOfTenant,
  quotaOf,
  type TenantPlaces,
  TENANTS_FOLDER,
  tenantNames,
} from './config/tenants.ts'
import { watchFiles } from './config/watch-files.ts'
import { createGate } from './http/gate.ts'
import type { TenantStatus } from './http/deps.ts'
import type { Site } from './http/sites.ts'

/** The rooms of one tenant, as far as they are looked at from here. */
export interface TenantRooms {
  readonly app: Site['app']
  readonly url: string
  readonly mtlsUrl?: string
  readonly issuer: string
  onTurnedAway: NonNullable<Site['onTurnedAway']>
  reload(): Promise<boolean>
  stop(): void
  close(): Promise<void>
}

export interface Tenants {
  readonly sites: () => readonly Site[]
  readonly all: () => readonly TenantStatus[]
  /** Reads everything anew, of all of them. */
  reload(): Promise<void>
  stop(): void
  close(): Promise<void>
}

export interface TenantsDeps {
  readonly places: TenantPlaces
  /** The service's own settings, as they are in force. */
  readonly settings: () => ServiceSettings
  readonly open: (name: string, places: TenantPlaces) => Promise<TenantRooms>
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly onRefused: (name: string, error: unknown) => void
  readonly onMoved: (name: string, to: 'serving' | 'closed') => void
}

interface Open {
  readonly rooms: TenantRooms
  readonly site: Site
  readonly dataDir: string
  dataMib: number
}

const QUIET_MS = 200
const MEASURE_EVERY_MS = 10_000

export async function openTenants(deps: TenantsDeps): Promise<Tenants> {
  const { places, settings } = deps
  const open = new Map<string, Open>()
  const refused = new Map<string, string>()
  let sites: readonly Site[] = []
  let closed = false
  let turn: Promise<unknown> = Promise.resolve()

  async function openOne(name: string): Promise<void> {
    const own = placesOfTenant(places, name)
    try {
      const rooms = await deps.open(name, own)
      const others = [...open].map(([other, { rooms }]) => ({ name: other, issuer: rooms.issuer }))
      const conflict = issuerConflict(rooms.issuer, settings().issuer, others)
      if (conflict !== undefined) {
        await rooms.close()
        throw Object.assign(new Error(conflict), { code: 'config_rejected' })
      }
      const here: Open = { rooms, site: siteOf(name, rooms, () => here.dataMib), dataDir: own.dataDir, dataMib: 0 }
      here.dataMib = await mebibytesIn(own.dataDir)
      open.set(name, here)
      refused.delete(name)
      deps.onMoved(name, 'serving')
    } catch (error) {
      refused.set(name, error instanceof Error ? error.message : 'unknown cause')
      deps.onRefused(name, error)
    }
  }

  const siteOf = (name: string, rooms: TenantRooms, dataMib: () => number): Site => ({
    name,
    issuer: rooms.issuer,
    app: rooms.app,
    base: rooms.url,
    ...(rooms.mtlsUrl === undefined ? {} : { mtlsBase: rooms.mtlsUrl }),
    gate: createGate({
      quota: () => quotaOf(settings(), name),
      full: () => dataMib() >= quotaOf(settings(), name).maxDataMib,
      monotonic: deps.monotonic,
    }),
    onTurnedAway: (peer, reason) => rooms.onTurnedAway(peer, reason),
  })

  async function look(): Promise<void> {
    const names = await tenantNames(places.configDir)
    for (const [name, { rooms }] of open) {
      if (names.includes(name)) continue
      open.delete(name)
      sites = [...open.values()].map(({ site }) => site)
      rooms.stop()
      await rooms.close().catch((error: unknown) => deps.onRefused(name, error))
      deps.onMoved(name, 'closed')
    }
    for (const name of refused.keys()) if (!names.includes(name)) refused.delete(name)
    for (const name of names) {
      if (closed || open.has(name)) continue
      await openOne(name)
      sites = [...open.values()].map(({ site }) => site)
    }
  }
  const sync = (): Promise<void> => {
    const next = turn.then(() => (closed ? undefined : look()))
    turn = next.catch(() => undefined)
    return next
  }
  await sync()

  let quiet: NodeJS.Timeout | undefined
  const changed = () => {
    clearTimeout(quiet)
    quiet = setTimeout(() => void sync().catch((error: unknown) => deps.onRefused('', error)), QUIET_MS)
    quiet.unref()
  }
  const watching = [places.configDir, places.keysDir].map((dir) => watchFiles(join(dir, TENANTS_FOLDER), changed))
  const measuring = setInterval(() => {
    for (const each of open.values()) {
      void mebibytesIn(each.dataDir).then((size) => {
        each.dataMib = size
      })
    }
  }, MEASURE_EVERY_MS)
  measuring.unref()

  return {
    sites: () => sites,
    all: () =>
      [
        ...[...open].map(([name, { rooms, dataMib }]) => ({
          name,
          state: 'serving' as const,
          issuer: rooms.issuer,
          dataMib,
          quota: quotaOf(settings(), name),
        })),
        ...[...refused].map(([name, problems]) => ({
          name,
          state: 'refused' as const,
          problems,
          quota: quotaOf(settings(), name),
        })),
      ].sort((a, b) => (a.name < b.name ? -1 : 1)),
    async reload() {
      await sync()
      await Promise.all([...open.values()].map(({ rooms }) => rooms.reload()))
    },
    stop() {
      for (const { rooms } of open.values()) rooms.stop()
    },
    async close() {
      closed = true
      clearTimeout(quiet)
      clearInterval(measuring)
      for (const stop of watching) stop()
      await turn
      await Promise.all([...open.values()].map(({ rooms }) => rooms.close()))
    },
  }
}

/** Of all files below `folder`, rounded to a hundredth. */
async function mebibytesIn(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0, // gone since
        ),
      ),
  )
  return Math.round((sizes.reduce((sum, size) => sum + size, 0) / 1_048_576) * 100) / 100
}
