/** The copies of the audit log that the configuration names, each followed by itself. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AuditEvent, AuditRecord, EventType } from './audit/log.ts'
import { type Mirror, type MirroredRecord, type MirrorSink, openMirror } from './audit/mirror.ts'
import { toOcsf } from './audit/ocsf.ts'
import { syslogFrame } from './audit/syslog-message.ts'
import { createGuardedRequest, guardedLookup } from './config/guarded-request.ts'
import { type MirrorSettings, mayReach } from './config/read-mirrors.ts'
import { every } from './every.ts'
import { Unavailable } from './oauth/refusal.ts'
import type { RoomDeps } from './rooms.ts'
import { createFileSink, createStreamSink } from './store/mirrors/file.ts'
import { createHttpSink } from './store/mirrors/http.ts'
import { createMirrorPosition } from './store/mirrors/position.ts'
import { createSyslogSink } from './store/mirrors/syslog.ts'

interface Deps extends Pick<RoomDeps, 'holder' | 'log' | 'dataDir' | 'logger' | 'monotonic' | 'closing'> {
  readonly onFault: (error: unknown, where: string) => void
}

const EVERY_MS = 250
/** What a record of these announces must not be while a mirror holds it. */
const ISSUING: readonly EventType[] = ['token.issuing', 'token.reissued', 'task.opened', 'agent.joining']

const LINES = {
  json: ({ payload }: MirroredRecord) => payload.toString('utf8'),
  ocsf: ({ payload }: MirroredRecord) => JSON.stringify(toOcsf(JSON.parse(payload.toString('utf8')) as AuditRecord)),
} as const

export async function openMirrors({ holder, log, dataDir, logger, monotonic, closing, onFault }: Deps) {
  const { settings } = holder.current()
  const mirrors: Mirror[] = []
  for (const wanted of settings.audit.mirrors) {
    const { name, maxBehind, onFailure } = wanted
    const mirror = await openMirror({
      name,
      maxBehind,
      refuses: onFailure === 'refuse',
      log,
      sink: sinkOf(wanted, {
        logId: log.logId,
        host: new URL(settings.issuer).hostname,
        development: settings.mode === 'development',
        mayWrite: () => log.healthy(),
      }),
      position: createMirrorPosition(join(dataDir, 'mirrors'), name, log.logId),
      monotonic,
      onChange: ({ problem, behind, overdue, holds }) => {
        const state = { mirror: name, behind, overdue, holds, ...(problem === undefined ? {} : { problem }) }
        if (problem === undefined && !overdue) logger.info(state, 'the mirror of the audit log takes records again')
        else logger.error(state, 'the mirror of the audit log is behind')
      },
    })
    mirrors.push(mirror)
    const stop = every(EVERY_MS, mirror.run, (error) => onFault(error, 'mirror'))
    closing.push(async () => {
      await stop()
      await mirror.close()
    })
  }

  const holding = (): Unavailable | undefined =>
    mirrors.some((mirror) => mirror.state().holds)
      ? new Unavailable('audit_mirror_behind', 'a mirror of the audit log is too far behind')
      : undefined
  return {
    mirrors: () => mirrors.map((mirror) => mirror.state()),
    holding,
    /** Why it must not be recorded: what it announces would be issued. */
    announcesTooEarly: ({ type }: AuditEvent) => (ISSUING.includes(type) ? holding() : undefined),
  }
}

function sinkOf(
  wanted: MirrorSettings,
  {
    logId,
    host,
    development,
    mayWrite,
  }: { readonly logId: string; readonly host: string; readonly development: boolean; readonly mayWrite: () => boolean },
): MirrorSink {
  const line = LINES[wanted.format]
  switch (wanted.to) {
    case 'file':
      return createFileSink(wanted.path, line, mayWrite)
    case 'stdout':
      return createStreamSink(process.stdout, line)
    case 'syslog': {
      const { port, tls, caFile } = wanted
      const lookup = guardedLookup(mayReach(wanted, development))
      const ca = caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }
      return createSyslogSink({ host: wanted.host, port, lookup, ...(tls ? { tls: ca } : {}) }, (record) =>
        syslogFrame(record.payload, line(record), { host }),
      )
    }
    case 'http': {
      const { url: uri, bearerFile, caFile } = wanted
      return createHttpSink({
        uri,
        logId,
        line,
        post: createGuardedRequest({ development, privately: wanted.private }),
        ...(bearerFile === undefined ? {} : { bearerFile }),
        ...(caFile === undefined ? {} : { authorities: certificatesIn(readFileSync(caFile, 'utf8')) }),
      })
    }
  }
}

const certificatesIn = (pem: string): readonly Uint8Array[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (each) => new X509Certificate(each).raw,
  )
